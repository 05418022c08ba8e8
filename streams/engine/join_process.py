"""The joiner's process: the loop with its parts, from start to stop."""

from __future__ import annotations

import logging
import time

from streams.engine.errors import EngineError
from streams.engine.join_intake import JoinIntake
from streams.engine.join_loop import MOST_OUTCOMES, POLL_RECORDS, JoinClock, JoinLoop, JoinParts
from streams.engine.join_slices import JoinStateLog, JoinTopics
from streams.engine.messages import MessageSeal
from streams.engine.ports import Log, Worker
from streams.engine.seal import Keyring
from streams.engine.thread_worker import ThreadWorker
from streams.engine.transaction import Transactor
from streams.machines.score.ledger import JoinRules

_log = logging.getLogger(__name__)

#: They take turns, see `Transactor`. More than two save no further wait.
PRODUCERS = 2
#: What the messages of scoring are sealed for.
SEAL_PURPOSE = "score"


class MicroClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Microseconds since 1970."""
        return time.time_ns() // 1_000


class JoinProcess:
    """Joins one party's routed requests with the answers of its hosts.

    >>> JoinProcess(topics, JoinRules("bank"), log, keyring).run()
    """

    def __init__(
        self,
        topics: JoinTopics,
        rules: JoinRules,
        log: Log,
        keyring: Keyring,
        *,
        clock: JoinClock | None = None,
        worker: Worker | None = None,
        transactor: Transactor | None = None,
        state_log: JoinStateLog | None = None,
        poll_records: int = POLL_RECORDS,
        most_outcomes: int = MOST_OUTCOMES,
    ) -> None:
        if not topics.party == keyring.party == rules.party:
            raise ValueError(f"topics of {topics.party!r}, keyring of {keyring.party!r}, rules of {rules.party!r}")
        self._log = log
        self._topics = topics
        self._transactor = transactor or Transactor(log.make_producer, PRODUCERS)
        self._worker = worker or ThreadWorker()
        self._stopping = False
        self.loop = JoinLoop(
            JoinParts(
                topics=topics,
                log=log,
                transactor=self._transactor,
                intake=JoinIntake(topics, MessageSeal(keyring, SEAL_PURPOSE), log.partition_count),
                state_log=state_log or JoinStateLog(topics.state, keyring, rules),
                clock=clock or MicroClock(),
                worker=self._worker,
                poll_records=poll_records,
                most_outcomes=most_outcomes,
            )
        )

    def run(self) -> None:
        """Process until `stop` is called. Raises `EngineError`; whatever it raises, starting again is safe."""
        try:
            self.start()
            while not self._stopping:
                self.loop.turn()
        finally:
            self.close()

    def start(self) -> None:
        """Take the transactional id, which settles what a predecessor left open, and only then join the group."""
        self._check_topics()
        self._transactor.start()
        self._log.join()
        _log.info("the joiner of %s runs", self._topics.party)

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
        for topic in (*topics.inputs, topics.state, topics.results, topics.audit, topics.dead_letter):
            try:
                counts[topic] = self._log.partition_count(topic)
            except LookupError as error:
                raise EngineError(f"there is no topic {topic}: make the party's topics first") from error
        together = {topic: counts[topic] for topic in (*topics.inputs, topics.state, topics.results, topics.audit)}
        if len(set(together.values())) != 1:
            raise EngineError(f"the joiner's topics must have equally many partitions, found {together}")
