"""What rests under which generation of the party's storage key, on its topics; and its features, sealed anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, TopicPartition

from consumers.party import Party
from infra.access import LOADER
from infra.connection import Connection, connect_as
from infra.topics import JOINER, SCORE, features_topic, state_topic
from producers.feature_loader import FeatureWriter
from producers.topic_reader import ANSWER_SECONDS, QUIET, BrokerUnavailableError, check_topics
from schemas.audit_statements import AUDIT
from schemas.cohorts import COHORT
from schemas.jobs import Stage
from streams.engine.kafka_settings import reading_group
from streams.engine.seal import SealError
from streams.engine.storage_seal import StorageSeal


@dataclass(frozen=True)
class Value:
    """One record of a compacted topic; `value` is None where the key was deleted."""

    partition: int
    key: bytes
    value: bytes | None


def count_former(party: Party) -> dict[str, int]:
    """State topic -> how many values rest under a former generation. Raises `BrokerUnavailableError`, `SealError`."""
    # (the process whose topic it is, what the topic is named after)
    owners = [(str(stage), str(stage)) for stage in (*Stage, COHORT, AUDIT)] + [(JOINER, SCORE)]
    found: dict[str, int] = {}
    for role, stage in owners:
        topic = state_topic(stage, party.name)
        former = choose_former(read_values(connect_as(party.settings, role), topic), topic, party.keyring)
        if former:
            found[topic] = len(former)
    return found


def reseal_features(party: Party, progress: Callable[[int], object]) -> int:
    """Write features that rest under a former generation anew; how many. Nothing may load features meanwhile.

    Raises `BrokerUnavailableError`, `SealError`, `FeatureLoadError`.
    """
    topic = features_topic(party.name)
    former = choose_former(read_values(connect_as(party.settings, LOADER), topic), topic, party.keyring)
    count = check_topics(connect_as(party.settings, LOADER), (topic,))[topic]
    writer = FeatureWriter(party, topic, count)
    for done, each in enumerate(former, start=1):
        writer.write(each.key, party.keyring.open_state(topic, each.partition, each.key, each.value or b""))
        progress(done)
    writer.flush()
    return len(former)


def choose_former(values: Iterable[Value], topic: str, seal: StorageSeal) -> list[Value]:
    """Of each key's last value those that rest under a former generation.

    What a later value has replaced may be there still, under a generation that is deleted by now: it says nothing.
    Raises `SealError` for a last value that does not open.
    """
    former: dict[tuple[int, bytes], Value] = {}
    closed: dict[tuple[int, bytes], SealError] = {}
    for each in values:
        place = (each.partition, each.key)
        former.pop(place, None)
        closed.pop(place, None)
        if each.value is None:
            continue
        try:
            if not seal.unseal_state(topic, each.partition, each.key, each.value)[1]:
                former[place] = each
        except SealError as error:
            closed[place] = error
    for (partition, _), why in closed.items():
        raise SealError(f"{topic}[{partition}]: {why}") from why
    return list(former.values())


def read_values(connection: Connection, topic: str) -> Iterator[Value]:
    """All committed records of a topic, each partition in its order. Raises `BrokerUnavailableError`."""
    count = check_topics(connection, (topic,))[topic]
    consumer = Consumer(
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
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(count)])
        open_partitions, deadline = set(range(count)), time.monotonic() + ANSWER_SECONDS
        while open_partitions:
            message = consumer.poll(0.2)
            if message is None:
                if time.monotonic() > deadline:
                    raise BrokerUnavailableError(f"the broker says nothing more of {topic}: is it overloaded?")
                continue
            deadline = time.monotonic() + ANSWER_SECONDS
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition() or 0)
            else:
                yield Value(message.partition() or 0, message.key() or b"", message.value())
    finally:
        consumer.close()
