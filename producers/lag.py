"""How far each stage is behind its input, in words: committed offsets of its group against the end of its topics.

The same numbers as Kafka's own `kafka-consumer-groups --describe`, but for one thing: a transaction's commit marker
occupies an offset that no consumer ever receives, so the stock tool may show a lag of 1 where nothing is left to do.
Here only records count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from infra.access import OPERATOR
from infra.connection import Connection
from infra.topics import (
    HISTORY,
    JOINER,
    RECONCILER,
    ROUTER,
    SCORE_HOST,
    answers_topic,
    commands_topic,
    events_topic,
    exchange_topic,
    group_id,
    job_audit_topic,
    questions_topic,
    requests_topic,
    results_topic,
    routed_topic,
    score_audit_topic,
    statements_topic,
)
from producers.topic_reader import (
    ANSWER_SECONDS,
    FETCH_WAIT_MS,
    QUIET,
    BrokerUnavailableError,
    check_topics,
)
from schemas.audit_statements import AUDIT
from schemas.cohorts import COHORT
from schemas.jobs import Stage
from streams.engine.kafka_settings import reading_group

#: What `isthmus party run` runs.
STAGES: tuple[str, ...] = (*Stage, COHORT, AUDIT)
#: Counting stops here: beyond it, "far behind" is all that an operator needs.
COUNT_LIMIT = 1000
#: Of all stages together: an hour of training leaves more behind than anybody wants to wait for.
READ_LIMIT = 5 * COUNT_LIMIT


@dataclass(frozen=True)
class TopicLag:
    """Records of one topic that the stage has not taken in. `oldest_ms` is the timestamp of the first one."""

    topic: str
    behind: int
    oldest_ms: int | None = None


@dataclass(frozen=True)
class StageLag:
    """How far one stage, or process of scoring, at one party is behind.

    `members` counts its processes; `None`: the group is unknown.
    """

    party: str
    stage: str
    group: str
    topics: tuple[TopicLag, ...]
    members: int | None

    @property
    def behind(self) -> int:
        """Records on all topics."""
        return sum(topic.behind for topic in self.topics)

    @property
    def oldest_ms(self) -> int | None:
        """Since when the first of them waits."""
        return min((topic.oldest_ms for topic in self.topics if topic.oldest_ms is not None), default=None)


def describe_lag(lag: StageLag, now_ms: int) -> str:
    """The sentence for one stage, such as `align at host: 3 records behind, the oldest since 14:03:22 (12 s)`."""
    who = f"{lag.stage} at {lag.party}"
    command = "isthmus party run" if lag.stage in STAGES else "isthmus score run"
    running = "" if lag.members else f" No process runs for it: {command}."
    if not lag.behind:
        return f"{who}: up to date.{running}"
    records = (
        f"{'more than ' if lag.behind >= COUNT_LIMIT else ''}{lag.behind} record{'s' if lag.behind > 1 else ''} behind"
    )
    since = ""
    if lag.oldest_ms is not None:
        clock = datetime.fromtimestamp(lag.oldest_ms / 1000, UTC).strftime("%H:%M:%S")
        since = f", the oldest since {clock} UTC ({_duration((now_ms - lag.oldest_ms) / 1000)})"
    parts = ", ".join(f"{topic.behind} on {topic.topic}" for topic in lag.topics if topic.behind)
    return f"{who}: {records}{since}: {parts}.{running}"


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def stage_topics(party: str, stage: str) -> tuple[str, ...]:
    """What a stage reads. The coordinator also follows what its own party's tasks report; the auditor what crosses."""
    if stage == COHORT:
        return (commands_topic(stage, party),)
    topics = (commands_topic(stage, party), exchange_topic(stage, party))
    if stage == AUDIT:
        return (*topics, events_topic(party), job_audit_topic(party))
    return (*topics, events_topic(party)) if stage == Stage.JOB else topics


def scoring_topics(party: str) -> dict[str, tuple[str, ...]]:
    """What the processes of online scoring read, by the process."""
    return {
        ROUTER: (requests_topic(party),),
        SCORE_HOST: (questions_topic(party),),
        JOINER: (routed_topic(party), answers_topic(party)),
        HISTORY: (results_topic(party), score_audit_topic(party)),
        RECONCILER: (statements_topic(party),),
    }


