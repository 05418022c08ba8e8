"""What the router's and the score host's processes have in common: how they begin, seal, look up and end."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from consumers.party import Party
from consumers.process import run_process
from infra.connection import connect_as
from infra.topics import SCORE_HOST, dead_letter_topic, group_id, score_audit_topic, transactional_id
from schemas.jobs import JobSpec
from schemas.record import Record
from schemas.scoring import ScoreReason
from streams.engine.messages import MessageSeal
from streams.engine.ports import OutputRecord
from streams.engine.relay_counts import PartitionCounts
from streams.engine.relay_loop import RelayLoop
from streams.engine.relay_ports import RelayHandler, RelayPlaces
from streams.features import FeatureSource, FeatureSourceError, PersonFeatures
from streams.machines.score.halves import Problem

_log = logging.getLogger("isthmus")

#: The purpose of all messages of scoring, as their keys are derived from it.
PURPOSE = "score"
#: A sealed record stays below Kafka's default limit of 1,048,588 bytes.
MOST_BYTES = 900_000
#: Tables and caches live as long as the process: looking through them for garbage would be the longest pauses of all.
GC_THRESHOLDS = (50_000, 20, 100)
#: What is told of a source's failure.
MOST_DETAIL_CHARACTERS = 200
#: Between two lines of the log about failing sources.
QUIET_SECONDS = 10.0
#: A failure that took so long was a wait: the source is left alone for as long again, so that it costs others half of
#: the time at most. One that is told at once may be about some columns only.
SLOW_SECONDS = 0.1
#: What a host writes to its books is gathered for so long: nobody waits for it.
BOOKS_PATIENCE_MS = 20
#: Tables of trainings that stay loaded: parity checks come one after the other.
KEPT_TABLES = 2

_Item = TypeVar("_Item")
_Table = TypeVar("_Table")


class ClosableHandler(RelayHandler, Protocol):
    """A handler that has something to let go of."""

    def close(self) -> None:
        """Let go of it. Never raises."""
        ...


def run_relay(
    home: Path,
    slot: int,
    process: str,
    input_of: Callable[[str], str],
    make: Callable[[Party, PartitionCounts], ClosableHandler],
) -> None:
    """Run the process at the party of `home` until SIGTERM. Ends the interpreter with a code and a text.

    `input_of` names the topic that a party's process reads.
    """
    run_process(home, process, lambda party: Relay(party, process, slot, input_of(party.name), make))


class Relay:
    """A relay's loop around its handler, which is closed at the end."""

    def __init__(
        self,
        party: Party,
        process: str,
        slot: int,
        input_topic: str,
        make: Callable[[Party, PartitionCounts], ClosableHandler],
    ) -> None:
        settings = party.settings
        self._handler = make(party, PartitionCounts(settings.bootstrap_servers, connect_as(settings, process)))
        self._loop = RelayLoop(relay_places(party, process, slot, input_topic), self._handler)

    def run(self) -> None:
        """Raises `EngineError`."""
        gc.set_threshold(*GC_THRESHOLDS)
        gc.freeze()
        try:
            self._loop.run()
        finally:
            self._handler.close()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._loop.stop()


def relay_places(party: Party, process: str, slot: int, input_topic: str) -> RelayPlaces:
    """Where a process of this party reads and writes."""
    return RelayPlaces(
        party=party.name,
        process=process,
        bootstrap_servers=party.settings.bootstrap_servers,
        input=input_topic,
        dead_letter=dead_letter_topic(party.name),
        group_id=group_id(process, party.name),
        instance_id=transactional_id(process, party.name, slot),
        patient=frozenset({score_audit_topic(party.name)}) if process == SCORE_HOST else frozenset(),
        patience_ms=BOOKS_PATIENCE_MS,
        properties=connect_as(party.settings, process),
    )


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000


def seal_items(
    seal: MessageSeal,
    items: Sequence[_Item],
    pack: Callable[[tuple[_Item, ...]], Record],
    receiver: str,
    topic: str,
    partition: int,
) -> list[OutputRecord]:
    """The items in one sealed record for this place, or in several if they are too large for one."""
    value = seal.seal(pack(tuple(items)), receiver, topic, partition)
    if len(value) <= MOST_BYTES or len(items) == 1:
        return [OutputRecord(topic, partition, b"", value)]
    half = len(items) // 2
    return [
        output
        for part in (items[:half], items[half:])
        for output in seal_items(seal, part, pack, receiver, topic, partition)
    ]


class Lookups:
    """Asks a feature source, and makes a reason of whatever goes wrong: one bad source must not stop the process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, rests: bool = True) -> None:
        """`rests`: a source that made us wait for nothing is left alone for a while."""
        self._clock = clock
        self._rests = rests
        self._quiet_until = 0.0
        self._rest_until = 0.0

    def fetch(
        self, source: FeatureSource, entity_ids: Sequence[str], columns: Sequence[str]
    ) -> dict[str, PersonFeatures | None] | Problem:
        """What is known of each person."""
        found = self.attempt(lambda: source.fetch(entity_ids, columns))
        return found if isinstance(found, Problem) else dict(zip(entity_ids, found, strict=True))

    def attempt(self, look_up: Callable[[], _Table]) -> _Table | Problem:
        """What `look_up` gives, or the reason why it gave nothing."""
        began = self._clock()
        if began < self._rest_until:
            return Problem(ScoreReason.SOURCE_FAILED, "the feature source did not answer in time a moment ago")
        try:
            return look_up()
        except FeatureSourceError as error:
            text = str(error)
        except Exception as error:  # noqa: BLE001  (logged, and told as a reason)
            text = f"{type(error).__name__}: {error}"
        now = self._clock()
        if self._rests and now - began >= SLOW_SECONDS:
            self._rest_until = now + (now - began)
        if now >= self._quiet_until:
            _log.warning("no features: %s", text)
            self._quiet_until = now + QUIET_SECONDS
        return Problem(ScoreReason.SOURCE_FAILED, text[:MOST_DETAIL_CHARACTERS])


class KeptTables(Generic[_Table]):
    """The tables of trainings that were loaded last."""

    def __init__(self, load: Callable[[JobSpec], _Table], close: Callable[[_Table], None]) -> None:
        self._load = load
        self._close = close
        self._tables: dict[JobSpec, _Table] = {}

    def get(self, spec: JobSpec) -> _Table:
        """The table of this job. Raises what loading raises."""
        if spec not in self._tables:
            while len(self._tables) >= KEPT_TABLES:
                self._close(self._tables.pop(next(iter(self._tables))))
            self._tables[spec] = self._load(spec)
        return self._tables[spec]

    def close(self) -> None:
        """Let go of all."""
        for table in self._tables.values():
            self._close(table)
