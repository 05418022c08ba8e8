"""The exactly-once loop.

    turn:   1. poll            lost partitions: their slices are forgotten; gained ones: their slices are restored, and
                               sealed anew if they rest under a former generation of the storage key
            2. compute         decode, open, step; blobs are stored; all of it into drafts, off the poll thread
            3. transaction     begin, outputs, states, checkpoints, group positions, commit
            4. timers          due ones are written to the own command topic, in a transaction of their own

    outcome      what follows
    Committed    drafts become slices
    Aborted      drafts are dropped, a new producer takes the id, inputs are read again from the committed positions
    Fenced       the process ends: another one has the slot
    Unknown      a new producer takes the id, which settles the transaction, and every slice is restored from the log

How many records share a transaction changes nothing that is committed but the number of transactions.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from streams.engine import failpoints
from streams.engine.blobs import SealedBlobs
from streams.engine.dead_letter import UndeliverableError, make_dead_letter
from streams.engine.errors import SlotTakenError
from streams.engine.intake import Intake
from streams.engine.outbox import Outbox
from streams.engine.ports import (
    Clock,
    InputRecord,
    Log,
    NotYetError,
    OutputRecord,
    StorageError,
    TopicPartition,
    Worker,
)
from streams.engine.slices import Draft, Slice
from streams.engine.state_log import StateLog
from streams.engine.stepper import Stepper
from streams.engine.timers import send_due
from streams.engine.topics import StageTopics
from streams.engine.transaction import Outcome, Transactor
from streams.machine import ToStage

_log = logging.getLogger(__name__)

#: Records that are taken from the log at once.
POLL_RECORDS = 500
#: How long a poll waits when nothing comes; a process that is told to stop stops within this time.
IDLE_MS = 500
#: Until slices are asked for again that could not be restored yet.
RESTORE_RETRY_MS = 50
#: Computing that has gone on for so long is committed, so that its outputs are not held back by what follows.
COMPUTE_MS = 300


@dataclass(frozen=True)
class LoopParts:
    """What the loop is made of."""

    topics: StageTopics
    log: Log
    transactor: Transactor
    intake: Intake
    stepper: Stepper
    outbox: Outbox
    state_log: StateLog
    blobs: SealedBlobs
    clock: Clock
    worker: Worker
    poll_records: int = POLL_RECORDS


class Loop:
    """One process's loop. `turn` is called for ever; everything it knows can be thrown away between two calls."""

    def __init__(self, parts: LoopParts) -> None:
        self._parts = parts
        self._log = parts.log
        self._owned: set[TopicPartition] = set()
        self._slices: dict[int, Slice] = {}

    def turn(self, idle_ms: int = IDLE_MS) -> bool:
        """One round; False when there was nothing to do. Raises `EngineError`."""
        polled = self._log.poll(self._wait_ms(idle_ms), self._parts.poll_records)
        self._lose(polled.lost)
        self._owned |= polled.gained
        # A slice that is restored now begins at its committed positions; what was fetched before that is not for it.
        records = [record for record in polled.records if record.partition in self._slices]
        restored = self._restore_missing()
        if not self._reseal():
            # What was polled is polled again.
            return True
        if records:
            failpoints.reach(failpoints.AFTER_POLL)
            self._process(records)
        return self._fire_timers() or bool(records) or restored

    def next_due_ms(self) -> int | None:
        """When the next timer of all slices is due."""
        return min((due for s in self._slices.values() if (due := s.next_due_ms()) is not None), default=None)

    @property
    def is_whole(self) -> bool:
        """Whether every partition that is ours is being processed."""
        return {place for s in self._slices.values() for place in s.places} == self._owned

    # --- 1. ownership ---

    def _wait_ms(self, idle_ms: int) -> int:
        if not self.is_whole:
            return min(idle_ms, RESTORE_RETRY_MS)
        due = self.next_due_ms()
        return idle_ms if due is None else max(0, min(idle_ms, due - self._parts.clock.now_ms()))

    def _lose(self, places: frozenset[TopicPartition]) -> None:
        self._owned -= places
        for partition in {place.partition for place in places}:
            if self._slices.pop(partition, None) is not None:
                _log.info("%s: partition %d is not ours any more", self._parts.topics.stage, partition)

    def _restore_missing(self) -> bool:
        """Restore every slice that is ours in full. One of which we own some partitions only belongs to nobody yet."""
        partitions = sorted({place.partition for place in self._owned} - self._slices.keys())
        results = [self._restore(partition) for partition in partitions]
        return any(results)

    def _restore(self, partition: int) -> bool:
        places = [TopicPartition(topic, partition) for topic in self._parts.topics.inputs]
        if not self._owned.issuperset(places):
            return False
        state = TopicPartition(self._parts.topics.state, partition)
        try:
            # The positions first: what they include was written to the state topic before they were committed, hence
            # lies below the high watermark that is looked up afterwards.
            committed = self._log.committed(places)
            failpoints.reach(failpoints.DURING_RESTORE)
            entries = self._parts.worker.run(lambda: self._log.read_state(state), self._log.keep_alive)
        except NotYetError as error:
            _log.info("%s[%d] waits: %s", self._parts.topics.state, partition, error)
            return False
        if self._log.lost() & set(places):
            return False
        self._slices[partition] = self._parts.state_log.restore(partition, entries, committed)
        self._log.start(committed)
        jobs = len(self._slices[partition].jobs)
        _log.info("%s: given partition %d, %d jobs restored", self._parts.topics.stage, partition, jobs)
        return True

    # --- 2. computing ---

    def _process(self, records: Sequence[InputRecord]) -> None:
        rest = records
        while rest:
            drafts, used = self._parts.worker.run(partial(self._compute, rest), self._log.keep_alive)
            rest = rest[used:]
            if not self._commit(drafts):
                return

    def _compute(self, records: Sequence[InputRecord]) -> tuple[list[Draft], int]:
        """Take records until the batch is over or has taken long; how many were taken."""
        drafts: dict[int, Draft] = {}
        start_ms = self._parts.clock.now_ms()
        used = 0
        for raw in records:
            used += 1
            base = self._slices.get(raw.partition)
            if base is None or raw.place not in base.positions:
                continue
            if raw.partition not in drafts:
                drafts[raw.partition] = Draft(base)
            self._take(drafts[raw.partition], raw)
            if self._parts.clock.now_ms() - start_ms > COMPUTE_MS:
                break
        return list(drafts.values()), used

    def _take(self, draft: Draft, raw: InputRecord) -> None:
        draft.positions[raw.place] = raw.offset + 1
        topics = self._parts.topics
        try:
            taken = self._parts.intake.take(raw, draft.job)
            if taken is None:
                return
            before = draft.job(taken.job.job_id)
            job, outputs = taken.job, list[OutputRecord]()
            if taken.record is not None:
                try:
                    job, outputs = self._parts.stepper.step(job, taken.record, taken.sender)
                except UndeliverableError as error:
                    # Its place in its stream is taken all the same, or the next record would look like a gap.
                    outputs = [make_dead_letter(topics.dead_letter, topics.party, topics.stage, raw, str(error))]
            # For each record, not for each transaction: how many share one must not show in what is committed.
            if job is not before or outputs:
                job, audit = self._parts.outbox.audit(job, taken.source)
                outputs += audit
            draft.put(job, outputs)
        except UndeliverableError as error:
            _log.warning("dead letter: %s[%d]@%d: %s", raw.topic, raw.partition, raw.offset, error)
            draft.outputs.append(make_dead_letter(topics.dead_letter, topics.party, topics.stage, raw, str(error)))

    # --- 3. the transaction ---

    def _commit(self, drafts: list[Draft]) -> bool:
        """False when the rest of what was polled must be polled again."""
        if lost := self._log.lost():
            # Given back or not, somebody else may have processed them in between: our results are void.
            self._lose(lost)
            drafts = [draft for draft in drafts if self._slices.get(draft.base.partition) is draft.base]
        if not drafts:
            return True
        records = [record for draft in drafts for record in (*draft.outputs, *self._parts.state_log.changes(draft))]
        positions = {place: position for draft in drafts for place, position in draft.group_positions().items()}
        match self._parts.transactor.run(records, positions):
            case Outcome.COMMITTED:
                for draft in drafts:
                    draft.base.apply(draft)
                return True
            case Outcome.ABORTED:
                self._parts.transactor.renew()
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

    def _reseal(self) -> bool:
        """Bring what was restored under the newest generation of the storage key, in a transaction of its own.

        Before anything else is done with it: the draft has the state as it was restored. False when it did not commit.
        """
        drafts: list[Draft] = []
        for each in self._slices.values():
            if each.stale:
                make = partial(self._parts.state_log.reseal, each, self._parts.blobs)
                try:
                    drafts.append(self._parts.worker.run(make, self._log.keep_alive))
                except StorageError as error:
                    # It rests as it did; the next process that is given the partition tries again.
                    _log.warning("%s: %s is not sealed anew: %s", self._parts.topics.stage, each.partition, error)
                    each.stale = {}
        if not drafts:
            return True
        if not self._commit(drafts):
            return False
        for draft in drafts:
            _log.info("%s[%d]: %d sealed anew", self._parts.topics.state, draft.base.partition, len(draft.outputs))
        return True

    # --- 4. timers ---

    def _fire_timers(self) -> bool:
        now_ms = self._parts.clock.now_ms()
        drafts = [draft for each in self._slices.values() if (draft := self._draft_timers(each, now_ms)) is not None]
        if not drafts:
            return False
        failpoints.reach(failpoints.BEFORE_TIMERS)
        self._commit(drafts)
        return True

    def _draft_timers(self, base: Slice, now_ms: int) -> Draft | None:
        draft = Draft(base)
        for job in base.due_jobs(now_ms):
            marked, fired = send_due(job, now_ms)
            sent, outputs = self._parts.outbox.send(marked, [ToStage(self._parts.topics.stage, each) for each in fired])
            after, audit = self._parts.outbox.audit(sent, due=tuple(each.name for each in fired))
            draft.put(after, (*outputs, *audit))
        return draft if draft.jobs else None
