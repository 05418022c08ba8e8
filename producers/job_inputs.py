"""What the stages of a party took in one job, as it lies on their topics: read once, in the order of the partitions."""

from __future__ import annotations

import time
from typing import Self

from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.connection import Connection
from producers.audit_trail import AuditError
from producers.topic_reader import ANSWER_SECONDS, QUIET, BrokerUnavailableError, check_topics
from schemas.audit import EnvelopesCrossed, TakenRecord
from schemas.codec import DecodeError, decode
from streams.engine.intake import describe_source
from streams.engine.kafka_settings import reading_group
from streams.engine.partitioner import partition_of
from streams.engine.ports import InputRecord


class JobInputs:
    """Finds the inputs of a job, topic by topic. Steps have to be asked for in their order. A context manager."""

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self._key = job_id.encode()
        #: By topic and stage: several stages read the events.
        self._readers: dict[tuple[str, str], _Reader] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers.values():
            reader.close()

    def read_books(self, topic: str) -> list[EnvelopesCrossed]:
        """What the party wrote down of the job, in the order of the commits. Raises `BrokerUnavailableError`."""
        reader = _Reader(self._connection, topic, self._key)
        try:
            records = [decode(raw.value or b"") for raw in iter(reader.read_next, None)]
        finally:
            reader.close()
        return [record for record in records if isinstance(record, EnvelopesCrossed)]

    def fetch(self, step: EnvelopesCrossed, taken: TakenRecord) -> bytes:
        """The input's bytes. Raises `AuditError` when it does not lie there any more, `BrokerUnavailableError`."""
        place = (taken.topic, step.stage)
        if place not in self._readers:
            self._readers[place] = _Reader(self._connection, taken.topic, self._key)
        value = self._readers[place].find(taken)
        if value is None:
            raise AuditError(
                f"what stage {step.stage} took in this job from {taken.sender or 'the party itself'} does not lie on "
                f"{taken.topic} any more: jobs can be revealed for as long as these topics keep their records "
                "(docs/audit.md)"
            )
        return value


class _Reader:
    """The records with the job's key on one topic, in their order."""

    def __init__(self, connection: Connection, topic: str, key: bytes) -> None:
        count = check_topics(connection, (topic,))[topic]
        self._topic, self._key, self._partition = topic, key, partition_of(key, count)
        self._consumer = Consumer(
            {
                **connection,
                "group.id": reading_group(connection),
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
            },
            logger=QUIET,
        )
        self._consumer.assign([TopicPartition(topic, self._partition, 0)])
        self._is_over = False

    def find(self, taken: TakenRecord) -> bytes | None:
        """The next record that is the one that was taken: what lies before it was passed over then as well."""
        while (raw := self.read_next()) is not None:
            try:
                if describe_source(raw, decode(raw.value or b"")) == taken:
                    return raw.value
            except DecodeError:
                continue
        return None

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def read_next(self) -> InputRecord | None:
        """The next record; None at the end of the topic."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not self._is_over:
            message = self._consumer.poll(0.2)
            if message is None:
                if time.monotonic() > deadline:
                    raise BrokerUnavailableError(f"the broker says nothing more of {self._topic}: is it overloaded?")
            elif (error := message.error()) is not None:
                # The partition's end; other errors are tried again by the library until the deadline.
                self._is_over = error.code() == KafkaError._PARTITION_EOF
            elif message.key() == self._key and message.value() is not None:
                return InputRecord(self._topic, self._partition, message.offset() or 0, self._key, message.value())
        return None
