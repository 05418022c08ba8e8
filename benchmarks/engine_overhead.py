"""What the engine adds to a protocol: rounds of a job whose arithmetic is nothing, on a real broker.

A round is a record from guest to host and its answer: two hops, each of them opened, stepped, sealed and committed in a
transaction with its state, its checkpoint and its offset. Limit: 15 ms a round. Beside it, in the same run, the least
that Kafka itself can do: two plain hops without transactions, state or encryption.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks._echo import GUEST, HOST, STAGE, EchoRound, EchoStart, register_records
from infra.access import access_rules, principal_name
from infra.access_admin import apply_rules, set_passwords
from infra.broker import EmbeddedBroker
from infra.connection import MECHANISM
from infra.properties import render_properties
from infra.topic_admin import create_topics
from infra.topics import commands_topic, events_topic, exchange_topic, party_topics
from schemas.codec import decode, encode

LIMIT_MS = 15.0
ROUNDS = 500
#: Rounds at the start that are not counted: connections, caches, the first transaction.
WARM_UP = 50
DEADLINE_SECONDS = 120.0


def run() -> dict[str, Any]:
    """Milliseconds a round, on a guarded broker and on an open one, and two plain hops on an open one."""
    register_records()
    guarded, _ = _measure(is_open=False)
    rounds, plain = _measure(is_open=True)
    return {
        "rounds": len(rounds),
        "engine_ms": _percentiles(guarded),
        "limit_ms": LIMIT_MS,
        "engine_open_ms": _percentiles(rounds),
        "plain_kafka_ms": _percentiles(plain),
        "ratio_p50": float(np.median(rounds) / np.median(plain)),
        "ratio_guarded_p50": float(np.median(guarded) / np.median(rounds)),
    }


def _measure(*, is_open: bool) -> tuple[list[float], list[float]]:
    with tempfile.TemporaryDirectory() as name, EmbeddedBroker(Path(name) / "broker", is_open=is_open) as broker:
        admin = AdminClient(broker.admin_connection)
        for party, peer in ((GUEST, HOST), (HOST, GUEST)):
            create_topics(admin, party_topics(party))
            if not is_open:
                _let_in(admin, broker, party, peer, Path(name))
        plain = _plain_rounds(broker.bootstrap) if is_open else []
        parties = [
            subprocess.Popen([sys.executable, "-m", "benchmarks._echo", party, broker.bootstrap, name])
            for party in (GUEST, HOST)
        ]
        try:
            return _engine_rounds(broker.admin_connection), plain
        finally:
            for process in parties:
                process.terminate()
                process.wait()


def _let_in(admin: AdminClient, broker: EmbeddedBroker, party: str, peer: str, folder: Path) -> None:
    """The stage's principal and its rights, as at any party."""
    password = secrets.token_urlsafe()
    set_passwords(admin, party, {STAGE: password})
    apply_rules(admin, party, access_rules(party, (peer,)))
    connection = {
        "bootstrap.servers": broker.bootstrap,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": MECHANISM,
        "sasl.username": principal_name(party, STAGE),
        "sasl.password": password,
        "ssl.ca.location": str(broker.ca_file),
    }
    (folder / f"{party}.properties").write_text(render_properties(connection), encoding="utf-8")


def _engine_rounds(connection: Mapping[str, Any]) -> list[float]:
    """Milliseconds between the events of successive rounds."""
    events = _reader(connection, events_topic(GUEST))
    producer = Producer(dict(connection))
    producer.produce(commands_topic(STAGE, GUEST), encode(EchoStart("echo", ROUNDS + WARM_UP)), b"echo")
    producer.flush()
    seen: list[float] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(seen) < ROUNDS + WARM_UP:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(seen)} rounds in {DEADLINE_SECONDS} s")
        message = events.poll(1.0)
        if message is not None and message.error() is None and isinstance(decode(message.value() or b""), EchoRound):
            seen.append(time.perf_counter() * 1000)
    events.close()
    return np.diff(seen[WARM_UP:]).tolist()


def _plain_rounds(bootstrap: str) -> list[float]:
    """Milliseconds of two hops through the parties' exchange topics, nothing else done."""
    ended = threading.Event()

    def answer() -> None:
        reader = _reader({"bootstrap.servers": bootstrap}, exchange_topic("evaluate", HOST))
        producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        while not ended.is_set():
            message = reader.poll(0.1)
            if message is not None and message.error() is None:
                producer.produce(exchange_topic("evaluate", GUEST), message.value())
                producer.poll(0)
        producer.flush()
        reader.close()

    thread = threading.Thread(target=answer)
    thread.start()
    reader = _reader({"bootstrap.servers": bootstrap}, exchange_topic("evaluate", GUEST))
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    times = [time.perf_counter() * 1000]
    while len(times) <= ROUNDS + WARM_UP:
        producer.produce(exchange_topic("evaluate", HOST), b"x" * 200)
        producer.poll(0)
        while (message := reader.poll(1.0)) is None or message.error() is not None:
            pass
        times.append(time.perf_counter() * 1000)
    ended.set()
    thread.join()
    producer.flush()
    reader.close()
    return np.diff(times[WARM_UP:]).tolist()


def _reader(connection: Mapping[str, Any], topic: str) -> Consumer:
    """From the first record of every partition on."""
    consumer = Consumer(
        {**connection, "group.id": "benchmark", "auto.offset.reset": "earliest"}
        | {"isolation.level": "read_committed", "enable.auto.commit": False}
    )
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    return consumer


def _percentiles(times: list[float]) -> dict[str, float]:
    return {name: float(np.percentile(times, q)) for name, q in (("p50", 50), ("p90", 90), ("p99", 99))}
