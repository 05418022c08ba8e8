"""The live view as a process of its own on a real broker: what it follows, what it never shows, what a kill changes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.exits import NEEDS_A_PERSON, ORPHANED, PARENT_PIPE
from consumers.supervisor import VIEW
from infra.broker import EmbeddedBroker
from infra.settings import save_settings
from infra.topics import events_topic, group_id, view_topic
from schemas.codec import decode, encode
from schemas.jobs import (
    JobAccepted,
    JobFailed,
    JobResumed,
    JobSpec,
    JobSucceeded,
    JobSuspended,
    PartySpec,
    Reason,
    Role,
    Stage,
    StageStarted,
)
from schemas.record import Record
from schemas.tasks import TaskProgressed, TaskResumed, TaskStarted, TaskSucceeded, TaskSuspended
from schemas.views import JobStatus
from streams.views.job_status import Place, apply_event

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 90.0
#: As a foreign consumer has it: the published file, and nothing else of ours.
VIEW_SCHEMA = fastavro.parse_schema(json.loads((ROOT / "schemas/avro/JobStatus/1.avsc").read_text()))
JOB = "job-1"


@pytest.fixture
def party(
    broker: EmbeddedBroker,
    new_party: Callable[[str], str],
    make_party_topics: Callable[..., object],
    tmp_path: Path,
) -> str:
    """A party with topics, and a home in `tmp_path`."""
    name = new_party("viewed")
    make_party_topics(name)
    save_settings(tmp_path, {"party": name, "access": {"kind": "custom"}, "bootstrap_servers": broker.bootstrap})
    return name


@pytest.fixture
def writer(broker: EmbeddedBroker, party: str) -> Producer:
    """A transactional producer, as the engine's."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": f"vfl.{party}.test.0"})
    producer.init_transactions(60)
    return producer


@contextmanager
def running_view(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (home / "view.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "consumers.view", "--home", str(home)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, PARENT_PIPE: "1"},
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def write(writer: Producer, party: str, *events: Record | bytes, abort: bool = False) -> None:
    """The events in one transaction. All of them reach the log, also those of a transaction that is aborted."""
    writer.begin_transaction()
    for event in events:
        writer.produce(events_topic(party), encode(event) if isinstance(event, Record) else event, JOB.encode())
    assert writer.flush(60) == 0
    if abort:
        writer.abort_transaction(60)
    else:
        writer.commit_transaction(60)


def read(
    bootstrap: str,
    topic: str,
    isolation: str,
    until: Callable[[Message], bool],
    why: Callable[[], str] = str,
    process: subprocess.Popen[bytes] | None = None,
) -> None:
    """Feed `until` every record of the topic from the beginning on, until it says so.

    Fails at the deadline, or when the process that was to write ended.
    """
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "isolation.level": isolation})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None and until(message):
                return
            if process is not None and process.poll() is not None:
                break
    finally:
        consumer.close()
    pytest.fail(f"{topic} did not come to what was awaited:\n{why()}")


def follow_view(
    broker: EmbeddedBroker,
    party: str,
    home: Path,
    view: subprocess.Popen[bytes],
    until: Callable[[dict[str, Any]], bool],
) -> list[dict[str, Any]]:
    """Every status of the job that the view wrote, up to the first one that `until` accepts."""
    seen: list[dict[str, Any]] = []

    def look(message: Message) -> bool:
        value = message.value()
        assert isinstance(value, bytes)
        status = fastavro.schemaless_reader(io.BytesIO(value[10:]), VIEW_SCHEMA, None)
        assert isinstance(status, dict)
        assert message.key() == status["job_id"].encode()
        seen.append(status)
        return until(status)

    read(broker.bootstrap, view_topic(party), "read_committed", look, (home / "view.log").read_text, view)
    return seen


def fold_events(broker: EmbeddedBroker, party: str, last: type[Record]) -> dict[str, Any]:
    """What a fold over all committed events up to the first one of type `last` gives, without faust or restarts."""
    status: JobStatus | None = None

    def look(message: Message) -> bool:
        nonlocal status
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None and offset is not None and isinstance(value, bytes)
        event = decode(value)
        status = apply_event(status, event, Place(partition, offset, message.timestamp()[1]), party)
        return isinstance(event, last)

    read(broker.bootstrap, events_topic(party), "read_committed", look)
    assert status is not None
    return as_read(status)


def as_read(status: JobStatus) -> dict[str, Any]:
    found = asdict(status)
    found["tasks"] = [{**task, "marks": list(task["marks"])} for task in found["tasks"]]
    return found


def await_position(admin: AdminClient, party: str, offset: int) -> None:
    """Until the view has committed its position behind the job's event at `offset`."""
    request = ConsumerGroupTopicPartitions(group_id("view", party))
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        answer = admin.list_consumer_group_offsets([request])[group_id("view", party)].result()
        if any(place.offset > offset for place in answer.topic_partitions or ()):
            return
    pytest.fail("the view did not commit its position")


def accepted(party: str) -> JobAccepted:
    spec = JobSpec("churn", PartySpec(party, "customers"), "churned", (PartySpec("other", "visits"),))
    return JobAccepted(JOB, party, Role.GUEST, spec, None)


def progressed(party: str, done: int) -> TaskProgressed:
    return TaskProgressed(JOB, Stage.TRAIN, party, done, 10, "passes", f"pass {done}")


def task_of(status: dict[str, Any]) -> dict[str, Any]:
    (task,) = status["tasks"]
    assert isinstance(task, dict)
    return task


