"""Two parties with toy processes on a real broker: start, kill, pause, submit, wait, and check what came out."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.broker import EmbeddedBroker
from infra.broker.tools import run_tool
from infra.topic_admin import create_topics
from infra.topics import commands_topic, dead_letter_topic, events_topic, party_topics, transactional_id
from schemas.codec import decode, encode
from schemas.record import Record
from streams.engine import failpoints
from tests.broker.toy_process import ToySettings
from tests.simulation.toy import STAGE, ToyDone, ToyStart, make_payload, register_toys

ROOT = Path(__file__).parents[2]
ROUNDS = 4
PAYLOAD_BYTES = 600
DEADLINE_SECONDS = 120.0


@dataclass
class ToyProcess:
    """A child process and its log."""

    settings: ToySettings
    log: Path
    child: subprocess.Popen[bytes]

    @property
    def transactional_id(self) -> str:
        return transactional_id(STAGE, self.settings.party, self.settings.slot)

    def wait(self) -> int:
        """The exit code, once it has ended by itself or been killed."""
        return self.child.wait(DEADLINE_SECONDS)

    def send(self, number: int) -> None:
        self.child.send_signal(number)

    def await_stopped(self) -> None:
        """Until the kernel says that it is paused."""
        _, status = os.waitpid(self.child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"it ended with status {status}: {self.tail()}"

    def await_log(self, *texts: str) -> None:
        """Until the process has logged one of these."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not any(text in self.log.read_text() for text in texts):
            assert time.monotonic() < deadline, f"none of {texts} is in the log: {self.tail()}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(0.05)
                raise AssertionError(f"it ended before it logged any of {texts}: {self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text().splitlines()[-20:])


@dataclass
class Houses:
    """The guest's and the host's processes, and a look at their topics."""

    broker: EmbeddedBroker
    home: Path
    guest: str
    host: str
    partitions: int = 2
    options: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        register_toys()
        self.admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        for party in (self.guest, self.host):
            create_topics(self.admin, party_topics(party, self.partitions))
        self.processes: list[ToyProcess] = []
        #: What was submitted: job id -> rounds.
        self.jobs: dict[str, int] = {}

    # --- processes ---

    def start(
        self, party: str, slot: int = 0, failpoint: str = "", signal_name: str = "SIGKILL", **options: object
    ) -> ToyProcess:
        """Start a process, possibly one that is killed or paused at a failpoint."""
        number = len(self.processes)
        environment = dict(os.environ)
        if failpoint:
            self.marker.touch()
            environment |= {
                failpoints.POINT_VARIABLE: failpoint,
                failpoints.MARKER_VARIABLE: str(self.marker),
                failpoints.SIGNAL_VARIABLE: signal_name,
            }
        settings = ToySettings(
            bootstrap=self.broker.bootstrap,
            party=party,
            parties=(self.guest, self.host),
            store=str(self.home / party),
            slot=slot,
            **{**self.options, **options},  # type: ignore[arg-type]
        )
        log = self.home / f"{party}-{number}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.broker.toy_process", settings.to_json()],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
            )
        process = ToyProcess(settings, log, child)
        self.processes.append(process)
        return process

    @property
    def marker(self) -> Path:
        """There while a failpoint is armed, gone when it was reached."""
        return self.home / "marker"

    def stop_all(self) -> None:
        for process in self.processes:
            if process.child.poll() is None:
                process.send(signal.SIGCONT)
                process.send(signal.SIGTERM)
        for process in self.processes:
            try:
                process.child.wait(20)
            except subprocess.TimeoutExpired:
                process.child.kill()
                process.child.wait()

    # --- jobs ---

    def submit(self, *job_ids: str, rounds: int = ROUNDS) -> None:
        producer = Producer({"bootstrap.servers": self.broker.bootstrap})
        for job_id in job_ids:
            start = ToyStart(job_id, self.host, rounds, PAYLOAD_BYTES)
            producer.produce(commands_topic(STAGE, self.guest), encode(start), job_id.encode())
            self.jobs[job_id] = rounds
        assert producer.flush(DEADLINE_SECONDS) == 0

    def await_done(self, *job_ids: str, restart_codes: tuple[int, ...] = ()) -> None:
        """Until both parties have told the end of these jobs; processes that end with these codes are started again."""
        waiting = {(party, job_id) for party in (self.guest, self.host) for job_id in job_ids}
        reader = self._reader("read_committed", [events_topic(party) for party in (self.guest, self.host)])
        deadline = time.monotonic() + DEADLINE_SECONDS
        try:
            while waiting:
                if time.monotonic() > deadline:
                    tails = "\n".join(process.tail() for process in self.processes[-3:])
                    raise AssertionError(f"no end of {waiting}\n{tails}")
                message = reader.poll(0.5)
                if message is not None and message.error() is None:
                    record = decode(message.value() or b"")
                    assert isinstance(record, ToyDone)
                    waiting.discard((record.party, record.job_id))
                for process in [p for p in self.processes if p.child.poll() in restart_codes]:
                    self.processes.remove(process)
                    self.start(process.settings.party, process.settings.slot)
        finally:
            reader.close()

    def await_record(self, topic: str) -> None:
        """Until something is committed to a topic."""
        reader = self._reader("read_committed", [topic])
        deadline = time.monotonic() + DEADLINE_SECONDS
        try:
            while (message := reader.poll(0.5)) is None or message.error() is not None:
                assert time.monotonic() < deadline, f"nothing came to {topic}"
        finally:
            reader.close()

    # --- what came out ---

    def check_jobs(self) -> None:
        """Recompute every job from its input, without the engine: each once at both parties, and nothing else."""
        told: Counter[tuple[str, str]] = Counter()
        for party in (self.guest, self.host):
            for record in self.records(events_topic(party)):
                assert isinstance(record, ToyDone)
                told[party, record.job_id] += 1
                expected = recompute(self.jobs[record.job_id], is_guest=party == self.guest)
                assert (record.count, record.digest) == expected, record
            assert self.records(dead_letter_topic(party)) == []
        assert told == {(party, job_id): 1 for party in (self.guest, self.host) for job_id in self.jobs}

    def check_done(self) -> None:
        """The jobs are in order, and nothing is left open."""
        self.check_jobs()
        self.check_rest()

    def check_rest(self) -> None:
        """No transaction is open, as Kafka's own tool tells."""
        states = self.transactions()
        for party in (self.guest, self.host):
            own = {name: state for name, state in states.items() if name.startswith(f"vfl.{party}.")}
            assert own and set(own.values()) <= {"CompleteCommit", "CompleteAbort", "Empty"}, own

    def transactions(self) -> dict[str, str]:
        """The state of every transactional id."""
        listed = run_tool("kafka-transactions", "--bootstrap-server", self.broker.bootstrap, "list")
        return {fields[0]: fields[-1] for line in listed.splitlines()[1:] if (fields := line.split())}

    def await_transaction(self, transactional_id: str, state: str) -> None:
        """Until the broker tells this state of the id's transaction."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (found := self.transactions().get(transactional_id)) != state:
            assert time.monotonic() < deadline, f"{transactional_id}: {found}, not {state}"

    def records(self, topic: str, isolation: str = "read_committed") -> list[Record]:
        return [decode(message.value() or b"") for message in self.messages(topic, isolation)]

    def messages(self, topic: str, isolation: str = "read_committed") -> list[Message]:
        """Everything in a topic up to its end."""
        reader = self._reader(isolation, [topic])
        left = set(range(self.admin_partitions(topic)))
        found = []
        deadline = time.monotonic() + DEADLINE_SECONDS
        try:
            while left:
                assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
                message = reader.poll(0.5)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
        finally:
            reader.close()
        return found

    def admin_partitions(self, topic: str) -> int:
        return len(self.admin.list_topics(topic, timeout=20).topics[topic].partitions)

    def _reader(self, isolation: str, topics: list[str]) -> Consumer:
        reader = Consumer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "group.id": "toy-readers",
                "isolation.level": isolation,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        reader.assign(
            [
                TopicPartition(topic, p, OFFSET_BEGINNING)
                for topic in topics
                for p in range(self.admin_partitions(topic))
            ]
        )
        return reader


def recompute(rounds: int, *, is_guest: bool) -> tuple[int, bytes]:
    """What a party must have counted and hashed in a job."""
    payloads = [make_payload(number, PAYLOAD_BYTES) for number in range(rounds)]
    at_host = [hashlib.sha256(b"".join(payloads[: number + 1])).digest() for number in range(rounds)]
    if not is_guest:
        return rounds, at_host[-1]
    digest = b""
    for answer in at_host:
        digest = hashlib.sha256(digest + answer).digest()
    return rounds, digest
