"""A stage's process: the loop with its parts, from start to stop."""

from __future__ import annotations

import logging
import time

from streams.engine.blobs import SealedBlobs
from streams.engine.chunks import CHUNK_BYTES
from streams.engine.epochs import EPOCH_RECORDS
from streams.engine.errors import EngineError
from streams.engine.intake import Intake
from streams.engine.loop import POLL_RECORDS, Loop, LoopParts
from streams.engine.outbox import Outbox
from streams.engine.ports import BlobStore, Clock, Log, Worker
from streams.engine.seal import Keyring
from streams.engine.state_log import StateLog
from streams.engine.stepper import Prepare, Stepper
from streams.engine.thread_worker import ThreadWorker
from streams.engine.topics import StageTopics
from streams.engine.transaction import Transactor
from streams.machine import Machine

_log = logging.getLogger(__name__)


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000


class StageProcess:
    """Runs one machine on one party's topics of its stage.

    >>> StageProcess(AlignMachine("bank", secret), "bank", log, keyring, store, prepare, SystemClock(), topics).run()
    """

    def __init__(
        self,
        machine: Machine,
        party: str,
        log: Log,
        keyring: Keyring,
        blobs: BlobStore,
        prepare: Prepare | None,
        clock: Clock,
        topics: StageTopics,
        *,
        worker: Worker | None = None,
        transactor: Transactor | None = None,
        poll_records: int = POLL_RECORDS,
        chunk_bytes: int = CHUNK_BYTES,
        epoch_records: int = EPOCH_RECORDS,
    ) -> None:
        if not (party == keyring.party == topics.party and machine.stage == topics.stage):
            raise ValueError(
                f"party {party!r}, keyring of {keyring.party!r}, topics of {topics.party!r}; machine of stage"
                f" {machine.stage!r}, topics of {topics.stage!r}: these must agree"
            )
        self._log = log
        self._topics = topics
        self._transactor = transactor or Transactor(log.make_producer)
        self._worker = worker or ThreadWorker()
        self._stopping = False
        sealed = SealedBlobs(blobs, keyring)
        outbox = Outbox(topics, keyring, log.partition_count, clock.now_ms, chunk_bytes, epoch_records)
        self._stepper = Stepper(machine, party, sealed, outbox, prepare)
        self.loop = Loop(
            LoopParts(
                topics=topics,
                log=log,
                transactor=self._transactor,
                intake=Intake(topics, keyring, sealed.load, log.partition_count),
                stepper=self._stepper,
                outbox=outbox,
                state_log=StateLog(topics.state, keyring),
                blobs=sealed,
                clock=clock,
                worker=self._worker,
                poll_records=poll_records,
            )
        )

    def run(self) -> None:
        """Process until `stop` is called. Raises `EngineError`; whatever it raises, starting again is safe."""
        try:
            self.start()
            while not self._stopping:
                if not self.loop.turn():
                    self._stepper.tidy()
        finally:
            self.close()

    def start(self) -> None:
        """Take the transactional id, which settles what a predecessor left open, and only then join the group."""
        self._check_topics()
        self._transactor.start()
        self._log.join()
        _log.info("stage %s at %s runs", self._topics.stage, self._topics.party)

    def stop(self) -> None:
        """Ask `run` to end after the current transaction. Fit for a signal handler and for another thread."""
        self._stopping = True

    def close(self) -> None:
        """Let go of everything. What was not committed is done again by whoever comes next."""
        self._transactor.close()
        self._log.close()
        if isinstance(self._worker, ThreadWorker):
            self._worker.close()

    def _check_topics(self) -> None:
        topics = self._topics
        counts: dict[str, int] = {}
        for topic in (
            *topics.inputs,
            topics.state,
            topics.events,
            *filter(None, (topics.registry,)),
            topics.audit,
            topics.dead_letter,
            *filter(None, (topics.results,)),
        ):
            try:
                counts[topic] = self._log.partition_count(topic)
            except LookupError as error:
                raise EngineError(f"there is no topic {topic}: make the party's topics first") from error
        together = {topic: counts[topic] for topic in (*topics.inputs, topics.state)}
        if len(set(together.values())) != 1:
            raise EngineError(f"the stage's inputs and state must have equally many partitions, found {together}")