def test_the_view_follows_committed_events_and_never_shows_aborted_ones(
    broker: EmbeddedBroker, party: str, writer: Producer, tmp_path: Path
) -> None:
    write(writer, party, accepted(party), StageStarted(JOB, party, Stage.TRAIN), TaskStarted(JOB, Stage.TRAIN, party))
    write(writer, party, progressed(party, 3))
    with running_view(tmp_path) as view:
        follow_view(broker, party, tmp_path, view, lambda status: any(task["done"] == 3 for task in status["tasks"]))
        aborted = JobFailed(JOB, party, Reason.INTERNAL_ERROR, party, "never happened")
        write(writer, party, progressed(party, 9), aborted, abort=True)
        write(writer, party, b"not a record", progressed(party, 4))
        write(writer, party, TaskSuspended(JOB, Stage.TRAIN, party, Reason.PEER_SILENT, "other"))
        write(writer, party, JobSuspended(JOB, party, Stage.TRAIN, Reason.PEER_SILENT, "other"))
        seen = follow_view(broker, party, tmp_path, view, lambda status: status["standing"] == "suspended")
    assert seen[-1]["blame"] == "other"
    assert (task_of(seen[-1])["standing"], task_of(seen[-1])["done"]) == ("suspended", 4)
    assert {task["done"] for status in seen for task in status["tasks"]} == {0, 3, 4}
    assert "failed" not in {status["standing"] for status in seen}
    assert "not Avro single-object encoding" in (tmp_path / "view.log").read_text()

    in_the_log: dict[int, bytes] = {}

    def note(message: Message) -> bool:
        offset, value = message.offset(), message.value()
        assert offset is not None and isinstance(value, bytes)
        in_the_log[offset] = value
        return value == encode(JobSuspended(JOB, party, Stage.TRAIN, Reason.PEER_SILENT, "other"))

    read(broker.bootstrap, events_topic(party), "read_uncommitted", note)
    offset_of = {value: offset for offset, value in in_the_log.items()}
    assert offset_of[encode(progressed(party, 3))] < offset_of[encode(aborted)] < seen[-1]["event_offset"]


def test_silence_is_shown_until_the_supervisor_is_gone(
    broker: EmbeddedBroker, party: str, writer: Producer, tmp_path: Path
) -> None:
    write(writer, party, accepted(party))
    with running_view(tmp_path) as view:
        seen = follow_view(broker, party, tmp_path, view, lambda status: status["silent_seconds"] > 0)
        assert view.stdin is not None
        view.stdin.close()
        # In order, or by force where a busy machine takes long over it.
        assert view.wait(DEADLINE_SECONDS) in (0, ORPHANED), (tmp_path / "view.log").read_text()
        view.stdin = None
    assert {**seen[-1], "silent_seconds": 0.0} == seen[0]


def test_a_killed_view_goes_on_to_the_same_status(
    broker: EmbeddedBroker, admin: AdminClient, party: str, writer: Producer, tmp_path: Path
) -> None:
    """Once with its position not committed, so that events come again; once with it, so that only its topic tells."""
    write(writer, party, accepted(party), StageStarted(JOB, party, Stage.TRAIN), TaskStarted(JOB, Stage.TRAIN, party))
    write(writer, party, progressed(party, 1))
    with running_view(tmp_path) as view:
        follow_view(broker, party, tmp_path, view, lambda status: any(task["done"] == 1 for task in status["tasks"]))
        os.kill(view.pid, signal.SIGKILL)
        assert view.wait() == -signal.SIGKILL
    write(writer, party, TaskSuspended(JOB, Stage.TRAIN, party, Reason.PEER_SILENT, "other"))
    write(writer, party, JobSuspended(JOB, party, Stage.TRAIN, Reason.PEER_SILENT, "other"))
    with running_view(tmp_path) as view:
        seen = follow_view(broker, party, tmp_path, view, lambda status: status["standing"] == "suspended")
        assert seen[-1] == fold_events(broker, party, JobSuspended)
        await_position(admin, party, seen[-1]["event_offset"])
        os.kill(view.pid, signal.SIGKILL)
        assert view.wait() == -signal.SIGKILL
    write(writer, party, progressed(party, 7), abort=True)
    write(writer, party, TaskResumed(JOB, Stage.TRAIN, party), JobResumed(JOB, party, Stage.TRAIN))
    write(writer, party, TaskSucceeded(JOB, Stage.TRAIN, party, 1, 2, 3, 4, ()), JobSucceeded(JOB, party))
    with running_view(tmp_path) as view:
        seen = follow_view(broker, party, tmp_path, view, lambda status: status["standing"] == "succeeded")
        assert seen[-1] == fold_events(broker, party, JobSucceeded)
        view.terminate()
        assert view.wait(DEADLINE_SECONDS) == 0
    offsets = [status["event_offset"] for status in seen]
    assert offsets == sorted(offsets), "no reader was ever shown an older status after a newer one"


def test_settings_that_are_missing_or_cannot_be_honoured_need_a_person(tmp_path: Path) -> None:
    command = [sys.executable, *VIEW["view"], "--home", str(tmp_path)]
    for complaint in ("isthmus party init", "security.protocol"):
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == NEEDS_A_PERSON
        assert complaint in ended.stderr
        if complaint == "isthmus party init":
            kafka = {"security.protocol": "SSL"}
            save_settings(
                tmp_path,
                {"party": "acme", "access": {"kind": "custom"}, "bootstrap_servers": "127.0.0.1:9", "kafka": kafka},
            )
