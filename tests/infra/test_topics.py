"""The catalogue as data."""

from __future__ import annotations

import pytest

from infra.topics import Kind, check_party_name, group_id, party_topics, transactional_id
from schemas.jobs import Stage


def test_every_stage_has_its_own_door_commands_and_state() -> None:
    topics = party_topics("acme")
    for kind in (Kind.COMMANDS, Kind.EXCHANGE, Kind.STATE):
        assert {topic.stage for topic in topics if topic.kind is kind} == set(Stage)
    assert len({topic.name for topic in topics}) == len(topics) == 3 * len(Stage) + 4


def test_state_events_view_commands_and_exchange_are_co_partitioned() -> None:
    counts = {topic.partitions for topic in party_topics("acme", 7) if topic.kind is not Kind.DEAD_LETTER}
    assert counts == {7}


def test_only_what_can_be_rebuilt_by_key_is_compacted() -> None:
    for topic in party_topics("acme"):
        expected = "compact" if topic.kind in (Kind.STATE, Kind.REGISTRY, Kind.VIEW) else "delete"
        assert topic.config["cleanup.policy"] == expected, topic.name


def test_names_are_what_operators_were_told() -> None:
    names = {topic.name for topic in party_topics("acme")}
    assert {
        "vfl.align.exchange.acme.v1",
        "vfl.train.state.acme.v1",
        "vfl.job.commands.acme.v1",
        "vfl.job.events.acme.v1",
        "vfl.job.view.acme.v1",
        "vfl.model.registry.acme.v1",
        "vfl.deadletter.acme.v1",
    } <= names
    assert group_id("train", "acme") == "vfl.acme.train.v1"
    assert transactional_id("train", "acme", 0) == "vfl.acme.train.0"


@pytest.mark.parametrize("name", ["", "Acme", "a.b", "a_b", "1st", "-a", "a b", "a" * 41, "ä", "a/b", "٣a"])
def test_a_name_that_kafka_or_a_reader_could_mistake_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a party"):
        check_party_name(name)
