"""Makes the catalogue's topics on a cluster, and says where a cluster differs from the catalogue."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigEntry, ConfigResource, NewTopic, ResourceType

from infra.topics import Topic

REQUEST_TIMEOUT_SECONDS = 30.0
#: Between two looks for topics that were just made.
PRESENCE_LOOK_SECONDS = 0.02


class TopicError(Exception):
    """Topics could not be made or looked at."""


class Presence(StrEnum):
    """What `inspect_topics` found for a topic."""

    MISSING = "missing"
    MATCHES = "matches"
    DIFFERS = "differs"


@dataclass(frozen=True)
class TopicReport:
    """One topic of the catalogue on a cluster. Each difference is a sentence that says what to do."""

    topic: Topic
    presence: Presence
    differences: tuple[str, ...] = ()


def create_topics(admin: AdminClient, topics: tuple[Topic, ...], replication_factor: int = 1) -> tuple[Topic, ...]:
    """Make the topics that are missing and return them; leave the others as they are.

    Returns when clients can find them all. Raises `TopicError` when an existing topic differs from the catalogue (every
    difference of every topic listed, and nothing made), or when the cluster refuses. A topic that someone else makes in
    the meantime is fine.
    """
    reports = inspect_topics(admin, topics)
    differences = [difference for report in reports for difference in report.differences]
    if differences:
        raise TopicError("these topics differ from the catalogue; no topic was made:\n  " + "\n  ".join(differences))
    missing = [report.topic for report in reports if report.presence is Presence.MISSING]
    if not missing:
        return ()
    wanted = [
        NewTopic(topic.name, topic.partitions, replication_factor=replication_factor, config=dict(topic.config))
        for topic in missing
    ]
    problems = []
    for name, future in admin.create_topics(wanted, operation_timeout=REQUEST_TIMEOUT_SECONDS).items():
        try:
            future.result(timeout=REQUEST_TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                problems.append(f"{name}: {error.args[0].str()}")
    if problems:
        raise TopicError("these topics could not be made:\n  " + "\n  ".join(problems))
    _await_presence(admin, missing)
    return tuple(missing)


def inspect_topics(admin: AdminClient, topics: tuple[Topic, ...]) -> tuple[TopicReport, ...]:
    """Compare a cluster with the catalogue: existence, partition counts, and the settings that the catalogue gives."""
    partitions = _partition_counts(admin)
    present = [topic for topic in topics if topic.name in partitions]
    configs = _configs(admin, present)
    reports = []
    for topic in topics:
        if topic.name not in partitions:
            reports.append(TopicReport(topic, Presence.MISSING))
            continue
        differences = _differences(topic, partitions[topic.name], configs[topic.name])
        reports.append(TopicReport(topic, Presence.DIFFERS if differences else Presence.MATCHES, differences))
    return tuple(reports)


def _differences(topic: Topic, partitions: int, config: dict[str, str]) -> tuple[str, ...]:
    found = []
    if partitions != topic.partitions:
        found.append(
            f"{topic.name} has {partitions} partitions, the catalogue says {topic.partitions}: keys would move, so it "
            "cannot be changed in place; let its jobs end, delete it and make it again"
        )
    for name, value in topic.config.items():
        if config.get(name) != value:
            found.append(
                f"{topic.name} has {name}={config.get(name)}, the catalogue says {value}: "
                f"kafka-configs --alter --entity-type topics --entity-name {topic.name} --add-config {name}={value}"
            )
    return tuple(found)


def _await_presence(admin: AdminClient, topics: list[Topic]) -> None:
    """A cluster confirms a topic before all of its brokers know it, and a client may ask any of them."""
    deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
    while absent := {topic.name for topic in topics} - _partition_counts(admin).keys():
        if time.monotonic() > deadline:
            raise TopicError(f"the cluster made these topics but does not show them: {', '.join(sorted(absent))}")
        time.sleep(PRESENCE_LOOK_SECONDS)


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    try:
        found = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise TopicError(f"the cluster does not answer: {error.args[0].str()}") from error
    return {name: len(metadata.partitions) for name, metadata in found.items()}


def _configs(admin: AdminClient, topics: list[Topic]) -> dict[str, dict[str, str]]:
    if not topics:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
    futures: dict[ConfigResource, Future[dict[str, ConfigEntry]]] = admin.describe_configs(
        resources, request_timeout=REQUEST_TIMEOUT_SECONDS
    )
    configs: dict[str, dict[str, str]] = {}
    for resource, future in futures.items():
        try:
            entries = future.result(timeout=REQUEST_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise TopicError(f"the settings of {resource.name} cannot be read: {error.args[0].str()}") from error
        configs[str(resource.name)] = {name: str(entry.value) for name, entry in entries.items()}
    return configs
