"""The embedded broker survives what happens to it, and leaves nobody behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.broker import BrokerError, EmbeddedBroker, run_tool


def test_a_killed_broker_returns_with_its_records_on_its_port(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, is_open=True).start()
    try:
        address, first_pid = broker.bootstrap, broker.pid
        admin = AdminClient({"bootstrap.servers": address})
        admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result()
        producer = Producer({"bootstrap.servers": address, "acks": "all"})
        producer.produce("kept", b"before the crash")
        assert producer.flush(30) == 0

        broker.kill()
        assert not broker.is_running
        broker.start()

        assert broker.bootstrap == address
        assert broker.pid != first_pid
        consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "auto.offset.reset": "earliest"})
        consumer.assign([TopicPartition("kept", 0, 0)])
        message = consumer.poll(30)
        consumer.close()
        assert message is not None
        assert message.value() == b"before the crash"
    finally:
        broker.stop()


def test_nobody_is_left_behind_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; from infra.broker import EmbeddedBroker\n"
        "print(EmbeddedBroker(pathlib.Path(sys.argv[1])).start().pid, flush=True)\n"
        "sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    broker = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    broker.wait(timeout=30)
    parent.stdin.close()
    parent.stdout.close()


def test_it_listens_on_loopback_only(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    listening = [c.laddr.ip for c in psutil.Process(broker.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert len(listening) == 2
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} .* is taken"):
            EmbeddedBroker(tmp_path, port, is_open=True).start()


def test_a_broker_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, is_open=True).start()
    broker.stop()
    identity = tmp_path / "data" / "meta.properties"
    identity.write_text(identity.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(BrokerError, match=r"ended with code 1\. The end of .*broker\.log:(.|\n)*node"):
        broker.start()
    assert not broker.is_running


def test_a_broker_that_does_not_answer_in_time_is_ended_and_shows_its_log(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, is_open=True)
    with pytest.raises(BrokerError, match=r"did not answer on port \d+ in 0 s\. The end of"):
        broker.start(deadline_seconds=0)
    assert not broker.is_running
    assert broker.pid is None


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    with pytest.raises(BrokerError, match="cannot use the folder"):
        EmbeddedBroker(occupied, is_open=True).start()


def test_topics_come_from_the_catalogue_only(broker: EmbeddedBroker, admin: AdminClient) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 2000})
    outcomes: list[object] = []
    producer.produce("never-made", b"lost", on_delivery=lambda error, _: outcomes.append(error))
    assert producer.flush(30) == 0
    assert outcomes[0] is not None
    assert "never-made" not in admin.list_topics(timeout=10).topics


def test_stock_tools_run_from_the_same_jars(broker: EmbeddedBroker, admin: AdminClient) -> None:
    admin.create_topics([NewTopic("seen-by-tools", 3, 1)])["seen-by-tools"].result()
    text = run_tool("kafka-topics", "--bootstrap-server", broker.bootstrap, "--describe", "--topic", "seen-by-tools")
    assert "PartitionCount: 3" in text
    assert os.linesep in text
