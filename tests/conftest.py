"""What all tests share: one real broker for the whole run, and topics on it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient

from infra.broker import EmbeddedBroker
from infra.topic_admin import create_topics
from infra.topics import PARTITIONS, Kind, Topic, party_topics

_party_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """One embedded broker for the whole run. Tests that stop or kill a broker start their own."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="session")
def admin(broker: EmbeddedBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap})


@pytest.fixture
def new_party() -> Callable[[str], str]:
    """Names parties which no other test of this run uses, so that tests share a broker and no topics."""

    def name_party(role: str) -> str:
        return f"{role}-{next(_party_numbers)}"

    return name_party


@pytest.fixture
def make_topic(admin: AdminClient) -> Callable[..., str]:
    """Makes one topic outside the catalogue: `make_topic("name", partitions=1, **config)`."""

    def make(name: str, partitions: int = 1, **config: str) -> str:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        create_topics(admin, (Topic(name, Kind.EXCHANGE, "nobody", None, partitions, settings),))
        return name

    return make


@pytest.fixture
def make_party_topics(admin: AdminClient) -> Callable[..., tuple[Topic, ...]]:
    """Makes the catalogue's topics of a party: `make_party_topics("guest-1", partitions=4)`."""

    def make(party: str, partitions: int = PARTITIONS) -> tuple[Topic, ...]:
        topics = party_topics(party, partitions)
        create_topics(admin, topics)
        return topics

    return make
