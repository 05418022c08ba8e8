"""The view of online scoring as a process of its own on a real broker: what it counts, and what it never counts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import AdminClient

from consumers.exits import NEEDS_A_PERSON, ORPHANED, PARENT_PIPE
from infra.broker import EmbeddedBroker
from infra.settings import save_settings
from infra.topics import PARTITIONS, SCORE_VIEW, group_id, results_topic, serving_topic
from schemas.codec import encode
from schemas.record import Record
from schemas.scoring import Outcome, Purpose, ScoreJoined, ScoreReason
from tests.end_to_end.world import read_all
from tests.views.prometheus_text import read_back
from tests.views.score_cases import checked, joined

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 90.0
COMMAND = [sys.executable, "-m", "consumers.score_view"]


@pytest.fixture
def party(
    broker: EmbeddedBroker, new_party: Callable[[str], str], make_party_topics: Callable[..., object], tmp_path: Path
) -> str:
    """A party with topics, and a home in `tmp_path`."""
    name = new_party("viewed")
    make_party_topics(name)
    save_settings(tmp_path, {"party": name, "access": {"kind": "custom"}, "bootstrap_servers": broker.bootstrap})
    return name


@pytest.fixture
def writer(broker: EmbeddedBroker, party: str) -> Producer:
    """A transactional producer, as the joiner's."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": f"vfl.{party}.test.0"})
    producer.init_transactions(60)
    return producer


