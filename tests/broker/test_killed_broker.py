"""What becomes of a decided transaction when the leader of its records is away: its markers are written later.

Releases 4.1 to 4.3 leave them out instead (KAFKA-20734; docs/decisions/0011-kafka-version.md). On one node it takes a
kill in the right milliseconds; with the records on another node than the coordinator it happens each time.
"""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.broker import EmbeddedBroker
from infra.broker.ports import free_ports
from infra.properties import render_properties
from streams.engine.kafka_settings import CLIENT, PRODUCER
from tests.broker.score_books import await_true

TOPIC = "decided"
#: The coordinator is node 1.
LEADER = 2
REQUEST_SECONDS = 30.0


def _second_node(home: Path, first: EmbeddedBroker) -> EmbeddedBroker:
    """A broker without a controller, of the same cluster, not started yet."""
    controllers = "controller.quorum.bootstrap.servers"
    (home / "data").mkdir(parents=True)
    meta = {"version": "1", "cluster.id": _property(first.home / "data" / "meta.properties", "cluster.id")}
    (home / "data" / "meta.properties").write_text(render_properties({**meta, "node.id": str(LEADER)}))
    (port,) = free_ports(str(home), 1)
    properties = {
        "node.id": str(LEADER),
        "process.roles": "broker",
        "listeners": f"CLIENTS://127.0.0.1:{port}",
        "advertised.listeners": f"CLIENTS://127.0.0.1:{port}",
        controllers: _property(first.home / "server.properties", controllers),
    }
    return EmbeddedBroker(home, port, properties=properties, is_open=True)


def _property(file: Path, name: str) -> str:
    lines = (line.partition("=") for line in file.read_text().splitlines())
    return next(value for key, _, value in lines if key == name)


def _ends(bootstrap: str) -> tuple[int, int]:
    """The end of what is written to the topic, and of what is decided."""
    ends = []
    for isolation in ("read_uncommitted", "read_committed"):
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "looks-only", "isolation.level": isolation})
        ends.append(consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), REQUEST_SECONDS)[1])
        consumer.close()
    return ends[0], ends[1]


def test_a_decided_transaction_is_finished_when_the_leader_of_its_records_comes_back(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "first", is_open=True) as first:
        admin = AdminClient({"bootstrap.servers": first.bootstrap})
        properties = {"bootstrap.servers": first.bootstrap, "transactional.id": "writer", **CLIENT, **PRODUCER}
        producer = Producer({**properties, "transaction.timeout.ms": 120_000})
        # Before there is another node, so that the coordinator's own topic is on the first.
        producer.init_transactions(REQUEST_SECONDS)
        with _second_node(tmp_path / "second", first) as second:

            def leader() -> int | None:
                partitions = admin.list_topics(TOPIC, timeout=REQUEST_SECONDS).topics[TOPIC].partitions
                return partitions[0].leader if 0 in partitions else None

            await_true(lambda: LEADER in admin.list_topics(timeout=REQUEST_SECONDS).brokers)
            admin.create_topics([NewTopic(TOPIC, 1, replica_assignment=[[LEADER]])])[TOPIC].result()
            await_true(lambda: leader() == LEADER)
            producer.begin_transaction()
            producer.produce(TOPIC, b"one", partition=0)
            assert producer.flush(REQUEST_SECONDS) == 0
            second.kill()
            await_true(lambda: leader() == -1, lambda: "the controller still believes in the killed node")
            producer.commit_transaction(REQUEST_SECONDS)
            second.start()
            await_true(lambda: leader() == LEADER)
            assert _ends(first.bootstrap)[0] >= 1
            await_true(lambda: len(set(_ends(first.bootstrap))) == 1, lambda: "the record is undecided")
