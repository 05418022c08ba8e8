"""How long a job stands still when a process is killed and started again at once, by kind of group membership.

The host of an echo job is killed (SIGKILL) and started again in the same slot; measured is the time from the kill to
the guest's next committed round. It includes the start of a Python process, which is the same for all. The broker has
its default session timeout for the protocol of KIP-848 (45 s, which clients cannot change); the classic protocol's is
ours, 10 s. Takes some six minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks._echo import GUEST, HOST, EchoStart, register_records
from infra.broker import EmbeddedBroker
from infra.topic_admin import create_topics
from infra.topics import commands_topic, events_topic, party_topics
from schemas.codec import encode
from streams.engine.kafka_settings import Membership

KILLS = 3
#: More than any run of this benchmark uses up.
ROUNDS = 1_000_000
#: Rounds before the first kill and between two kills: the group is at rest then.
QUIET_ROUNDS = 30
DEADLINE_SECONDS = 180.0


def run() -> dict[str, Any]:
    """Seconds of standstill for each membership."""
    register_records()
    return {str(membership): _measure(membership) for membership in Membership}


def _measure(membership: Membership) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, EmbeddedBroker(Path(name) / "broker", is_open=True) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for party in (GUEST, HOST):
            create_topics(admin, party_topics(party))
        parties = {party: _start(party, broker.bootstrap, name, membership) for party in (GUEST, HOST)}
        try:
            seconds = _kill_often(parties, broker.bootstrap, name, membership)
        finally:
            for process in parties.values():
                process.kill()
                process.wait()
    return {
        "kills": len(seconds),
        "median_s": float(np.median(seconds)),
        "least_s": float(np.min(seconds)),
        "most_s": float(np.max(seconds)),
    }


def _kill_often(
    parties: dict[str, subprocess.Popen[bytes]], bootstrap: str, folder: str, membership: Membership
) -> list[float]:
    events = Consumer({"bootstrap.servers": bootstrap, "group.id": "benchmark", "isolation.level": "read_committed"})
    count = len(events.list_topics(events_topic(GUEST), 10).topics[events_topic(GUEST)].partitions)
    events.assign([TopicPartition(events_topic(GUEST), partition, 0) for partition in range(count)])
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(commands_topic("align", GUEST), encode(EchoStart("echo", ROUNDS)), b"echo")
    producer.flush()
    seconds: list[float] = []
    _await_rounds(events, QUIET_ROUNDS, parties, lambda: None)
    for _ in range(KILLS):
        parties[HOST].kill()
        killed_at = time.monotonic()
        parties[HOST].wait()

        def start_again() -> None:
            parties[HOST] = _start(HOST, bootstrap, folder, membership)

        start_again()
        _drain(events, killed_at)
        # A process that is refused its slot ends; as by a supervisor it is started again.
        _await_rounds(events, 1, parties, start_again)
        seconds.append(time.monotonic() - killed_at)
        _await_rounds(events, QUIET_ROUNDS, parties, start_again)
    events.close()
    return seconds


def _await_rounds(events: Consumer, count: int, parties: dict[str, subprocess.Popen[bytes]], start_again: Any) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no round in {DEADLINE_SECONDS} s")
        message = events.poll(0.05)
        count -= message is not None and message.error() is None
        if parties[HOST].poll() is not None:
            start_again()


def _drain(events: Consumer, killed_at: float) -> None:
    """Pass over the rounds that were committed before the kill: what is there within a tenth of a second of it."""
    while time.monotonic() - killed_at < 0.1:
        events.poll(0.01)


def _start(party: str, bootstrap: str, folder: str, membership: Membership) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks._echo", party, bootstrap, folder, str(membership)])
