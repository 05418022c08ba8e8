"""Partition p of routed requests, of answers and of the joiner's state, and what a transaction will change of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from schemas.codec import DecodeError, decode, encode
from schemas.scoring_states import JoinDelta
from streams.engine.errors import TornTransactionError, UnreadableStateError
from streams.engine.ports import OutputRecord, TopicPartition
from streams.engine.seal import Keyring, SealError
from streams.machines.score.deltas import Change, DeltaLog
from streams.machines.score.joiner import Draft
from streams.machines.score.ledger import JoinRules


@dataclass(frozen=True)
class JoinTopics:
    """The topics of one party's joiner. Inputs, state, results and audit have equally many partitions."""

    party: str
    #: Named in dead letters.
    stage: str
    routed: str
    answers: str
    state: str
    results: str
    audit: str
    dead_letter: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the process's group subscribes to."""
        return (self.routed, self.answers)


@dataclass
class JoinSlice:
    """What was committed of one partition number."""

    partition: int
    #: Next input position for every input partition; None where nothing was ever committed.
    positions: dict[TopicPartition, int | None]
    log: DeltaLog
    #: Whether some of it rests under a former generation of the storage key.
    is_stale: bool = False

    @property
    def places(self) -> frozenset[TopicPartition]:
        """The input partitions."""
        return frozenset(self.positions)


@dataclass
class JoinDraft:
    """What a transaction will change of a slice."""

    base: JoinSlice
    since_ms: int
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    letters: list[OutputRecord] = field(default_factory=list)
    #: Whether the whole state is written again, and nothing else done.
    is_rewrite: bool = False

    def __post_init__(self) -> None:
        self.scores = Draft(self.base.log.ledger)

    def group_positions(self) -> dict[TopicPartition, int]:
        """What to commit for the group: every known position of the slice, moved or not (see `slices.Draft`)."""
        merged = {**self.base.positions, **self.positions}
        return {place: position for place, position in merged.items() if position is not None}

    def change(self, now_ms: int) -> Change:
        """What to write to the state topic."""
        positions = {place.topic: position for place, position in self.group_positions().items()}
        if self.is_rewrite:
            return self.base.log.rewrite(positions)
        return self.base.log.write(self.scores, positions, now_ms)

    def apply(self, change: Change, now_ms: int) -> None:
        """The transaction was committed."""
        self.base.log.apply(self.scores, change, now_ms)
        self.base.is_stale = self.base.is_stale and not self.is_rewrite
        self.base.positions.update(self.positions)


class JoinStateLog:
    """Writes and reads the joiner's state topic: one sealed delta a record, its sequence as the key."""

    def __init__(self, topic: str, keyring: Keyring, rules: JoinRules) -> None:
        self.topic = topic
        self._keyring = keyring
        self._rules = rules

    def records(self, partition: int, change: Change) -> list[OutputRecord]:
        """The records of a change."""
        records = [OutputRecord(self.topic, partition, delta_key(sequence), None) for sequence in change.deleted]
        for delta in change.deltas:
            key = delta_key(delta.sequence)
            sealed = self._keyring.seal_state(self.topic, partition, key, encode(delta))
            records.append(OutputRecord(self.topic, partition, key, sealed))
        return records

    def restore(
        self,
        partition: int,
        entries: Iterable[tuple[bytes, bytes | None]],
        committed: Mapping[TopicPartition, int | None],
        now_ms: int,
    ) -> JoinSlice:
        """The slice that the log's records, oldest first, leave. `committed` is what the group's positions are.

        Raises `UnreadableStateError`, and `TornTransactionError` when the two are not of the same transaction.
        """
        latest = dict(entries)
        read = [self._read(partition, key, value) for key, value in latest.items() if value is not None]
        deltas = [delta for delta, _ in read]
        told: dict[str, int] = {}
        if deltas:
            newest = max(deltas, key=lambda delta: delta.sequence)
            told = {position.topic: position.next_position for position in newest.positions}
        for place, position in committed.items():
            if told.get(place.topic) != position:
                raise TornTransactionError(self._tear(place, position, told.get(place.topic)))
        is_stale = not all(is_newest for _, is_newest in read)
        return JoinSlice(partition, dict(committed), DeltaLog.restore(self._rules, deltas, now_ms), is_stale)

    def _read(self, partition: int, key: bytes, value: bytes) -> tuple[JoinDelta, bool]:
        where = f"{self.topic}[{partition}], key {key.decode(errors='replace')!r}"
        try:
            plaintext, is_newest = self._keyring.unseal_state(self.topic, partition, key, value)
            record = decode(plaintext)
        except (SealError, DecodeError) as error:
            raise UnreadableStateError(f"{where}: {error}") from error
        if not isinstance(record, JoinDelta) or delta_key(record.sequence) != key:
            raise UnreadableStateError(f"{where} holds a {type(record).__name__} of another place")
        return record, is_newest

    def _tear(self, place: TopicPartition, committed: int | None, told: int | None) -> str:
        return (
            f"{place.topic}[{place.partition}]: the group's committed offset is {committed}, but the state in"
            f" {self.topic}[{place.partition}] includes the input up to {told}. They are written in one transaction and"
            " must be equal. If offsets were reset or expired, set them to the state's value with"
            " kafka-consumer-groups --reset-offsets --to-offset; if not, a transaction was torn: keep all topics for"
            " an investigation"
        )


def delta_key(sequence: int) -> bytes:
    """The key of a delta on the state topic."""
    return f"delta/{sequence}".encode()
