"""The joiner's exactly-once loop: as `loop.py`, made for many small records.

    turn:   1. poll            lost partitions: their slices are forgotten; gained ones: their slices are restored
            2. join            open, decode, match; requests that have waited enough are ended; all of it into drafts
            3. transaction     when there are outcomes, or a draft is old: outcomes, audit, deltas, positions, commit

What has merely arrived is not worth a transaction: it rides with the next outcomes, or goes when it is `ARRIVALS_MS`
old. Transactions end as in `loop.py`: committed, aborted, fenced, unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.codec import encode
from schemas.record import Record
from streams.engine import failpoints
from streams.engine.errors import SlotTakenError
from streams.engine.join_intake import JoinIntake
from streams.engine.join_slices import JoinDraft, JoinSlice, JoinStateLog, JoinTopics
from streams.engine.loop import RESTORE_RETRY_MS
from streams.engine.ports import InputRecord, Log, NotYetError, OutputRecord, TopicPartition, Worker
from streams.engine.transaction import Outcome, Transactor
from streams.machines.score.deltas import Change
from streams.machines.score.verdicts import write_late, write_outcomes

_log = logging.getLogger(__name__)

#: Records that are taken from the log at once; each may tell of hundreds of requests.
POLL_RECORDS = 100
#: A transaction does not get more outcomes than this and those of one record more.
MOST_OUTCOMES = 1_000
IDLE_MS = 500
#: How old a draft without outcomes gets. Far less than a host's patience; 20 transactions a second at most.
ARRIVALS_MS = 50


class JoinClock(Protocol):
    """The time of day; it may jump."""

    def now_us(self) -> int:
        """Microseconds since 1970."""
        ...


@dataclass(frozen=True)
class JoinParts:
    """What the loop is made of."""

    topics: JoinTopics
    log: Log
    transactor: Transactor
    intake: JoinIntake
    state_log: JoinStateLog
    clock: JoinClock
    worker: Worker
    poll_records: int = POLL_RECORDS
    most_outcomes: int = MOST_OUTCOMES


class JoinLoop:
    """One process's loop. `turn` is called for ever; everything it knows can be thrown away between two calls."""

    def __init__(self, parts: JoinParts) -> None:
        self._parts = parts
        self._log = parts.log
        self._owned: set[TopicPartition] = set()
        self._slices: dict[int, JoinSlice] = {}
        self._drafts: dict[int, JoinDraft] = {}
        self._commits = 0

    def turn(self, idle_ms: int = IDLE_MS) -> bool:
        """One round; False when there was nothing to do. Raises `EngineError`."""
        polled = self._log.poll(self._wait_ms(idle_ms), self._parts.poll_records)
        self._lose(polled.lost)
        self._owned |= polled.gained
        # A slice that is restored now begins at its committed positions; what was fetched before that is not for it.
        records = [record for record in polled.records if record.partition in self._slices]
        restored = self._restore_missing()
        if records:
            failpoints.reach(failpoints.AFTER_POLL)
        is_done = self._join(records)
        return self._end_waiting() or is_done or bool(records) or restored

    def next_due_ms(self) -> int | None:
        """When there is something to do though nothing comes."""
        times = [draft.since_ms + ARRIVALS_MS for draft in self._drafts.values()]
        times += [due for each in self._slices.values() if (due := each.log.ledger.next_due_ms()) is not None]
        times += [due for draft in self._drafts.values() if (due := draft.scores.next_due_ms()) is not None]
        return min(times, default=None)

    @property
    def is_whole(self) -> bool:
        """Whether every partition that is ours is being processed."""
        return {place for s in self._slices.values() for place in s.places} == self._owned

    # --- 1. ownership ---

    def _wait_ms(self, idle_ms: int) -> int:
        if not self.is_whole:
            idle_ms = min(idle_ms, RESTORE_RETRY_MS)
        due = self.next_due_ms()
        return idle_ms if due is None else max(0, min(idle_ms, due - self._now_ms()))

    def _lose(self, places: Iterable[TopicPartition]) -> None:
        self._owned -= set(places)
        for partition in {place.partition for place in places}:
            self._drafts.pop(partition, None)
            if self._slices.pop(partition, None) is not None:
                _log.info("joiner: partition %d is not ours any more", partition)

    def _restore_missing(self) -> bool:
        partitions = sorted({place.partition for place in self._owned} - self._slices.keys())
        results = [self._restore(partition) for partition in partitions]
        return any(results)

    def _restore(self, partition: int) -> bool:
        topics = self._parts.topics
        places = [TopicPartition(topic, partition) for topic in topics.inputs]
        if not self._owned.issuperset(places):
            return False
        state = TopicPartition(topics.state, partition)
        try:
            # The positions first, as in `loop.py`.
            committed = self._log.committed(places)
            failpoints.reach(failpoints.DURING_RESTORE)
            restored = self._parts.worker.run(
                lambda: self._parts.state_log.restore(
                    partition, self._log.read_state(state), committed, self._now_ms()
                ),
                self._log.keep_alive,
            )
        except NotYetError as error:
            _log.info("%s[%d] waits: %s", topics.state, partition, error)
            return False
        if self._log.lost() & set(places):
            return False
        self._slices[partition] = restored
        self._log.start(committed)
        ledger = restored.log.ledger
        _log.info(
            "joiner: given partition %d, %d requests wait, %d are remembered",
            partition,
            len(ledger.waiting),
            len(ledger.finished),
        )
        return True

    # --- 2. joining ---

    def _join(self, records: Sequence[InputRecord]) -> bool:
        """Take all records, with transactions in between; whether there was one."""
        is_done, outcomes = False, 0
        for raw in records:
            base = self._slices.get(raw.partition)
            if base is None:
                continue
            draft = self._draft(base)
            before = len(draft.scores.verdicts)
            self._parts.intake.take(draft, raw, self._parts.clock.now_us())
            outcomes += len(draft.scores.verdicts) - before
            if outcomes >= self._parts.most_outcomes:
                outcomes, is_done = 0, True
                if not self._commit(list(self._drafts.values())):
                    return True
        return is_done

    def _draft(self, base: JoinSlice) -> JoinDraft:
        if base.partition not in self._drafts:
            self._drafts[base.partition] = JoinDraft(base, self._now_ms())
        return self._drafts[base.partition]

    def _end_waiting(self) -> bool:
        """End what has waited enough, and write what is there to be written; whether there was anything."""
        now_ms = self._now_ms()
        for base in self._slices.values():
            if self._is_due(base, now_ms):
                failpoints.reach(failpoints.BEFORE_TIMERS)
                self._draft(base).scores.fire(now_ms)
        drafts = list(self._drafts.values())
        is_done = any(each.scores.verdicts or now_ms - each.since_ms >= ARRIVALS_MS for each in drafts)
        if is_done:
            self._commit(drafts)
        if not self._drafts and (
            sprawling := [each for each in self._slices.values() if each.log.is_sprawling or each.is_stale]
        ):
            self._commit([JoinDraft(each, now_ms, is_rewrite=True) for each in sprawling])
        return is_done

    def _is_due(self, base: JoinSlice, now_ms: int) -> bool:
        draft = self._drafts.get(base.partition)
        ends = (base.log.ledger.next_due_ms(), draft.scores.next_due_ms() if draft is not None else None)
        return any(due is not None and due <= now_ms for due in ends)

    def _now_ms(self) -> int:
        return self._parts.clock.now_us() // 1000

    # --- 3. the transaction ---

    def _commit(self, drafts: list[JoinDraft]) -> bool:
        """False when what was polled must be polled again."""
        self._drafts.clear()
        if lost := self._log.lost():
            # Given back or not, somebody else may have processed them in between: our results are void.
            self._lose(lost)
            drafts = [draft for draft in drafts if self._slices.get(draft.base.partition) is draft.base]
        if not drafts:
            return True
        # Nobody looks for an outcome in a certain partition of the audit. Each partition that a transaction writes to
        # costs it time, so that its audit goes to one: of all partitions in turn.
        self._commits += 1
        audit_partition = drafts[self._commits % len(drafts)].base.partition
        changes = [draft.change(self._now_ms()) for draft in drafts]
        records = self._write(drafts, changes, audit_partition)
        positions = {place: position for draft in drafts for place, position in draft.group_positions().items()}
        match self._parts.transactor.run(records, positions):
            case Outcome.COMMITTED:
                for draft, change in zip(drafts, changes, strict=True):
                    draft.apply(change, self._now_ms())
                return True
            case Outcome.ABORTED:
                self._parts.transactor.renew()
                for draft in drafts:
                    draft.scores.undo()
                for each in self._slices.values():
                    self._log.start(each.positions)
            case Outcome.FENCED:
                raise SlotTakenError(
                    "the broker listens to another process with this slot's transactional id, or gave up waiting for"
                    f" this one: {self._parts.transactor.last_error}"
                )
            case Outcome.UNKNOWN:
                self._parts.transactor.renew()
                self._slices.clear()
        return False

    def _write(
        self, drafts: Sequence[JoinDraft], changes: Sequence[Change], audit_partition: int
    ) -> Iterator[OutputRecord]:
        """States first: with them and the first outcome all partitions of the transaction are soon known."""
        for draft, change in zip(drafts, changes, strict=True):
            yield from self._parts.state_log.records(draft.base.partition, change)
        for draft in drafts:
            yield from self._tell(draft, audit_partition)

    def _tell(self, draft: JoinDraft, audit_partition: int) -> Iterator[OutputRecord]:
        """Results, audit and dead letters of a draft."""
        topics, partition = self._parts.topics, draft.base.partition
        for joined, audited in write_outcomes(draft.scores.verdicts, self._parts.clock.now_us()):
            key = audited.request_id.encode()
            if joined is not None:
                yield _plain(topics.results, partition, key, joined)
            yield _plain(topics.audit, audit_partition, key, audited)
        for late in write_late(draft.scores.late):
            yield _plain(topics.audit, audit_partition, late.request_id.encode(), late)
        yield from draft.letters


def _plain(topic: str, partition: int, key: bytes, record: Record) -> OutputRecord:
    return OutputRecord(topic, partition, key, encode(record))
