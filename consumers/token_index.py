"""Who is meant by a token: a host cannot turn one back, so it derives those of all whom it knows, for each guest."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from streams.features import FeatureSource, FeatureSourceError
from streams.kernels.scorecard import name_person

_log = logging.getLogger(__name__)

#: How often a source is asked for its ids that says nothing about it.
REFRESH_SECONDS = 60.0
#: How long after its making an index lets lookups wait for the first list; then they fail at once.
FIRST_SECONDS = 1.0
#: Pause after a list that could not be had.
RETRY_SECONDS = 5.0


@runtime_checkable
class GrowingSource(Protocol):
    """A source that tells who became known since it was last asked."""

    def ids_after(self, position: int) -> tuple[list[str], int]:
        """Who became known after `position` (0: everybody), and the position to ask from next time."""
        ...


class _Tokens:
    """The tokens of one guest. Two ids with one token are nobody: no guess is better than the other."""

    def __init__(self, key: bytes, normalise: Callable[[str], str]) -> None:
        self._key, self._normalise = key, normalise
        self.found: dict[bytes, str | None] = {}
        self.position = 0

    def add(self, ids: Iterable[str]) -> None:
        ambiguous = 0
        for known in ids:
            try:
                token = name_person(self._key, self._normalise(known))
            except ValueError:
                # The id has no normal form, so nobody can ask about it.
                continue
            if self.found.setdefault(token, known) != known:
                self.found[token] = None
                ambiguous += 1
        if ambiguous:
            _log.error(
                "%d identifiers are equal to another's after normalisation, and nobody can ask about either", ambiguous
            )


class TokenIndex:
    """Finds persons by token. Any thread may call it. The token of somebody who was deleted stays."""

    def __init__(
        self,
        source: FeatureSource,
        key_of_guest: Callable[[str], bytes],
        normalise: Callable[[str], str],
        refresh_seconds: float | None = None,
    ) -> None:
        """`key_of_guest` gives the key of the guest's tokens; `normalise` is that of the model's id type.

        A source that tells its changes is asked at each lookup, at no cost; from others the whole list is fetched every
        `refresh_seconds` (by default as often as the source's own settings say) in a thread.
        """
        self._key_of_guest, self._normalise = key_of_guest, normalise
        self._growing = source if isinstance(source, GrowingSource) else None
        self._source = source
        own = getattr(source, "refresh_seconds", REFRESH_SECONDS)
        self._seconds: float = own if refresh_seconds is None else refresh_seconds
        self._lock = threading.Lock()
        self._guests: dict[str, _Tokens] = {}
        #: Everybody that a source named which does not tell its changes.
        self._ids: set[str] = set()
        self._listed, self._stop = threading.Event(), threading.Event()
        self._problem = "it was not asked yet"
        self._until = time.monotonic() + FIRST_SECONDS
        self._thread = threading.Thread(target=self._refresh, name="tokens", daemon=True)
        if self._growing is None:
            self._thread.start()

    def find(self, guest: str, tokens: Sequence[bytes]) -> list[str | None]:
        """The id of each token as the source knows it; None: no such person.

        Raises `FeatureSourceError` while nobody is known yet because the source gave no list, and `SealError` for a
        guest without a key.
        """
        if self._growing is None and not self._listed.wait(max(0.0, self._until - time.monotonic())):
            raise FeatureSourceError(f"the features' list of persons could not be had: {self._problem}")
        with self._lock:
            index = self._guests.get(guest)
            if index is None:
                index = _Tokens(self._key_of_guest(guest), self._normalise)
                index.add(self._ids)
                self._guests[guest] = index
            if self._growing is not None:
                ids, index.position = self._growing.ids_after(index.position)
                index.add(ids)
            return [index.found.get(token) for token in tokens]

    def refresh(self) -> None:
        """Ask a source that does not tell its changes for its list. Raises `FeatureSourceError`."""
        ids = set(self._source.known_ids())
        with self._lock:
            new = ids - self._ids
            for index in self._guests.values():
                index.add(new)
            self._ids |= new
        self._listed.set()

    def close(self) -> None:
        """End the thread at its next pause."""
        self._stop.set()

    def _refresh(self) -> None:
        while not self._stop.is_set():
            pause = self._seconds
            try:
                self.refresh()
            except FeatureSourceError as error:
                if str(error) != self._problem:
                    _log.warning("%s", error)
                self._problem, pause = str(error), min(self._seconds, RETRY_SECONDS)
            self._stop.wait(pause)
