"""The one place that calls a transactional producer, and what each failure means.

                 start                    begin..commit
       NEW ----------------> READY ---------------------------> READY     Committed
        ^                      |
        |                      |  refused before the commit
        |                      +----------------------> SPENT             Aborted
        |                      |  no answer, or a commit   |
        |                      |  that was refused         |
        |                      +----------------------> SPENT             Unknown
        |         renew                                    |
        +--------------------------------------------------+
                               |  another producer has the id
                               +----------------------> FENCED            Fenced

A commit is never repeated in place: whether it took effect is found out by taking the transactional id again, which
makes the broker finish or abort the old transaction and refuse its late requests, and by reading the log.

Nothing is aborted by saying so, but always by taking the id again. Where KIP-890 is at work a transaction has an epoch
of its own; librdkafka does not implement it (its issue 5423), and after a plain abort a late request of the old
transaction would open one that nobody ends. The markers that follow from taking the id carry a higher epoch, and every
partition that has one refuses what is late.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from streams.engine import failpoints
from streams.engine.errors import LogUnavailableError, SlotTakenError
from streams.engine.ports import ClientError, ClientErrorKind, OutputRecord, Producer, TopicPartition

_log = logging.getLogger(__name__)

#: How often `start` may find no answer. Each attempt waits as long as the producer's own timeout.
START_ATTEMPTS = 5
#: Transactions in a row that were not committed, until the process gives up. A rebalance costs one, a broker's errors
#: many.
MAX_FAILURES = 20


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

    def __init__(self, make_producer: Callable[[int], Producer], producers: int = 1) -> None:
        """`make_producer(n)` makes the n-th of so many producers, each with a transactional id of its own.

        With several they take turns. A producer that begins a transaction just after its last one is asked by the
        broker to try again, because that one's markers are still being written; librdkafka does so after 20 ms. Turns
        give it time. They do not overlap: one begins when the one before is committed.
        """
        self._make_producer = make_producer
        self._count = producers
        self._producers: list[Producer] = []
        self._turn = 0
        #: Renewals since the last commit.
        self.failures = 0
        self.phase = Phase.NEW
        #: Why the last transaction was not committed.
        self.last_error = ""

    def start(self) -> None:
        """Take the transactional ids. Raises `SlotTakenError`, `LogUnavailableError`."""
        self._require(Phase.NEW)
        for number in range(self._count):
            self._producers.append(self._take(number))
            failpoints.reach(failpoints.AFTER_INIT)
        self.phase = Phase.READY

    def _take(self, number: int) -> Producer:
        for _ in range(START_ATTEMPTS):
            producer = self._make_producer(number)
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
            return producer
        raise LogUnavailableError(f"no answer in {START_ATTEMPTS} attempts to take the id: {self.last_error}")

    def renew(self) -> None:
        """After anything but a commit: take the ids with new producers, which settles what was unknown.

        Raises as `start`, and `LogUnavailableError` when too many in a row were not committed.
        """
        self._require(Phase.SPENT)
        self.failures += 1
        if self.failures >= MAX_FAILURES:
            raise LogUnavailableError(f"{MAX_FAILURES} transactions failed: {self.last_error}")
        self._drop()
        self.phase = Phase.NEW
        self.start()

    def run(self, records: Iterable[OutputRecord], positions: Mapping[TopicPartition, int]) -> Outcome:
        """One transaction with these records and the group's positions. Raises `LogUnavailableError` when forbidden.

        Records are taken one by one as they are sent: librdkafka waits 1 ms after the first of a transaction, in which
        others can be made.
        """
        self._require(Phase.READY)
        producer = self._producers[self._turn]
        self._turn = (self._turn + 1) % self._count
        try:
            self._write(producer, records, positions)
        except ClientError as error:
            return self._give_up(error, Outcome.ABORTED)
        try:
            self._commit(producer)
        except ClientError as error:
            # Even a commit that was refused may have been carried out: it is made again when a connection is lost.
            return self._give_up(error, Outcome.UNKNOWN)
        self.failures = 0
        failpoints.reach(failpoints.AFTER_COMMIT)
        return Outcome.COMMITTED

    def close(self) -> None:
        """Let go of the producers. The broker aborts what is open, if anything is."""
        self._drop()

    def _write(
        self, producer: Producer, records: Iterable[OutputRecord], positions: Mapping[TopicPartition, int]
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

    def _give_up(self, error: ClientError, refused: Outcome) -> Outcome:
        """Nothing more is done in this transaction. `refused` is what a refusal means."""
        self.last_error = error.detail
        if error.kind is ClientErrorKind.FENCED:
            return self._fence()
        if error.kind is ClientErrorKind.FATAL:
            raise LogUnavailableError(f"the broker refuses the transaction: {error.detail}") from error
        self.phase = Phase.SPENT
        if error.kind is ClientErrorKind.TIMED_OUT:
            _log.warning("no answer, the transaction's end is unknown: %s", error.detail)
            return Outcome.UNKNOWN
        _log.warning("transaction refused: %s", error.detail)
        return refused

    def _fence(self) -> Outcome:
        self.phase = Phase.FENCED
        self._drop()
        return Outcome.FENCED

    def _drop(self) -> None:
        for producer in self._producers:
            producer.close()
        self._producers.clear()

    def _require(self, phase: Phase) -> None:
        if self.phase is not phase:
            raise RuntimeError(f"the transactor is {self.phase}, this needs {phase}: a bug in the loop")


def _taken(error: ClientError) -> str:
    return f"another process has this slot's transactional id: {error.detail}. Give every process its own slot."
