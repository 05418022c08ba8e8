"""The benches as fixtures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from streams.engine.kafka_settings import Membership
from tests.contract.benches import Bench, FakeBench, KafkaBench

_numbers = itertools.count(1)


@pytest.fixture(params=["fake", "kafka"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = _make_bench(request, Membership.STATIC)
    yield made
    made.close()


@pytest.fixture(params=["fake", "kafka", "kafka-848"])
def group_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """With the newer group protocol as well."""
    made = _make_bench(request, Membership.CONSUMER if request.param == "kafka-848" else Membership.STATIC)
    yield made
    made.close()


def _make_bench(request: pytest.FixtureRequest, membership: Membership) -> Bench:
    if request.param == "fake":
        return FakeBench()
    make_topic: Callable[..., str] = request.getfixturevalue("make_topic")
    return KafkaBench(request.getfixturevalue("broker"), f"bench-{next(_numbers)}", make_topic, membership)
