"""What scoring asks of a feature source, whatever it is: a topic, a database, a service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class FeatureSourceError(Exception):
    """The source gave no answer in time, or none that can be used. The text says which source, and what to do."""


@dataclass(frozen=True)
class PersonFeatures:
    """What a source knows of a person. A value is a number, None (known to be missing), or whatever else came."""

    values: Mapping[str, object]
    #: When the values were taken, in milliseconds since 1970; 0: not known.
    as_of_ms: int = 0


class FeatureSource(Protocol):
    """Looks up persons by their normalised ids. One thread calls it."""

    def fetch(self, entity_ids: Sequence[str], columns: Sequence[str]) -> list[PersonFeatures | None]:
        """One entry an id, in their order; None: no such person. Raises `FeatureSourceError`."""
        ...

    def known_ids(self) -> Iterable[str]:
        """Everybody that can be asked about: a host derives the tokens from it. Raises `FeatureSourceError`."""
        ...

    def close(self) -> None:
        """Let go of connections. Never raises."""
        ...
