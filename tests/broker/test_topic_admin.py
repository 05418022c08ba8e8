"""The catalogue on a real cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient

from infra.topic_admin import Presence, TopicError, create_topics, inspect_topics
from infra.topics import party_topics


def test_making_topics_again_makes_nothing(admin: AdminClient, new_party: Callable[[str], str]) -> None:
    topics = party_topics(new_party("twice"))
    assert {report.presence for report in inspect_topics(admin, topics)} == {Presence.MISSING}
    assert create_topics(admin, topics) == topics
    assert create_topics(admin, topics) == ()
    assert {report.presence for report in inspect_topics(admin, topics)} == {Presence.MATCHES}


def test_every_difference_is_told_and_nothing_is_made(admin: AdminClient, new_party: Callable[[str], str]) -> None:
    topics = party_topics(new_party("differing"))
    states = [topic for topic in topics if topic.config["cleanup.policy"] == "compact"]
    odd = (
        replace(states[0], partitions=2),
        replace(states[1], config={**states[1].config, "cleanup.policy": "delete"}),
    )
    create_topics(admin, odd)
    with pytest.raises(TopicError) as caught:
        create_topics(admin, topics)
    text = str(caught.value)
    assert f"{odd[0].name} has 2 partitions, the catalogue says 4" in text
    assert f"{odd[1].name} has cleanup.policy=delete, the catalogue says compact" in text
    assert f"--entity-name {odd[1].name} --add-config cleanup.policy=compact" in text
    missing = [report for report in inspect_topics(admin, topics) if report.presence is Presence.MISSING]
    assert len(missing) == len(topics) - 2


def test_what_the_catalogue_lacks_is_made_beside_what_exists(
    admin: AdminClient, new_party: Callable[[str], str]
) -> None:
    topics = party_topics(new_party("partial"))
    create_topics(admin, topics[:3])
    assert create_topics(admin, topics) == topics[3:]


def test_a_cluster_that_is_away_is_an_error_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.topic_admin.REQUEST_TIMEOUT_SECONDS", 0.5)
    nobody = AdminClient({"bootstrap.servers": "127.0.0.1:9", "log_level": 0})
    with pytest.raises(TopicError, match="does not answer"):
        inspect_topics(nobody, party_topics("acme"))
