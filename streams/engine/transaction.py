"""The one place that calls a transactional producer, and what each failure means.

                 start                    begin..commit
       NEW ----------------> READY ---------------------------> READY     Committed
        ^                      |
        |                      |  refused, begin..abort
        |                      +----------------------> SPENT             Aborted
        |                      |  no answer                |
        |                      +----------------------> SPENT             Unknown
        |         renew                                    |
        +--------------------------------------------------+
                               |  another producer has the id
                               +----------------------> FENCED            Fenced

A commit is never repeated in place: whether it took effect is found out by taking the transactional id again, which
makes the broker finish or abort the old transaction and refuse its late requests, and by reading the log. A producer is
not used after an abort either. Where KIP-890 is at work a transaction has an epoch of its own; librdkafka does not
implement it (its issue 5423), and a late request of one transaction could join the next one. A new producer means a new
epoch, and aborts are rare.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from streams.engine import failpoints
from streams.engine.errors import LogUnavailableError, SlotTakenError
from streams.engine.ports import ClientError, ClientErrorKind, OutputRecord, Producer, TopicPartition

_log = logging.getLogger(__name__)

#: How often `start` may find no answer. Each attempt waits as long as the producer's own timeout.
START_ATTEMPTS = 5


class Outcome(StrEnum):
    """How a transaction ended, as far as we know."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    FENCED = "fenced"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """The life cycle above."""

    NEW = "new"
    READY = "ready"
    #: Its last transaction was not committed, or nobody knows.
    SPENT = "spent"
    FENCED = "fenced"


class Transactor:
    """Runs transactions one after the other."""

    def __init__(self, make_producer: Callable[[], Producer]) -> None:
        self._make_producer = make_producer
        self._producer: Producer | None = None
        self.phase = Phase.NEW
        #: Why the last transaction was not committed.
        self.last_error = ""

    def start(self) -> None:
        """Take the transactional id. Raises `SlotTakenError`, `LogUnavailableError`."""
        self._require(Phase.NEW)
        for _ in range(START_ATTEMPTS):
            producer = self._make_producer()
            try:
                producer.init()
            except ClientError as error:
                producer.close()
                if error.kind is ClientErrorKind.FENCED:
                    raise SlotTakenError(_taken(error)) from error
                if error.kind is ClientErrorKind.FATAL:
                    raise LogUnavailableError(f"the transactional id cannot be taken: {error.detail}") from error
                self.last_error = error.detail
                _log.warning("taking the transactional id: %s; trying again", error.detail)
                continue
            self._producer = producer
            self.phase = Phase.READY
            failpoints.reach(failpoints.AFTER_INIT)
            return
        raise LogUnavailableError(f"no answer in {START_ATTEMPTS} attempts to take the id: {self.last_error}")

    def renew(self) -> None:
        """After anything but a commit: take the id with a new producer, which settles what was unknown."""
        self._require(Phase.SPENT)
        self._drop()
        self.phase = Phase.NEW
        self.start()

    def run(self, records: Sequence[OutputRecord], positions: Mapping[TopicPartition, int]) -> Outcome:
        """One transaction with these records and the group's positions. Raises `LogUnavailableError` when refused."""
        self._require(Phase.READY)
        assert self._producer is not None
        try:
            self._write(self._producer, records, positions)
            self._commit(self._producer)
        except ClientError as error:
            return self._give_up(self._producer, error)
        failpoints.reach(failpoints.AFTER_COMMIT)
        return Outcome.COMMITTED

    def close(self) -> None:
        """Let go of the producer. The broker aborts what is open, if anything is."""
        self._drop()

    def _write(
        self, producer: Producer, records: Sequence[OutputRecord], positions: Mapping[TopicPartition, int]
    ) -> None:
        producer.begin()
        failpoints.reach(failpoints.AFTER_BEGIN)
        for record in records:
            producer.produce(record)
        failpoints.reach(failpoints.AFTER_PRODUCE)
        producer.send_offsets(positions)
        failpoints.reach(failpoints.AFTER_OFFSETS)

    def _commit(self, producer: Producer) -> None:
        producer.commit()

    def _give_up(self, producer: Producer, error: ClientError) -> Outcome:
        """Nothing more is done in this transaction."""
        self.last_error = error.detail
        if error.kind is ClientErrorKind.FENCED:
            return self._fence()
        if error.kind is ClientErrorKind.FATAL:
            raise LogUnavailableError(f"the broker refuses the transaction: {error.detail}") from error
        self.phase = Phase.SPENT
        if error.kind is ClientErrorKind.TIMED_OUT:
            _log.warning("no answer, the transaction's end is unknown: %s", error.detail)
            return Outcome.UNKNOWN
        _log.warning("transaction refused, aborting: %s", error.detail)
        try:
            producer.abort()
        except ClientError as second:
            self.last_error = second.detail
            # Whatever else it was, the transaction's end is open; the new producer's `init` settles it.
            return self._fence() if second.kind is ClientErrorKind.FENCED else Outcome.UNKNOWN
        return Outcome.ABORTED

    def _fence(self) -> Outcome:
        self.phase = Phase.FENCED
        self._drop()
        return Outcome.FENCED

    def _drop(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def _require(self, phase: Phase) -> None:
        if self.phase is not phase:
            raise RuntimeError(f"the transactor is {self.phase}, this needs {phase}: a bug in the loop")


def _taken(error: ClientError) -> str:
    return f"another process has this slot's transactional id: {error.detail}. Give every process its own slot."
