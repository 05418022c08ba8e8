"""What a broker that was killed makes of transactions it had decided: all of each, or nothing of it.

Releases 4.1 to 4.3 fail this in about every third round (KAFKA-20734; docs/decisions/0011-kafka-version.md).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.broker import EmbeddedBroker
from streams.engine.kafka_settings import CLIENT, PRODUCER

TOPIC, PARTITIONS = "decided", 60
#: What else a new controller has to think of: the more, the longer partitions are without a leader after the start.
OTHER_TOPICS, OTHER_PARTITIONS = 20, 20
ROUNDS, WRITERS = 4, 6
WRITE_SECONDS = 2.0
SETTLE_SECONDS = 25.0
REQUEST_SECONDS = 30.0


@dataclass
class _Writer:
    """Writes to all partitions in each transaction until it is stopped; a commit under way is seen through."""

    bootstrap: str
    name: str
    is_ready: threading.Event = field(default_factory=threading.Event)
    is_committing: bool = False
    thread: threading.Thread = field(init=False)

    def start(self, stop: threading.Event) -> None:
        self.thread = threading.Thread(target=self._write, args=(stop,), name=self.name)
        self.thread.start()

    def _write(self, stop: threading.Event) -> None:
        servers = {"bootstrap.servers": self.bootstrap, "transactional.id": self.name, "transaction.timeout.ms": 10_000}
        producer = Producer({**CLIENT, **PRODUCER, **servers, "log_level": 0})
        producer.init_transactions(REQUEST_SECONDS)
        self.is_ready.set()
        try:
            while not stop.is_set():
                producer.begin_transaction()
                for partition in range(PARTITIONS):
                    producer.produce(TOPIC, self.name, partition=partition)
                self.is_committing = True
                producer.commit_transaction(REQUEST_SECONDS)
                self.is_committing = False
        except KafkaException:
            # Refused or unknown: both are well, as long as it is all or nothing.
            pass


def _ends(bootstrap: str, isolation: str) -> list[int]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "looks-only", "isolation.level": isolation})
    try:
        places = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
        return [consumer.get_watermark_offsets(place, REQUEST_SECONDS)[1] for place in places]
    finally:
        consumer.close()


def _undecided(bootstrap: str) -> int:
    """How many partitions have records of which nobody knows whether they count, when there was time to settle it."""
    found = 0
    pause = threading.Event()
    for _ in range(int(SETTLE_SECONDS / 0.5)):
        written, decided = _ends(bootstrap, "read_uncommitted"), _ends(bootstrap, "read_committed")
        found = sum(end != stable for end, stable in zip(written, decided, strict=True))
        if found == 0:
            return 0
        pause.wait(0.5)
    return found


def test_every_decided_transaction_is_finished_after_the_broker_was_killed(tmp_path: Path) -> None:
    draws = np.random.RandomState(1)
    hit = 0
    with EmbeddedBroker(tmp_path) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        topics = [NewTopic(f"other-{number}", OTHER_PARTITIONS, 1) for number in range(OTHER_TOPICS)]
        for created in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1), *topics]).values():
            created.result()
        for round_ in range(ROUNDS):
            stop = threading.Event()
            writers = [_Writer(broker.bootstrap, f"writer-{round_}-{number}") for number in range(WRITERS)]
            for writer in writers:
                writer.start(stop)
            for writer in writers:
                assert writer.is_ready.wait(REQUEST_SECONDS)
            stop.wait(WRITE_SECONDS + draws.rand())
            stop.set()
            hit += sum(writer.is_committing for writer in writers)
            pid = broker.pid
            broker.kill()
            broker.start()
            assert broker.pid != pid
            for writer in writers:
                writer.thread.join()
            assert _undecided(broker.bootstrap) == 0, f"round {round_}"
    assert hit > 0, "no commit was under way when the broker was killed"
