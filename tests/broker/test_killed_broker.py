"""What becomes of a decided transaction when the leader of its records is away: its markers are written later.

Releases 4.1 to 4.3 leave them out instead (KAFKA-20734; docs/decisions/0011-kafka-version.md). On one node it takes a
kill in the right milliseconds; with the records on another node than the coordinator it happens each time.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.broker import EmbeddedBroker
from infra.broker.configuration import render_properties, server_properties
from infra.broker.jars import fetch_jars
from infra.broker.java import FIRST_COMPILER_ONLY, java_command
from infra.broker.ports import free_ports
from streams.engine.kafka_settings import CLIENT, PRODUCER

TOPIC = "decided"
COORDINATOR, LEADER = 1, 2
REQUEST_SECONDS = 30.0
#: Written markers show within a second of the node's return.
SETTLE_SECONDS = 20.0
LOOK_SECONDS = 0.2


class _SecondNode:
    """A broker without a controller, of the same cluster."""

    def __init__(self, home: Path, first: EmbeddedBroker) -> None:
        self._jars = fetch_jars()
        self._home = home
        home.mkdir()
        controller = (first.home / "server.properties").read_text()
        told = dict(line.split("=", 1) for line in controller.splitlines() if "=" in line)
        (port,) = free_ports(str(home), 1)
        properties = server_properties(home / "data", port, 0) | {
            "node.id": str(LEADER),
            "process.roles": "broker",
            "listeners": f"CLIENTS://127.0.0.1:{port}",
            "advertised.listeners": f"CLIENTS://127.0.0.1:{port}",
            "controller.quorum.bootstrap.servers": told["controller.quorum.bootstrap.servers"],
        }
        (home / "server.properties").write_text(render_properties(properties))
        meta = (first.home / "data" / "meta.properties").read_text()
        cluster = next(line.split("=", 1)[1] for line in meta.splitlines() if line.startswith("cluster.id="))
        words = ("format", "-t", cluster, "-c", str(home / "server.properties"))
        subprocess.run(
            java_command(self._jars, "kafka.tools.StorageTool", *words, options=(FIRST_COMPILER_ONLY,)),
            check=True,
            capture_output=True,
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = (FIRST_COMPILER_ONLY, "-Xmx256m", f"-Dkafka.logs.dir={self._home}")
        command = java_command(self._jars, "kafka.Kafka", str(self._home / "server.properties"), options=options)
        with (self._home / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        assert self._process.wait() == -9


@contextmanager
def _second_node(home: Path, first: EmbeddedBroker) -> Iterator[_SecondNode]:
    node = _SecondNode(home, first)
    node.start()
    try:
        yield node
    finally:
        node.kill()


def _await(is_so: Callable[[], bool], seconds: float = REQUEST_SECONDS) -> bool:
    pause = threading.Event()
    for _ in range(int(seconds / LOOK_SECONDS)):
        if is_so():
            return True
        pause.wait(LOOK_SECONDS)
    return False


def _ends(bootstrap: str) -> tuple[int, int]:
    """The end of what is written to the topic, and of what is decided."""
    ends = []
    for isolation in ("read_uncommitted", "read_committed"):
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "looks-only", "isolation.level": isolation})
        ends.append(consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), REQUEST_SECONDS)[1])
        consumer.close()
    return ends[0], ends[1]


def test_a_decided_transaction_is_finished_when_the_leader_of_its_records_comes_back(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "first") as first:
        admin = AdminClient({"bootstrap.servers": first.bootstrap})
        properties = {"bootstrap.servers": first.bootstrap, "transactional.id": "writer", **CLIENT, **PRODUCER}
        producer = Producer({**properties, "transaction.timeout.ms": 120_000})
        # Before there is another node, so that the coordinator's own topic is on the first.
        producer.init_transactions(REQUEST_SECONDS)
        with _second_node(tmp_path / "second", first) as second:

            def leader() -> int | None:
                partitions = admin.list_topics(TOPIC, timeout=REQUEST_SECONDS).topics[TOPIC].partitions
                return partitions[0].leader if 0 in partitions else None

            assert _await(lambda: LEADER in admin.list_topics(timeout=REQUEST_SECONDS).brokers)
            admin.create_topics([NewTopic(TOPIC, 1, replica_assignment=[[LEADER]])])[TOPIC].result()
            assert _await(lambda: leader() == LEADER)
            producer.begin_transaction()
            producer.produce(TOPIC, b"one", partition=0)
            assert producer.flush(REQUEST_SECONDS) == 0
            second.kill()
            assert _await(lambda: leader() == -1), "the controller still believes in the killed node"
            producer.commit_transaction(REQUEST_SECONDS)
            second.start()
            assert _await(lambda: leader() == LEADER)
            assert _ends(first.bootstrap)[0] >= 1
            assert _await(lambda: len(set(_ends(first.bootstrap))) == 1, SETTLE_SECONDS), "the record is undecided"
