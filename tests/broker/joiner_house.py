"""A party with joiner processes on a real broker: its router and host are played here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from consumers.party import open_party
from consumers.score_joiner import join_topics
from infra.broker import EmbeddedBroker
from infra.broker.tools import run_tool
from infra.federation_local import found_together
from infra.secrets import create_secrets
from infra.settings import save_settings
from infra.topic_admin import create_topics
from infra.topics import JOINER, party_topics, transactional_id
from schemas.codec import decode
from schemas.record import Record
from schemas.scoring import (
    AnswerLate,
    Outcome,
    Purpose,
    RoutedScore,
    ScoreAnswer,
    ScoreAudited,
    ScoreJoined,
    ScoreReason,
    ScoresAnswered,
    ScoresRouted,
)
from streams.engine import failpoints
from streams.engine.join_process import SEAL_PURPOSE
from streams.engine.messages import MessageSeal
from streams.engine.partitioner import partition_of
from tests.broker.toy_houses import ROOT
from tests.end_to_end.world import await_true, read_all
from tests.machines.score_bench import answered, refused, routed

PARTITIONS = 2
DEADLINE_SECONDS = 120.0
#: Of requests that are answered: longer than any restart.
PATIENCE_MS = 600_000


@dataclass
class JoinerHouse:
    """The guest's home, its joiners, and what they should tell."""

    broker: EmbeddedBroker
    folder: Path
    guest: str
    host: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    #: (request id, purpose) -> its outcome and reason.
    expected: dict[tuple[str, Purpose], tuple[Outcome, ScoreReason]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for party, peer in ((self.guest, self.host), (self.host, self.guest)):
            save_settings(
                self.folder / party,
                {
                    "party": party,
                    "access": {"kind": "custom"},
                    "bootstrap_servers": self.broker.bootstrap,
                    "peers": [peer],
                },
            )
            create_secrets(self.folder / party, party)
        found_together([self.folder / party for party in (self.guest, self.host)], "joiners")
        create_topics(AdminClient({"bootstrap.servers": self.broker.bootstrap}), party_topics(self.guest, PARTITIONS))
        self.topics = join_topics(self.guest)
        self.seals = {
            party: MessageSeal(open_party(self.folder / party).keyring, SEAL_PURPOSE)
            for party in (self.guest, self.host)
        }
        self.producer = Producer({"bootstrap.servers": self.broker.bootstrap, "enable.idempotence": True})
        self._offsets = [0] * PARTITIONS

    # --- processes ---

    def start(self, slot: int = 0, failpoint: str = "") -> subprocess.Popen[bytes]:
        """Start a joiner, possibly one that is killed at a failpoint."""
        environment = dict(os.environ)
        if failpoint:
            self.marker.touch()
            environment |= {failpoints.POINT_VARIABLE: failpoint, failpoints.MARKER_VARIABLE: str(self.marker)}
        with (self.folder / "joiner.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "consumers.score_joiner",
                    f"--home={self.folder / self.guest}",
                    f"--slot={slot}",
                ],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    @property
    def marker(self) -> Path:
        """There while a failpoint is armed, gone when it was reached."""
        return self.folder / "marker"

    def log_tail(self) -> str:
        return "\n".join((self.folder / "joiner.log").read_text().splitlines()[-20:])

    def stop_all(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- what the router and the host write ---

    def feed(self, first: int, count: int) -> None:
        """So many requests with their answers, and copies of both, as one record a partition."""
        now_ms = time.time_ns() // 1_000_000
        items: list[RoutedScore] = []
        answers: list[ScoreAnswer] = []
        for number in range(first, first + count):
            name = f"request-{number}"
            item = routed(
                name,
                requested_at_ms=now_ms,
                appended_at_ms=now_ms,
                deadline_ms=now_ms + PATIENCE_MS,
                wait_until_ms=now_ms + PATIENCE_MS,
                hosts=(self.host,),
            )
            outcome, reason = Outcome.SCORED, ScoreReason.NONE
            match number % 10:
                case 7:
                    outcome, reason = Outcome.DEGRADED, ScoreReason.LATE
                    item = routed(
                        name, appended_at_ms=now_ms, deadline_ms=now_ms + PATIENCE_MS, wait_until_ms=now_ms + 100,
                        hosts=(self.host,),
                    )  # fmt: skip
                case 8:
                    outcome, reason = Outcome.DEGRADED, ScoreReason.NO_SUCH_PERSON
                    answers.append(refused(reason, name))
                case _:
                    answers.append(answered(name))
            if number % 10 == 3:
                answers.append(answered(name, purpose=Purpose.SHADOW))
                items.append(item)
                item = routed(**{**item.__dict__, "purpose": Purpose.SHADOW})
                self.expected[name, Purpose.SHADOW] = (Outcome.SCORED, ScoreReason.NONE)
            items.append(item)
            self.expected[name, Purpose.LIVE] = (outcome, reason)
        self._write(items, answers)
        if first % 20 == 0:
            self._write(items, answers)
        assert self.producer.flush(DEADLINE_SECONDS) == 0

    def _write(self, items: list[RoutedScore], answers: list[ScoreAnswer]) -> None:
        for partition in range(PARTITIONS):
            own = []
            for item in items:
                if partition_of(item.request_id.encode(), PARTITIONS) == partition:
                    own.append(
                        routed(
                            **{
                                **item.__dict__,
                                "request_partition": partition,
                                "request_offset": self._offsets[partition],
                            }
                        )
                    )
                    self._offsets[partition] += 1
            said = tuple(a for a in answers if partition_of(a.request_id.encode(), PARTITIONS) == partition)
            self._produce(self.guest, self.topics.routed, partition, ScoresRouted(tuple(own)))
            self._produce(self.host, self.topics.answers, partition, ScoresAnswered(said))

    def _produce(self, sender: str, topic: str, partition: int, record: Record) -> None:
        sealed = self.seals[sender].seal(record, self.guest, topic, partition)
        self.producer.produce(topic, sealed, partition=partition)

    # --- what came out ---

    def records(self, topic: str, partitions: int = PARTITIONS) -> list[Record]:
        messages = read_all(self.broker.bootstrap, [(topic, partition) for partition in range(partitions)])
        return [decode(message.value() or b"") for message in messages]

    def results(self) -> list[ScoreJoined]:
        return [record for record in self.records(self.topics.results) if isinstance(record, ScoreJoined)]

    @property
    def live_count(self) -> int:
        """How many results there should be in the end."""
        return sum(purpose is not Purpose.SHADOW for _, purpose in self.expected)

    def await_results(self, count: int) -> None:
        """Until so many results are committed."""
        found = [0]

        def are_there() -> bool:
            found[0] = len(self.results())
            return found[0] >= count

        await_true(are_there, f"{count} results\n{self.log_tail()}", lambda: None)

    def check_done(self) -> None:
        """Wait for everything; then each outcome is there once, in results and audit, and nothing is left open."""
        live = {key: value for key, value in self.expected.items() if key[1] is not Purpose.SHADOW}
        self.await_results(self.live_count)
        results = self.results()
        audit = self.records(self.topics.audit)
        audited = [record for record in audit if isinstance(record, ScoreAudited)]
        assert Counter((each.request_id, each.purpose) for each in results) == dict.fromkeys(live, 1)
        assert {(r.request_id, r.purpose): (r.outcome, r.reason) for r in results} == live
        assert Counter((each.request_id, each.purpose) for each in audited) == dict.fromkeys(self.expected, 1)
        assert {(a.request_id, a.purpose): (a.outcome, a.reason) for a in audited} == self.expected
        points = {(each.request_id, each.purpose): each.points for each in audited}
        assert all(points[each.request_id, each.purpose] == each.points for each in results)
        assert len(audit) == len(audited) + sum(isinstance(record, AnswerLate) for record in audit)
        assert self.records(self.topics.dead_letter, 1) == []
        self.check_rest()

    def check_rest(self) -> None:
        """No transaction is open, as Kafka's own tool tells."""
        own = {name: state for name, state in self.transactions().items() if name.startswith(f"vfl.{self.guest}.")}
        assert own and set(own.values()) <= {"CompleteCommit", "CompleteAbort", "Empty"}, own

    def transactions(self) -> dict[str, str]:
        """The state of every transactional id."""
        listed = run_tool("kafka-transactions", "--bootstrap-server", self.broker.bootstrap, "list")
        return {fields[0]: fields[-1] for line in listed.splitlines()[1:] if (fields := line.split())}

    def transactional_id(self, slot: int = 0) -> str:
        return transactional_id(JOINER, self.guest, slot)
