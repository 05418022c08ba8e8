"""What librdkafka is told, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Membership(StrEnum):
    """How the processes of a group divide the partitions; measured in docs/decisions/0003-group-membership.md."""

    #: The classic protocol with static members (KIP-345): a process that comes back is the member that it was.
    STATIC = "static"
    #: The protocol of KIP-848, `group.protocol=consumer`, with members that are new at every start.
    CONSUMER = "consumer"
    #: The same with static members.
    CONSUMER_STATIC = "consumer_static"

    @property
    def is_static(self) -> bool:
        """Whether a member has a name that outlives it."""
        return self is not Membership.CONSUMER

    @property
    def is_incremental(self) -> bool:
        """Whether partitions come and go one by one, not all at once."""
        return self is not Membership.STATIC


@dataclass(frozen=True)
class KafkaTimeouts:
    """All waiting of one process. Tests shorten some."""

    #: A dead member that does not come back loses its partitions after so long; brokers allow 6 s or more by default.
    #: With `Membership.CONSUMER` the broker's `group.consumer.session.timeout.ms` counts instead.
    session_ms: int = 10_000
    heartbeat_ms: int = 2_000
    #: Silence of the poll thread after which the group gives up on us; `keep_alive` comes far more often.
    max_poll_interval_ms: int = 300_000
    #: The broker aborts a transaction that is open for so long. Ours begin after the computing and take milliseconds; a
    #: killed process that does not come back blocks its readers until then.
    transaction_ms: int = 30_000
    #: How long a call of the producer waits for its answer: longer than a broker takes to come back (5 s when idle).
    #: More would cost that much whenever librdkafka sticks (see `kafka_producer`); less only makes a new producer.
    call_seconds: float = 15.0
    #: Requests about topics and offsets.
    request_seconds: float = 10.0
    #: How long the group's positions may be undecided before the engine serves the group in between.
    positions_seconds: float = 1.0
    #: How long reading a state partition may stand still before the engine asks again.
    state_read_seconds: float = 5.0


#: Every client. Just after a commit the coordinator answers CONCURRENT_TRANSACTIONS; librdkafka's default of 100 ms
#: until it asks again would be the p99 of every hop (measured 126 ms, with these 35 ms).
CLIENT: dict[str, Any] = {
    "retry.backoff.ms": 5,
    "retry.backoff.max.ms": 50,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    "broker.address.family": "v4",
    "log.connection.close": False,
    "socket.nagle.disable": True,
}

#: Everything that reads. The engine says where to start, so the reset counts only where retention has removed records:
#: the reader goes on at the oldest that is left, and the gaps in the streams tell the jobs.
READER: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    # Prefetched by each process; librdkafka's default of 64 MB would be most of its memory.
    "queued.max.messages.kbytes": 16_384,
    "fetch.queue.backoff.ms": 20,
    # A fetch that the broker holds back because there is nothing new also holds back the first fetch of a partition
    # that was just started; librdkafka's default is 500.
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 50,
}

#: What waits for records of jobs. A home has seven such processes, most of them idle: at 100 ms their fetches took a
#: fifth of a core from whoever works.
STAGE_READER: dict[str, Any] = {**READER, "fetch.wait.max.ms": 400}

#: What writes books beside online scoring: nobody waits for it, and each of its fetches costs those who score.
BOOKS_READER: dict[str, Any] = {**READER, "fetch.min.bytes": 262_144, "fetch.wait.max.ms": 500}

#: What reads a state to its end and is then idle: the end is only told when a fetch comes back empty.
STATE_READER: dict[str, Any] = {**READER, "fetch.wait.max.ms": 10, "enable.partition.eof": True}

PRODUCER: dict[str, Any] = {
    "linger.ms": 0,
    # Kafka's own default limit; chunks and states stay below it.
    "message.max.bytes": 1_048_576,
    "queue.buffering.max.kbytes": 262_144,
}


def reading_group(connection: Mapping[str, Any]) -> str:
    """The group that a consumer names which never joins one and never commits.

    librdkafka wants a name all the same, and looks for its coordinator, for which a broker with rules wants a right:
    every principal has it for the groups that are named after it (`infra/access.py`).
    """
    return f"vfl.{connection['sasl.username']}.reader" if "sasl.username" in connection else "isthmus-reader"


def member_properties(membership: Membership, timeouts: KafkaTimeouts) -> dict[str, Any]:
    """How the consumer takes part in its group.

    Partition p of all inputs has to go to one process: that is what `range` does, with either protocol. (Sticky and
    uniform assignors mix partitions of different topics.)
    """
    common: dict[str, Any] = {"max.poll.interval.ms": timeouts.max_poll_interval_ms}
    if membership.is_incremental:
        return {**common, "group.protocol": "consumer", "group.remote.assignor": "range"}
    return {
        **common,
        "partition.assignment.strategy": "range",
        "session.timeout.ms": timeouts.session_ms,
        "heartbeat.interval.ms": timeouts.heartbeat_ms,
    }
