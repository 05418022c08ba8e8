"""Two parties with homes, keys, topics and running processes: what end-to-end tests of several modules share."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.exits import PARENT_PIPE
from consumers.party import open_party
from consumers.supervisor import PROCESSES
from infra.access_admin import grant_access
from infra.broker import EmbeddedBroker
from infra.federation_local import found_together
from infra.secrets import create_secrets
from infra.settings import PartySettings, load_settings, save_settings
from infra.topic_admin import create_topics
from infra.topics import commands_topic, dead_letter_topic, events_topic, exchange_topic, party_topics, state_topic
from producers.demo_data import DemoTables, breast_cancer
from producers.job_client import JobClient
from producers.job_view import JobView, TaskStatus
from producers.topic_reader import connection_of
from schemas.codec import decode
from schemas.deadletter import DeadLetter
from schemas.engine_states import EngineJob
from schemas.jobs import JobSpec, Leak, PartySpec, Stage, TrainSpec
from schemas.record import Record
from streams.engine.partitioner import partition_of
from streams.engine.state_log import job_key

#: A small job takes about ten seconds on two idle cores; a busy machine gets twenty times that.
DEADLINE_SECONDS = 200.0
LABEL = "malignant"
DATASET = "people"


def read_all(
    broker: str | Mapping[str, Any], places: Collection[tuple[str, int]], isolation: str = "read_committed"
) -> list[Message]:
    """Every record that lies there now; in partitions in the order of the log.

    `broker`: the address of one that is open, or how its administrator connects.
    """
    consumer = Consumer(
        {
            **({"bootstrap.servers": broker} if isinstance(broker, str) else broker),
            "group.id": "tests",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "fetch.wait.max.ms": 20,
        }
    )
    messages: list[Message] = []
    unread = set(places)
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in places])
        while unread:
            assert time.monotonic() < deadline, f"not read to their ends: {unread}"
            for message in consumer.consume(1000, 0.05):
                error = message.error()
                if error is None:
                    messages.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    unread.discard((str(message.topic()), message.partition() or 0))
    finally:
        consumer.close()
    return messages


def await_true(condition: Callable[[], bool], what: str, step: Callable[[], object]) -> None:
    """Look again and again, with `step` in between, until it is so."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to that: {what}"
        step()


@dataclass
class House:
    """One party, its processes and a client of its topics."""

    settings: PartySettings
    client: JobClient
    #: How to read everything.
    reading: Mapping[str, Any]
    supervisor: subprocess.Popen[bytes] | None = None

    @property
    def party(self) -> str:
        return self.settings.party

    @property
    def home(self) -> Path:
        return self.settings.home

    def start(self, *wrapper: str) -> None:
        """Start all processes. `wrapper` is a command that runs the one behind it, with the same process id."""
        command = [*wrapper, sys.executable, "-m", "consumers.supervisor", "--home", str(self.home)]
        (self.home / "log").mkdir(exist_ok=True)
        with (self.home / "log" / "supervisor.log").open("ab") as log:
            self.supervisor = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, PARENT_PIPE: "1"},
            )

    def ask_to_stop(self) -> None:
        """Tell the processes to end, without waiting for them."""
        if self.supervisor is not None:
            self.supervisor.terminate()

    def stop(self) -> None:
        """End all processes, in an orderly way."""
        self.ask_to_stop()
        supervisor = self.supervisor
        if supervisor is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            supervisor.wait(20)
        if supervisor.poll() is None:
            supervisor.kill()
            supervisor.wait()
        if supervisor.stdin is not None:
            supervisor.stdin.close()
        self.supervisor = None

    def journal(self) -> list[dict[str, Any]]:
        """What the supervisor noted about its processes, all runs one after the other."""
        path = self.home / "log" / "supervisor.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def deaths(self) -> list[dict[str, Any]]:
        """Processes that ended without having been asked to."""
        return [entry for entry in self.journal() if entry["what"] == "ended" and entry["exit"] != 0]

    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        return {path.stem: int(path.read_text()) for path in (self.home / "run").glob("*.pid")}

    def log_texts(self) -> dict[str, str]:
        """All log files."""
        return {path.name: path.read_text("utf-8", "replace") for path in (self.home / "log").iterdir()}

    def dead_letters(self) -> list[DeadLetter]:
        """Everything that this party set aside so far."""
        messages = read_all(self.reading, [(dead_letter_topic(self.party), 0)])
        letters = [decode(message.value() or b"") for message in messages]
        return [letter for letter in letters if isinstance(letter, DeadLetter)]

    def events(self, job_id: str) -> list[Record]:
        """What was told about the job inside this party, from the beginning."""
        place = (events_topic(self.party), partition_of(job_id.encode(), self.settings.topics.partitions))
        messages = read_all(self.reading, [place])
        return [decode(message.value() or b"") for message in messages if message.key() == job_id.encode()]

    def states(self, job_id: str) -> dict[Stage, EngineJob]:
        """What each stage's process keeps of the job, opened with the party's own key."""
        keyring = open_party(self.home).keyring
        key = job_key(job_id)
        partition = partition_of(job_id.encode(), self.settings.topics.partitions)
        places = {state_topic(stage, self.party): stage for stage in Stage}
        found: dict[Stage, EngineJob] = {}
        for message in read_all(self.reading, [(topic, partition) for topic in places]):
            if message.key() == key:
                topic = str(message.topic())
                job = decode(keyring.open_state(topic, partition, key, message.value() or b""))
                assert isinstance(job, EngineJob)
                found[places[topic]] = job
        return found

    def unfinished(self, job_id: str) -> list[str]:
        """Stages which still do something for the job, or would still be woken by it."""
        busy = []
        for stage, job in self.states(job_id).items():
            name = "a blob" if job.machine_blob else type(decode(job.machine)).__name__
            if "Ended" not in name or job.timers:
                busy.append(f"{stage} at {self.party}: {name}, timers {[timer.name for timer in job.timers]}")
        return busy