@contextmanager
def running_view(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    (home / "run" / "score-view.url").unlink(missing_ok=True)
    with (home / "view.log").open("ab") as log:
        process = subprocess.Popen(
            [*COMMAND, "--home", str(home)],
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


def write(writer: Producer, topic: str, *records: Record | bytes, abort: bool = False, at_ms: int = 0) -> None:
    """The records in one transaction. All of them reach the log, also those of a transaction that is aborted."""
    writer.begin_transaction()
    for number, record in enumerate(records):
        value = encode(record) if isinstance(record, Record) else record
        writer.produce(topic, value, b"k%d" % number, timestamp=at_ms)
    assert writer.flush(60) == 0
    if abort:
        writer.abort_transaction(60)
    else:
        writer.commit_transaction(60)


def now_us() -> int:
    return time.time_ns() // 1000


def look(home: Path, page: str) -> bytes:
    url = (home / "run" / "score-view.url").read_text().strip()
    with urllib.request.urlopen(f"{url}/{page}", timeout=30) as answer:
        content: bytes = answer.read()
        return content


def await_json(
    home: Path, view: subprocess.Popen[bytes], condition: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """What the view serves, as soon as it is so."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    told: dict[str, Any] = {}
    while time.monotonic() < deadline and view.poll() is None:
        if (home / "run" / "score-view.url").exists():
            told = json.loads(look(home, "score.json"))
            if condition(told):
                return told
    pytest.fail(f"the view did not come to that: {json.dumps(told)}\n{(home / 'view.log').read_text()}")


def of_risk(told: dict[str, Any], window: str = "15m") -> dict[str, Any]:
    (found,) = [one for one in told["models"] if (one["model"], one["version"]) == ("risk", "1")]
    summary = found["windows"][window]
    assert isinstance(summary, dict)
    return summary


def some_results(count: int, **changes: Any) -> list[ScoreJoined]:
    return [joined(now_us(), request_id=f"r{i}", points=(550, 590, 630, 700)[i % 4], **changes) for i in range(count)]


def test_committed_results_are_counted_and_aborted_ones_never(
    broker: EmbeddedBroker, party: str, writer: Producer, tmp_path: Path
) -> None:
    results = results_topic(party)
    write(writer, serving_topic(party), checked())
    write(writer, results, *some_results(100))
    refused = joined(now_us(), outcome=Outcome.REFUSED, reason=ScoreReason.OVERLOADED, party=party, points=None)
    with running_view(tmp_path) as view:
        await_json(tmp_path, view, lambda told: told["results"] == 100)
        write(writer, results, *[refused] * 7, abort=True)
        write(writer, results, b"not a record", *some_results(3, purpose=Purpose.PARITY))
        late = {"outcome": Outcome.DEGRADED, "reason": ScoreReason.LATE, "party": "bureau"}
        write(writer, results, *some_results(5, **late))
        told = await_json(tmp_path, view, lambda told: told["results"] == 108)
        metrics = read_back(look(tmp_path, "metrics"))
    summary = of_risk(told)
    assert summary["outcomes"] == [
        {"outcome": "degraded", "reason": "late", "party": "bureau", "count": 5},
        {"outcome": "scored", "reason": "none", "party": "", "count": 100},
    ]
    assert summary["hosts"]["bureau"]["missed"] == 5
    assert summary["drift"] == {"stability_index": 0.0, "standing": "stable", "rows": 100}
    assert summary["latency_ms"]["routed_answered"]["p50"] == pytest.approx(2, rel=0.01)
    assert sum(metrics["isthmus_score_outcomes_total"].values()) == 105
    assert "not Avro single-object encoding" in (tmp_path / "view.log").read_text()

    in_the_log = read_all(broker.bootstrap, [(results, p) for p in range(PARTITIONS)], "read_uncommitted")
    assert [message.value() for message in in_the_log].count(encode(refused)) == 7


def test_a_killed_view_has_its_windows_again_and_what_is_older_is_not_read(
    admin: AdminClient, party: str, writer: Producer, tmp_path: Path
) -> None:
    """Though the group's position is behind all of them."""
    results = results_topic(party)
    old_ms = now_us() // 1000 - 20 * 60_000
    write(writer, serving_topic(party), checked())
    write(writer, results, *[joined(old_ms * 1000)] * 8, at_ms=old_ms)
    write(writer, results, *some_results(20))
    with running_view(tmp_path) as view:
        told = await_json(tmp_path, view, lambda told: told["results"] == 20)
        before = of_risk(told)
        await_position(admin, party, 20)
        os.kill(view.pid, signal.SIGKILL)
        assert view.wait() == -signal.SIGKILL
    with running_view(tmp_path) as view:
        told = await_json(tmp_path, view, lambda told: told["results"] == 20 and of_risk(told)["drift"]["rows"] == 20)
        assert of_risk(told)["outcomes"] == before["outcomes"]
        assert of_risk(told)["latency_ms"] == before["latency_ms"]
        write(writer, results, *some_results(4))
        await_json(tmp_path, view, lambda told: told["results"] == 24)
        view.terminate()
        assert view.wait(DEADLINE_SECONDS) == 0


def await_position(admin: AdminClient, party: str, records: int) -> None:
    """Until the view has committed positions behind so many records."""
    group = group_id(SCORE_VIEW, party)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result()
        places = [place for place in answer.topic_partitions or () if place.topic == results_topic(party)]
        if sum(max(0, place.offset) for place in places) >= records:
            return
    pytest.fail("the view did not commit its position")


def test_the_view_ends_with_its_supervisor(party: str, tmp_path: Path) -> None:
    with running_view(tmp_path) as view:
        await_json(tmp_path, view, lambda told: told["party"] == party)
        assert view.stdin is not None
        view.stdin.close()
        # In order, or by force where a busy machine takes long over it.
        assert view.wait(DEADLINE_SECONDS) in (0, ORPHANED), (tmp_path / "view.log").read_text()
        view.stdin = None


def test_settings_that_cannot_be_honoured_and_a_taken_port_need_a_person(tmp_path: Path) -> None:
    def complaint(*arguments: str) -> str:
        command = [*COMMAND, "--home", str(tmp_path), *arguments]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == NEEDS_A_PERSON
        return ended.stderr

    assert "isthmus party init" in complaint()
    settings: dict[str, Any] = {"party": "acme", "access": {"kind": "custom"}, "bootstrap_servers": "127.0.0.1:9"}
    save_settings(tmp_path, settings)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot serve on port {port}" in complaint("--http-port", port)
    (tmp_path / "party.yaml").unlink()
    save_settings(tmp_path, {**settings, "kafka": {"security.protocol": "SSL"}})
    assert "security.protocol" in complaint()
