"""Lag in words."""

from __future__ import annotations

from producers.lag import COUNT_LIMIT, STAGES, StageLag, TopicLag, describe_lag, stage_topics
from schemas.jobs import Stage

#: 2026-01-02 03:04:05 UTC.
THEN_MS = 1_767_323_045_000


def _lag(*topics: TopicLag, members: int | None = 1) -> StageLag:
    return StageLag("shop", Stage.TRAIN, "vfl.shop.train.v1", topics, members)


def test_a_lag_names_stage_party_count_time_and_topic() -> None:
    text = describe_lag(_lag(TopicLag("commands", 0), TopicLag("exchange", 3, THEN_MS)), THEN_MS + 12_000)
    assert text == "train at shop: 3 records behind, the oldest since 03:04:05 UTC (12 s): 3 on exchange."


def test_the_oldest_record_of_all_topics_counts() -> None:
    lag = _lag(TopicLag("commands", 1, THEN_MS + 5_000), TopicLag("exchange", 2, THEN_MS))
    assert (lag.behind, lag.oldest_ms) == (3, THEN_MS)
    assert "(10 min)" in describe_lag(lag, THEN_MS + 600_000)


def test_no_lag_is_said_as_well() -> None:
    assert describe_lag(_lag(TopicLag("commands", 0)), THEN_MS) == "train at shop: up to date."


def test_a_stage_that_nobody_runs_says_how_to_run_it() -> None:
    for members in (0, None):
        text = describe_lag(_lag(TopicLag("commands", 1, THEN_MS), members=members), THEN_MS)
        assert text.startswith("train at shop: 1 record behind")
        assert "isthmus party run" in text


def test_a_process_of_scoring_is_run_by_another_command() -> None:
    lag = StageLag("shop", "score-host", "vfl.shop.score-host.v1", (TopicLag("questions", 2, THEN_MS),), 0)
    assert describe_lag(lag, THEN_MS).startswith("score-host at shop: 2 records behind")
    assert "isthmus score run" in describe_lag(lag, THEN_MS)


def test_counting_stops_somewhere() -> None:
    assert "more than 1000 records" in describe_lag(_lag(TopicLag("exchange", COUNT_LIMIT, THEN_MS)), THEN_MS)


def test_coordinator_and_auditor_also_read_events_and_the_register_of_cohorts_has_no_door() -> None:
    assert [len(stage_topics("shop", stage)) for stage in STAGES] == [3, 2, 2, 2, 2, 1, 4]
