"""The same bench twice: logs on the fake broker, and logs on a real one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from confluent_kafka import Producer

from infra.broker import EmbeddedBroker
from streams.engine.kafka_log import KafkaLog
from streams.engine.kafka_settings import KafkaTimeouts, Membership
from streams.engine.ports import InputRecord, Log, TopicPartition
from streams.engine.topics import StageTopics
from tests.simulation.fake_broker import FakeBroker
from tests.simulation.fake_log import FakeClock, FakeLog

PARTITIONS = 2
#: Everything here takes milliseconds, or a rebalance, or a busy machine.
DEADLINE_SECONDS = 60.0
TIMEOUTS = KafkaTimeouts(session_ms=6_000, heartbeat_ms=300, call_seconds=20.0, state_read_seconds=1.0)


class Bench(Protocol):
    """What a test of the contract needs."""

    topics: StageTopics

    def log(self, slot: int = 0) -> Log:
        """A log of the stage's group, which has not joined."""
        ...

    def write(self, place: TopicPartition, key: bytes, value: bytes) -> None:
        """Write as a client does."""
        ...

    def close(self) -> None: ...


def make_stage_topics(prefix: str) -> StageTopics:
    return StageTopics(
        party=prefix,
        stage="align",
        commands=f"{prefix}.commands",
        exchange=f"{prefix}.exchange",
        state=f"{prefix}.state",
        events=f"{prefix}.events",
        registry=f"{prefix}.registry",
        dead_letter=f"{prefix}.deadletter",
        audit=f"{prefix}.audit",
        exchange_of=lambda party: f"{party}.exchange",
        commands_of=lambda stage: f"{prefix}.commands",
    )


class FakeBench:
    def __init__(self) -> None:
        self.topics = make_stage_topics("bench")
        names = (*self.topics.inputs, self.topics.state, self.topics.events)
        self.clock = FakeClock()
        self.broker = FakeBroker(dict.fromkeys(names, PARTITIONS), self.clock.now_ms)

    def log(self, slot: int = 0) -> Log:
        return FakeLog(self.broker, "bench", f"bench.{slot}", self.topics.inputs)

    def write(self, place: TopicPartition, key: bytes, value: bytes) -> None:
        self.broker.append(place, key, value)

    def close(self) -> None:
        """Nothing is open."""


class KafkaBench:
    def __init__(
        self,
        broker: EmbeddedBroker,
        prefix: str,
        make_topic: Callable[..., str],
        membership: Membership = Membership.STATIC,
        timeouts: KafkaTimeouts = TIMEOUTS,
    ) -> None:
        self.broker = broker
        self.prefix = prefix
        self.membership = membership
        self.timeouts = timeouts
        self.topics = make_stage_topics(prefix)
        for name in (*self.topics.inputs, self.topics.events):
            make_topic(name, partitions=PARTITIONS)
        make_topic(self.topics.state, partitions=PARTITIONS, cleanup_policy="compact")
        self._producer = Producer({"bootstrap.servers": broker.bootstrap})
        self._logs: list[KafkaLog] = []

    def log(self, slot: int = 0) -> Log:
        log = KafkaLog(
            self.broker.bootstrap,
            self.topics,
            group_id=f"vfl.{self.prefix}.v1",
            transactional_id=f"vfl.{self.prefix}.{slot}",
            membership=self.membership,
            timeouts=self.timeouts,
        )
        self._logs.append(log)
        return log

    def write(self, place: TopicPartition, key: bytes, value: bytes) -> None:
        self._producer.produce(place.topic, value, key, place.partition)
        assert self._producer.flush(DEADLINE_SECONDS) == 0

    def close(self) -> None:
        for log in self._logs:
            log.close()


def settle(
    *logs: Log, have: dict[Log, frozenset[TopicPartition]] | None = None
) -> dict[Log, frozenset[TopicPartition]]:
    """Poll all members until they have all partitions and each has some; what each has. `have`: what they had."""
    want = 2 * PARTITIONS
    owned = {log: (have or {}).get(log, frozenset()) for log in logs}
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        for log in logs:
            polled = log.poll(50, 100)
            assert not polled.records
            owned[log] = (owned[log] - polled.lost) | polled.gained
        if sum(map(len, owned.values())) == want and all(owned.values()):
            return owned
    raise AssertionError(f"the group did not settle: {owned}")


def take(log: Log, count: int) -> list[InputRecord]:
    """Poll until so many records have come."""
    records: list[InputRecord] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
        records.extend(log.poll(50, 100).records)
    assert len(records) == count
    return records