@dataclass
class World:
    """A guest and a host."""

    tables: DemoTables
    guest: House
    host: House

    @property
    def houses(self) -> tuple[House, House]:
        return self.guest, self.host

    def spec(self, *, guest: str = DATASET, host: str = DATASET, **changes: Any) -> JobSpec:
        """A small good job; `guest` and `host` name other datasets, `changes` other fields."""
        spec = JobSpec(
            name="small",
            guest=PartySpec(self.guest.party, guest, self.tables.guest_features),
            label=LABEL,
            hosts=(PartySpec(self.host.party, host, self.tables.host_features),),
            train=TrainSpec(l2=30.0, max_passes=1, coarse_passes=0, rank=6, guest_logit_clip=6.0, host_logit_clip=24.0),
            accept_leaks=(Leak.SMALL_TABLE,),
            deadline_seconds=600,
            patience_seconds=60,
        )
        return replace(spec, **changes)

    def submit(self, spec: JobSpec) -> str:
        """Submit at the guest."""
        return self.guest.client.submit(spec)

    def await_end(self, job_id: str) -> JobView:
        """The guest's view when the job has ended at both parties."""
        for house in self.houses:
            house.client.wait_for(job_id, lambda view: view.ended, DEADLINE_SECONDS)
        return self.view(job_id)

    def run(self, spec: JobSpec) -> JobView:
        """Submit, and wait for the end at the guest."""
        return self.guest.client.wait_for(self.submit(spec), lambda view: view.ended, DEADLINE_SECONDS)

    def view(self, job_id: str) -> JobView:
        """The guest's view."""
        view = self.guest.client.view(job_id)
        assert view is not None
        return view

    def assert_settled(self, job_id: str) -> None:
        """Nothing half-done: no task runs or waits to be woken anywhere, and no process died."""
        left: list[str] = []

        def is_settled() -> bool:
            left[:] = [text for house in self.houses for text in house.unfinished(job_id)]
            return not left

        await_true(is_settled, f"the job {job_id} is over at every stage, but {left}", self.guest.client.poll)
        for house in self.houses:
            view = house.client.views().get(job_id)
            running = [task for task in view.tasks.values() if task.status is TaskStatus.RUNNING] if view else []
            assert running == [], "nobody is told that a task of a job that is over still runs"
            assert house.deaths() == []
            assert house.supervisor is None or set(house.pids()) == set(PROCESSES)

    def input_topics(self) -> list[tuple[House, Stage, str]]:
        """The doors: the topics that others can write to, and the party's own."""
        return [
            (house, stage, name(stage, house.party))
            for house in self.houses
            for stage in Stage
            for name in (commands_topic, exchange_topic)
        ]


def make_home(
    home: Path, party: str, peer: str, broker: EmbeddedBroker, tables: dict[str, pd.DataFrame], label: str | None
) -> None:
    """A home with these tables; with no other approval than that of small tables."""
    (home / "data").mkdir(parents=True)
    datasets: dict[str, Any] = {}
    for name, table in tables.items():
        table.to_csv(home / "data" / f"{name}.csv", index=False)
        datasets[name] = {"path": f"data/{name}.csv", "id": "id", **({"label": label} if label else {})}
    save_settings(
        home,
        {
            "party": party,
            "access": {"kind": "custom"} if broker.is_open else {"kind": "scram", "ca": str(broker.ca_file)},
            "bootstrap_servers": broker.bootstrap,
            "peers": [peer],
            "datasets": datasets,
            "object_store": {"kind": "directory", "path": "objects"},
            "approval": {"auto": True, "accept_leaks": [str(Leak.SMALL_TABLE)]},
        },
    )
    create_secrets(home, party)


@contextlib.contextmanager
def running_world(
    folder: Path,
    broker: EmbeddedBroker,
    parties: tuple[str, str],
    *,
    tables: DemoTables | None = None,
    more: Callable[[DemoTables], tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]] = lambda tables: ({}, {}),
) -> Iterator[World]:
    """Everything set up and started; everything ended afterwards. `more` gives the parties further datasets."""
    tables = tables or breast_cancer(7, 160)
    guest_more, host_more = more(tables)
    guest, host = parties
    homes = {party: folder / party for party in parties}
    make_home(homes[guest], guest, host, broker, {DATASET: tables.guest, **guest_more}, LABEL)
    make_home(homes[host], host, guest, broker, {DATASET: tables.host, **host_more}, None)
    found_together(list(homes.values()), "world")
    with contextlib.ExitStack() as stack:
        houses: list[House] = []
        for party in parties:
            settings = load_settings(homes[party])
            admin = AdminClient(dict(broker.admin_connection))
            create_topics(admin, party_topics(party, settings.topics.partitions), 1)
            if not broker.is_open:
                grant_access(admin, settings)
            client = JobClient(party, connection_of(settings))
            house = House(settings, stack.enter_context(client), broker.admin_connection)
            stack.callback(house.stop)
            house.start()
            houses.append(house)
        for house in houses:
            stack.callback(house.ask_to_stop)
        yield World(tables, houses[0], houses[1])