def measure_lag(connect: Callable[[str], Connection], party: str) -> tuple[StageLag, ...]:
    """The lag of every stage of the party, and of scoring's processes that ever ran.

    `connect` says how to reach the broker in a role: groups are looked at as `operator`, and what waits for a process
    as that process, for nobody else may read it.

    Raises `BrokerUnavailableError`.
    """
    scoring = scoring_topics(party)
    inputs: dict[str, tuple[str, ...]] = {**{stage: stage_topics(party, stage) for stage in STAGES}, **scoring}
    operator = connect(OPERATOR)
    counts = check_topics(operator, tuple(topic for topics in inputs.values() for topic in topics))
    admin = AdminClient(dict(operator), logger=QUIET)
    groups = {stage: group_id(stage, party) for stage in inputs}
    members = _members(admin, tuple(groups.values()))
    unread: dict[str, dict[str, TopicLag]] = {}
    for stage, topics in list(inputs.items()):
        partitions = [TopicPartition(topic, partition) for topic in topics for partition in range(counts[topic])]
        committed = _committed(admin, groups[stage], partitions)
        if stage in scoring and not members.get(groups[stage]) and all(p.offset < 0 for p in committed):
            del inputs[stage]
            continue
        # As the process itself: the auditor reads what others read as well, from positions of its own.
        unread[stage] = _unread(connect(stage), committed)
    return tuple(
        StageLag(
            party, stage, groups[stage], tuple(unread[stage][topic] for topic in topics), members.get(groups[stage])
        )
        for stage, topics in inputs.items()
    )


def find_idle_stages(admin: AdminClient, party: str) -> frozenset[str]:
    """Stages of the party that no process runs for yet; `admin` is connected as `operator`."""
    groups = {group_id(stage, party): stage for stage in STAGES}
    members = _members(admin, tuple(groups))
    return frozenset(stage for group, stage in groups.items() if not members.get(group))


def _members(admin: AdminClient, groups: Sequence[str]) -> Mapping[str, int]:
    found = {}
    for group, future in admin.describe_consumer_groups(list(groups), request_timeout=ANSWER_SECONDS).items():
        try:
            found[group] = len(future.result().members)
        except KafkaException:
            # Kafka 4 answers GROUP_ID_NOT_FOUND for a group that never had a member.
            continue
    return found


def _committed(admin: AdminClient, group: str, partitions: list[TopicPartition]) -> list[TopicPartition]:
    request = ConsumerGroupTopicPartitions(group, partitions)
    try:
        answer = admin.list_consumer_group_offsets([request], request_timeout=ANSWER_SECONDS)[group].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return [TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in partitions]
        raise BrokerUnavailableError(f"the offsets of group {group} could not be read: {error.args[0].str()}") from None
    return [
        TopicPartition(p.topic, p.partition, p.offset if p.offset >= 0 else OFFSET_BEGINNING)
        for p in answer.topic_partitions or ()
    ]


@dataclass
class _Count:
    behind: int = 0
    oldest_ms: int | None = None
    at_end: set[int] = field(default_factory=set)


def _unread(connection: Connection, positions: list[TopicPartition]) -> dict[str, TopicLag]:
    """Committed records after the positions, counted by topic."""
    consumer = Consumer(
        {
            **connection,
            "group.id": reading_group(connection),
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": FETCH_WAIT_MS,
        },
        logger=QUIET,
    )
    counts: dict[str, _Count] = {position.topic: _Count() for position in positions}
    total, deadline = 0, time.monotonic() + ANSWER_SECONDS
    consumer.assign(positions)
    try:
        while sum(len(count.at_end) for count in counts.values()) < len(positions) and total < READ_LIMIT:
            if time.monotonic() > deadline:
                raise BrokerUnavailableError("the broker answered too slowly: the lag is unknown")
            for message in consumer.consume(200, 0.1):
                topic, partition, error = message.topic(), message.partition(), message.error()
                if topic is None or partition is None:
                    continue
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        counts[topic].at_end.add(partition)
                    continue
                count, timestamp = counts[topic], message.timestamp()[1]
                count.behind += 1
                count.oldest_ms = timestamp if count.oldest_ms is None else min(count.oldest_ms, timestamp)
                total += 1
    finally:
        consumer.close()
    return {topic: TopicLag(topic, count.behind, count.oldest_ms) for topic, count in counts.items()}
