"""What all tests share: one real broker for the whole run, and topics on it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from infra.broker import EmbeddedBroker
from infra.topic_admin import create_topics
from infra.topics import PARTITIONS, Kind, Topic, party_topics

TESTS = Path(__file__).parent
# How long an example takes says how busy the machine is.
settings.register_profile("isthmus", deadline=None)
settings.load_profile("isthmus")
_party_numbers = itertools.count(1)

#: Here are the files that take longest. Started last, one of them would keep a single worker busy at the end.
LONGEST_FIRST = ("end_to_end", "broker", "secrecy")


class FilesTogether(LoadFileScheduling):  # type: ignore[misc]  # It comes without types.
    """A worker gets whole files, which share what is expensive; and one gets all jobs of whole parties.

    Each of these fills two cores with its processes: two at a time gain nothing and wait for each other.
    """

    def _split_scope(self, nodeid: str) -> str:
        whole = nodeid.startswith("tests/end_to_end/")
        return "tests/end_to_end" if whole else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    return FilesTogether(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        places = {name: place for place, name in enumerate(LONGEST_FIRST)}
        items.sort(key=lambda item: places.get(item.path.relative_to(TESTS).parts[0], len(places)))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """One embedded broker for the whole run. Tests that stop or kill a broker start their own."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker"), is_open=True) as running:
        yield running


@pytest.fixture(scope="session")
def guarded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """One that lets nobody in without a password, and to nothing without a rule; for the whole run as well."""
    with EmbeddedBroker(tmp_path_factory.mktemp("guarded")) as running:
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
