"""The benches as fixtures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.contract.benches import Bench, FakeBench, KafkaBench

_numbers = itertools.count(1)


@pytest.fixture(params=["fake", "kafka"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made: Bench
    if request.param == "fake":
        made = FakeBench()
    else:
        make_topic: Callable[..., str] = request.getfixturevalue("make_topic")
        made = KafkaBench(request.getfixturevalue("broker"), f"bench-{next(_numbers)}", make_topic)
    yield made
    made.close()
