"""The catalogue as data."""

from __future__ import annotations

import pytest

from infra.topics import (
    SCORING,
    Kind,
    check_party_name,
    dead_letter_topic,
    group_id,
    party_topics,
    serving_topic,
    statements_topic,
    transactional_id,
)
from schemas.audit_statements import AUDIT
from schemas.cohorts import COHORT
from schemas.jobs import Stage


def test_every_stage_has_its_own_door_commands_and_state() -> None:
    topics = party_topics("acme")
    for kind in (Kind.COMMANDS, Kind.EXCHANGE, Kind.STATE):
        assert {topic.stage for topic in topics if topic.kind is kind and topic.stage} == set(Stage)
    assert len({topic.name for topic in topics}) == len(topics)


def test_what_comes_from_outside_and_every_state_has_one_reader() -> None:
    for topic in party_topics("acme"):
        if topic.kind in (Kind.COMMANDS, Kind.EXCHANGE, Kind.STATE, Kind.REQUESTS, Kind.ROUTED):
            assert topic.reader in {*Stage, COHORT, AUDIT, *SCORING}, topic.name


def test_whatever_is_joined_is_co_partitioned() -> None:
    single = {dead_letter_topic("acme"), serving_topic("acme"), statements_topic("acme")}
    counts = {topic.partitions for topic in party_topics("acme", 7) if topic.name not in single}
    assert counts == {7}


def test_only_what_can_be_rebuilt_by_key_is_compacted() -> None:
    for topic in party_topics("acme"):
        by_key = (Kind.STATE, Kind.REGISTRY, Kind.VIEW, Kind.SERVING, Kind.FEATURES)
        expected = "compact" if topic.kind in by_key else "delete"
        assert topic.config["cleanup.policy"] == expected, topic.name


def test_names_are_what_operators_were_told() -> None:
    names = {topic.name for topic in party_topics("acme")}
    assert {
        "vfl.align.exchange.acme.v1",
        "vfl.train.state.acme.v1",
        "vfl.job.commands.acme.v1",
        "vfl.cohort.commands.acme.v1",
        "vfl.cohort.state.acme.v1",
        "vfl.audit.commands.acme.v1",
        "vfl.audit.exchange.acme.v1",
        "vfl.audit.state.acme.v1",
        "vfl.audit.results.acme.v1",
        "vfl.job.events.acme.v1",
        "vfl.job.view.acme.v1",
        "vfl.model.registry.acme.v1",
        "vfl.deadletter.acme.v1",
        "vfl.score.requests.acme.v1",
        "vfl.score.exchange.acme.v1",
        "vfl.score.answers.acme.v1",
        "vfl.score.results.acme.v1",
        "vfl.score.audit.acme.v1",
        "vfl.features.acme.v1",
    } <= names
    assert group_id("train", "acme") == "vfl.acme.train.v1"
    assert transactional_id("train", "acme", 0) == "vfl.acme.train.0"


@pytest.mark.parametrize("name", ["", "Acme", "a.b", "a_b", "1st", "-a", "a b", "a" * 41, "ä", "a/b", "٣a"])
def test_a_name_that_kafka_or_a_reader_could_mistake_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a party"):
        check_party_name(name)
