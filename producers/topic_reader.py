"""Reading a plain-Avro topic from its beginning, without a group: for views that fold everything that was said."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, TopicMetadata

from infra.access import CLIENT
from infra.connection import Connection, connect_as
from infra.settings import PartySettings
from schemas.codec import DecodeError, decode
from schemas.record import Record
from streams.engine.kafka_settings import reading_group

#: An idle broker answers within milliseconds; one that has just restarted may need some seconds to elect leaders.
ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.1
CONNECT_SECONDS = 1.0
#: A fetch at the end of a topic is answered after this long; librdkafka's 500 would make every end half a second away.
FETCH_WAIT_MS = 50

#: What librdkafka says about lost connections helps nobody at a terminal: errors are reported in our words.
QUIET = logging.getLogger("isthmus.librdkafka")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


class BrokerUnavailableError(Exception):
    """No broker answers, or it is not one that knows this party's topics. The text says what to do."""


@dataclass(frozen=True)
class Entry:
    """One record of a topic. `record` is `None` where it could not be decoded (`problem` says why), or was deleted."""

    record: Record | None
    key: str
    timestamp_ms: int
    problem: str = ""


def connection_of(settings: PartySettings, role: str = CLIENT) -> Connection:
    """How to reach the party's broker in this role. Raises `SecretsError`."""
    return connect_as(settings, role)


def check_topics(connection: Connection, topics: tuple[str, ...]) -> dict[str, int]:
    """Partition counts of the topics. Raises `BrokerUnavailableError` when no broker answers or a topic is missing."""
    bootstrap_servers = connection["bootstrap.servers"]
    said: list[KafkaError] = []
    options: dict[str, Any] = {**connection, "error_cb": said.append}
    admin = AdminClient(options, logger=QUIET)
    # Asked twice: a broker that does not let us in says so at once, one that is busy or starts needs time.
    first_seconds = min(CONNECT_SECONDS, ANSWER_SECONDS / 2)
    known = _ask_topics(admin, first_seconds)
    if known is None:
        if reason := _describe_refusal(connection, said):
            raise BrokerUnavailableError(f"the broker at {bootstrap_servers} {reason}")
        known = _ask_topics(admin, ANSWER_SECONDS - first_seconds)
    if known is None:
        reason = _describe_refusal(connection, said)
        raise BrokerUnavailableError(
            f"the broker at {bootstrap_servers} {reason}" if reason else _describe_silence(str(bootstrap_servers))
        )
    missing = [topic for topic in topics if topic not in known]
    if missing:
        raise BrokerUnavailableError(
            f"the broker at {bootstrap_servers} has no topic {', '.join(missing)}: create it with `isthmus topics "
            "create`, or correct the address in party.yaml if this is another broker"
        )
    return {topic: len(known[topic].partitions) for topic in topics}


def _ask_topics(admin: AdminClient, seconds: float) -> dict[str, TopicMetadata] | None:
    """What there is and may be seen; None without an answer."""
    try:
        return admin.list_topics(timeout=seconds).topics
    except KafkaException:
        # Lets librdkafka say what it heard.
        admin.poll(0)
        return None


def _describe_silence(bootstrap_servers: str) -> str:
    listening = _listening(bootstrap_servers)
    what = (
        f"something listens at {listening}, but it does not answer as a Kafka broker does, or wants `access` that "
        "party.yaml does not say"
        if listening
        else f"no Kafka broker answers at {bootstrap_servers}"
    )
    return (
        f"{what} (waited {ANSWER_SECONDS:g} s): start it, for example with `isthmus broker run`, or correct the "
        "address in party.yaml"
    )


def _describe_refusal(connection: Connection, said: list[KafkaError]) -> str:
    """Why a broker that is there does not talk to us; empty if it did not say. Never with a password."""
    name = connection.get("sasl.username", "nobody")
    for error in said:
        if error.code() == KafkaError._AUTHENTICATION:
            return (
                f"does not accept the name and password of {name}: its administrator makes them with `isthmus topics "
                "acls --apply`, and anew after the keys or `access` in party.yaml have changed"
            )
        if error.code() == KafkaError._SSL:
            return (
                "cannot be trusted: its certificate is not one that `access.ca` in party.yaml vouches for, or has "
                "expired. Is it the right file, and the right broker?"
            )
    return ""


def _listening(bootstrap_servers: str) -> str:
    """Those of the addresses that take connections: a hint at what is wrong there."""
    found = []
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
            found.append(server.strip())
    return ", ".join(found)


class TopicReader:
    """Committed records of one topic from the beginning on."""

    def __init__(self, connection: Connection, topic: str, *, with_deletions: bool = False) -> None:
        """With `with_deletions` a deleted key is told as an entry without record. Raises `BrokerUnavailableError`."""
        self._with_deletions = with_deletions
        self._topic = topic
        self._count = check_topics(connection, (topic,))[topic]
        self._consumer = Consumer(
            {
                **connection,
                "group.id": reading_group(connection),
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
            },
            logger=QUIET,
        )
        # A number spares librdkafka to look one up, which takes it half a second; where retention has removed the first
        # records, the reset takes us to the first that is left.
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(self._count)])
        #: Partition -> the end at which it was told to be read up. librdkafka tells each end once only.
        self._read_up_to: dict[int, int] = {}

    def read_to_end(self, seconds: float = ANSWER_SECONDS) -> list[Entry]:
        """What was not read yet, up to what is committed now. Raises `BrokerUnavailableError` if that takes long."""
        entries: list[Entry] = []
        deadline = time.monotonic() + seconds
        ends = {partition: self._ask_end(partition, deadline) for partition in range(self._count)}
        while any(self._read_up_to.get(partition, -1) < end for partition, end in ends.items()):
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"the broker answered too slowly: the topic was not read within {seconds:.0f} s"
                )
            entries += self.poll(POLL_SECONDS)
        return sorted(entries, key=lambda entry: entry.timestamp_ms)

    def poll(self, seconds: float) -> list[Entry]:
        """What arrives next, waiting at most `seconds`. Waits for a broker that is away: deadlines are the caller's."""
        messages = self._consumer.consume(num_messages=500, timeout=seconds)
        return [entry for message in messages if (entry := self._entry(message)) is not None]

    def follow(self, until: Callable[[], bool]) -> Iterator[Entry]:
        """Records as they come, until `until()`."""
        while not until():
            yield from self.poll(POLL_SECONDS)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _ask_end(self, partition: int, deadline: float) -> int:
        """Where the partition ends now, for a reader of committed records."""
        place = TopicPartition(self._topic, partition)
        while True:
            left = deadline - time.monotonic()
            try:
                return self._consumer.get_watermark_offsets(place, max(left, POLL_SECONDS))[1]
            except KafkaException as problem:
                # A partition that was just made, or whose broker has just come back, has no leader for a moment.
                if left < 0:
                    raise BrokerUnavailableError(
                        f"the broker does not tell where {self._topic} ends: {problem.args[0].str()}"
                    ) from None
            time.sleep(POLL_SECONDS)

    def _entry(self, message: Message) -> Entry | None:
        error = message.error()
        partition = message.partition()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF and partition is not None:
                self._read_up_to[partition] = message.offset() or 0
            return None
        key, value = message.key() or b"", message.value()
        text, timestamp_ms = key.decode(errors="replace"), message.timestamp()[1]
        if value is None:
            return Entry(None, text, timestamp_ms) if self._with_deletions else None
        try:
            return Entry(decode(value), text, timestamp_ms)
        except DecodeError as problem:
            return Entry(None, text, timestamp_ms, str(problem))
