"""What is booked up to which time, while partitions grow."""

from __future__ import annotations

import time
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumers.end_marks import EndMarks

FIRST, SECOND = ("books", 0), ("books", 1)


class Ends:
    """What a consumer tells of the ends of partitions."""

    def __init__(self) -> None:
        self.ends = {FIRST: 10, SECOND: 20}
        self.is_away = False

    def get_watermark_offsets(self, place: TopicPartition, seconds: float) -> tuple[int, int]:
        """(oldest, next) offset."""
        if self.is_away:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return 0, self.ends[place.topic, place.partition]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_an_end_that_was_reached_counts_for_the_time_of_the_look_though_there_is_more_by_now(
    clock: list[float],
) -> None:
    ends, marks = Ends(), EndMarks()
    booked = {FIRST: 3, SECOND: 20}
    marks.look_up(cast(Consumer, ends), booked)
    assert marks.take_reached(booked) == {100_000: [SECOND]}
    clock[0], ends.ends[FIRST] = 105.0, 500
    marks.look_up(cast(Consumer, ends), booked)
    assert marks.take_reached({FIRST: 9, SECOND: 19}) == {}
    assert marks.take_reached({FIRST: 10, SECOND: 20}) == {100_000: [FIRST], 105_000: [SECOND]}
    assert marks.take_reached({FIRST: 1000, SECOND: 1000}) == {}


def test_what_a_broker_does_not_tell_is_asked_again(clock: list[float]) -> None:
    ends, marks = Ends(), EndMarks()
    booked = {FIRST: 10}
    ends.is_away = True
    marks.look_up(cast(Consumer, ends), booked)
    assert marks.take_reached(booked) == {}
    ends.is_away = False
    clock[0] = 103.0
    marks.look_up(cast(Consumer, ends), booked)
    assert marks.take_reached(booked) == {103_000: [FIRST]}


def test_partitions_that_are_given_away_leave_nothing(clock: list[float]) -> None:
    ends, marks = Ends(), EndMarks()
    marks.look_up(cast(Consumer, ends), {FIRST: 0})
    marks.clear()
    assert marks.take_reached({FIRST: 10}) == {}
