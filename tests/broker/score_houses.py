"""A guest and a host with homes, keys, topics and models on a real broker, for the processes that score online."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.party import Party, open_party
from consumers.relays import PURPOSE
from infra.federation_local import found_together
from infra.secrets import create_secrets
from infra.settings import save_settings
from infra.topic_admin import create_topics
from infra.topics import (
    answers_topic,
    dead_letter_topic,
    party_topics,
    registry_topic,
    requests_topic,
    routed_topic,
    score_audit_topic,
    serving_topic,
)
from schemas.codec import decode, encode
from schemas.deadletter import DeadLetter
from schemas.jobs import ServeSpec
from schemas.record import Record
from schemas.scoring import AnswerAudited, RoutedScore, ScoreAnswer, ScoreRequested, ScoresAnswered, ScoresRouted
from schemas.serving import ServingAlias
from streams.engine.blobs import SealedBlobs
from streams.engine.messages import MessageSeal
from streams.engine.partitioner import partition_of
from streams.features import FeatureSourceError, PersonFeatures
from streams.kernels.scorecard import name_person
from tests.machines.route_cases import NAME, Version

DEADLINE_SECONDS = 60.0

T = TypeVar("T")


class DictSource:
    """A feature source in memory. `fails` makes it give no answer."""

    def __init__(self, rows: Mapping[str, PersonFeatures | None]) -> None:
        self.rows = rows
        self.fails = ""
        self.fetched: list[tuple[str, ...]] = []

    def fetch(self, entity_ids: Sequence[str], columns: Sequence[str]) -> list[PersonFeatures | None]:
        self.fetched.append(tuple(entity_ids))
        if self.fails:
            raise FeatureSourceError(self.fails)
        return [self.rows.get(entity_id) for entity_id in entity_ids]

    def known_ids(self) -> Iterable[str]:
        return self.rows.keys()

    def close(self) -> None:
        pass


class DictIndex:
    """Whom a token means, without a thread."""

    def __init__(self, source: DictSource, key_of: Callable[[str], bytes], normalise: Callable[[str], str]) -> None:
        self._source, self._key_of, self._normalise = source, key_of, normalise

    def find(self, guest: str, tokens: Sequence[bytes]) -> list[str | None]:
        key = self._key_of(guest)
        known = {name_person(key, self._normalise(one)): one for one in self._source.known_ids()}
        return [known.get(token) for token in tokens]

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Routed:
    """An item as the joiner opens it, and where it lay."""

    partition: int
    item: RoutedScore


@dataclass(frozen=True)
class Said:
    """An answer as the joiner opens it, and where it lay."""

    partition: int
    host: str
    answer: ScoreAnswer


class ScoreHouses:
    """The homes, and everybody else on the broker."""

    def __init__(self, bootstrap: str, folder: Path, guest: str, host: str, partitions: int = 2) -> None:
        self.bootstrap = bootstrap
        self.partitions = partitions
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        for name, peer in ((guest, host), (host, guest)):
            home = folder / name
            save_settings(
                home, {"party": name, "access": {"kind": "custom"}, "bootstrap_servers": bootstrap, "peers": [peer]}
            )
            create_secrets(home, name)
            create_topics(self.admin, party_topics(name, partitions))
        found_together([folder / guest, folder / host], "houses")
        self.guest, self.host = open_party(folder / guest), open_party(folder / host)
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    # --- models ---

    def make_version(self, version: str, *, seed: int = 1, passed: bool | None = True) -> Version:
        """A version of these two; nobody knows it yet."""
        # However long a broker takes to come back, questions are not too old to be answered.
        serve = ServeSpec(host_patience_ms=60_000)
        return Version(version, guest=self.guest.name, hosts=(self.host.name,), seed=seed, serve=serve, passed=passed)

    def store(self, version: Version, *parties: Party) -> None:
        """Put the halves where they belong."""
        for party in parties or (self.guest, self.host):
            SealedBlobs(party.objects, party.keyring).put_all([version.blobs[party.name]])

    def register(self, *versions: Version) -> None:
        """Both registries, and the verdicts on the versions."""
        for version in versions:
            self.store(version)
            for party in (self.guest, self.host):
                self.put(registry_topic(party.name), version.key, version.registered)
            if version.checked is not None:
                self.put(serving_topic(self.guest.name), version.key, version.checked)
        self.flush()

    def point(self, alias: str, version: str, canary: str = "", permille: int = 0, shadow: str = "") -> None:
        record = ServingAlias(NAME, alias, version, canary, permille, shadow, "", 0)
        self.put(serving_topic(self.guest.name), f"{NAME}@{alias}", record)
        self.flush()

    # --- writing ---

    def put(self, topic: str, key: str, record: Record | bytes | None, partition: int = 0) -> None:
        value = encode(record) if isinstance(record, Record) else record
        self._producer.produce(topic, value, key.encode(), partition)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(DEADLINE_SECONDS) == 0

    def request(self, *requests: ScoreRequested) -> None:
        topic = requests_topic(self.guest.name)
        for request in requests:
            self.put(topic, request.request_id, request, partition_of(request.request_id.encode(), self.partitions))
        self.flush()

    # --- reading ---

    def routed(self, wanted: Collection[str]) -> list[Routed]:
        """All items for the joiner, once there is one for each of these requests."""
        topic, seal = routed_topic(self.guest.name), MessageSeal(self.guest.keyring, PURPOSE)

        def open_items(message: Message) -> list[Routed]:
            sender, record = seal.open(message.value() or b"", topic, message.partition() or 0)
            assert sender == self.guest.name and isinstance(record, ScoresRouted)
            return [Routed(message.partition() or 0, item) for item in record.items]

        return self.gather(topic, open_items, lambda found: found.item.request_id, wanted)

    def answers(self, wanted: Collection[str]) -> list[Said]:
        """All answers for the joiner, once there is one for each of these requests."""
        topic, seal = answers_topic(self.guest.name), MessageSeal(self.guest.keyring, PURPOSE)

        def open_answers(message: Message) -> list[Said]:
            sender, record = seal.open(message.value() or b"", topic, message.partition() or 0)
            assert isinstance(record, ScoresAnswered)
            return [Said(message.partition() or 0, sender, answer) for answer in record.answers]

        return self.gather(topic, open_answers, lambda found: found.answer.request_id, wanted)

    def books(self, wanted: Collection[str]) -> list[AnswerAudited]:
        """The host's books, once there is an entry for each of these requests."""

        def open_entry(message: Message) -> list[AnswerAudited]:
            record = decode(message.value() or b"")
            assert isinstance(record, AnswerAudited) and (message.key() or b"").decode() == record.request_id
            assert message.partition() == partition_of(message.key() or b"", self.partitions)
            return [record]

        return self.gather(score_audit_topic(self.host.name), open_entry, lambda found: found.request_id, wanted)

    def dead_letters(self, party: Party, wanted: int) -> list[DeadLetter]:
        """All dead letters, once there are so many."""

        def open_letter(message: Message) -> list[DeadLetter]:
            record = decode(message.value() or b"")
            assert isinstance(record, DeadLetter)
            return [record]

        numbers = itertools.count()
        topic = dead_letter_topic(party.name)
        return self.gather(topic, open_letter, lambda found: str(next(numbers)), [str(n) for n in range(wanted)])

    def gather(
        self, topic: str, unpack: Callable[[Message], list[T]], name_of: Callable[[T], str], wanted: Collection[str]
    ) -> list[T]:
        """Everything that is in the topic, once everything that is wanted is among it."""
        missing = set(wanted)
        found: list[T] = []
        for message in follow(self.bootstrap, topic, self.partitions_of(topic), missing):
            some = unpack(message)
            found += some
            missing.difference_update(map(name_of, some))
        return found

    def partitions_of(self, topic: str) -> int:
        return len(self.admin.list_topics(topic, timeout=20).topics[topic].partitions)


def follow(bootstrap: str, topic: str, partitions: int, missing: Collection[str]) -> Iterable[Message]:
    """Records of a topic from the beginning until nothing is missing and all that is there was read."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "tests",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
        }
    )
    unread = set(range(partitions))
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
        while unread or missing:
            assert time.monotonic() < deadline, f"{topic}: {sorted(missing)[:5]} did not come"
            message = consumer.poll(0.05)
            if message is None:
                continue
            error = message.error()
            if error is None:
                unread.add(message.partition() or 0)
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition() or 0)
    finally:
        consumer.close()
