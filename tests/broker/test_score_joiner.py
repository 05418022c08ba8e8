"""The joiner's process on a real broker, killed and crowded out. Each test proves that its fault happened."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.broker import EmbeddedBroker
from streams.engine import failpoints
from tests.broker.joiner_house import JoinerHouse

POINTS = (
    failpoints.DURING_RESTORE,
    failpoints.AFTER_POLL,
    failpoints.AFTER_BEGIN,
    failpoints.AFTER_PRODUCE,
    failpoints.AFTER_OFFSETS,
    failpoints.AFTER_COMMIT,
    failpoints.BEFORE_TIMERS,
)


@pytest.fixture
def house(broker: EmbeddedBroker, tmp_path: Path, new_party: Callable[[str], str]) -> Iterator[JoinerHouse]:
    made = JoinerHouse(broker, tmp_path, new_party("guest"), new_party("host"))
    yield made
    made.stop_all()


def test_a_joiner_killed_at_any_failpoint_comes_back_and_each_request_has_one_outcome(house: JoinerHouse) -> None:
    for number, point in enumerate(POINTS):
        house.feed(20 * number, 10)
        killed = house.start(failpoint=f"{point}:1")
        house.feed(20 * number + 10, 10)
        assert killed.wait(60) == -signal.SIGKILL, house.log_tail()
        assert not house.marker.exists()
        if point == failpoints.AFTER_OFFSETS:
            assert house.transactions()[house.transactional_id()] == "Ongoing"
    last = house.start()
    house.check_done()
    last.send_signal(signal.SIGTERM)
    assert last.wait(60) == 0, house.log_tail()


def test_a_joiner_killed_again_and_again_under_load_gives_each_request_one_outcome(house: JoinerHouse) -> None:
    """Killed from outside, wherever it happens to be, with more to do behind it."""
    fed, interrupted, alive = 0, 0, house.start()
    for _ in range(6):
        seen = len(house.results())
        for _ in range(5):
            house.feed(fed, 100)
            fed += 100
        house.await_results(seen + 1)
        house.feed(fed, 100)
        fed += 100
        alive.kill()
        assert alive.wait(60) == -signal.SIGKILL
        interrupted += len(house.results()) < house.live_count
        alive = house.start()
    house.check_done()
    assert interrupted >= 3
    assert len(house.expected) == fed + fed // 10


def test_a_second_joiner_shares_the_work_and_goes_on_alone(house: JoinerHouse) -> None:
    first = house.start(0)
    house.feed(0, 100)
    house.await_results(1)
    house.start(1)
    house.feed(100, 100)
    house.await_results(150)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0, house.log_tail()
    house.feed(200, 100)
    house.check_done()
    # Both partitions' work is done, though the first was a static member that left without a word.
    assert house.transactions().keys() >= {house.transactional_id(0), house.transactional_id(1)}


def test_the_checks_look_where_the_records_are(house: JoinerHouse) -> None:
    """They would pass on nothing at all, if they looked in the wrong place."""
    house.feed(0, 20)
    house.start()
    house.check_done()
    key = next(iter(house.expected))
    outcome = house.expected.pop(key)
    with pytest.raises(AssertionError):
        house.check_done()
    house.expected[key] = outcome
    house.check_done()
