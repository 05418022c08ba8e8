"""Results of a party as they come, from now on."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Consumer, TopicPartition

from infra.connection import Connection
from infra.topics import results_topic
from producers.score_recall import ask_ends
from producers.topic_reader import POLL_SECONDS, QUIET, check_topics
from schemas.codec import DecodeError, decode
from schemas.scoring import ScoreJoined
from streams.engine.kafka_settings import CLIENT, READER, reading_group


def is_of(result: ScoreJoined, model: str | None) -> bool:
    """Whether the result is one of `NAME`, `NAME@ALIAS` or `NAME/VERSION`; of `None` all are."""
    if model is None:
        return True
    name, _, alias = model.partition("@")
    if alias:
        return (result.model, result.alias) == (name, alias)
    name, _, version = model.partition("/")
    return result.model == name and version in ("", result.version)


def follow_results(
    party: str, connection: Connection, model: str | None = None, count: int | None = None
) -> Iterator[ScoreJoined]:
    """Committed results of the model, `count` of them or without end. Raises `BrokerUnavailableError`.

    Where to begin is settled when the first one is asked for.
    """
    topic = results_topic(party)
    partitions = check_topics(connection, (topic,))[topic]
    reading = {**connection, **CLIENT, **READER, "group.id": reading_group(connection), "fetch.wait.max.ms": 50}
    consumer = Consumer(reading, logger=QUIET)
    told = 0
    try:
        ends = ask_ends(consumer, topic, partitions)
        consumer.assign([TopicPartition(topic, *end) for end in ends.items()])
        while count is None or told < count:
            message = consumer.poll(POLL_SECONDS)
            if message is None or message.error() is not None:
                continue
            try:
                result = decode(message.value() or b"")
            except DecodeError:
                continue
            if isinstance(result, ScoreJoined) and is_of(result, model):
                told += 1
                yield result
    finally:
        consumer.close()
