"""The server properties of the embedded broker: one node that is small, starts fast and listens on loopback only."""

from __future__ import annotations

from pathlib import Path

from infra.broker.listeners import Ports

#: Kafka's own default, and a quarter more, so that a record of 1 MiB with its key, headers and envelope fits.
MESSAGE_MAX_BYTES = 1_310_720
#: How long a producer may ask to keep a transaction open at most; the broker aborts it then.
TRANSACTION_MAX_TIMEOUT_MS = 900_000
#: How often it looks for transactions to abort; with the default of 10 s a crashed producer blocks readers longer.
TRANSACTION_ABORT_CHECK_MS = 1_000
#: A year: a party that is switched off over the holidays must find its offsets again.
OFFSETS_RETENTION_MINUTES = 525_600
#: Internal topics are for a handful of groups; 50 partitions of each, the default, only slow the start down.
INTERNAL_PARTITIONS = 4
#: 16 MiB instead of 128 MiB of a 512 MiB heap; holds some 700,000 keys of a compacted partition.
CLEANER_BUFFER_BYTES = 16_777_216
#: A killed broker must not register again before its old session is over (default 9 s): restarts wait for that.
SESSION_TIMEOUT_MS, HEARTBEAT_INTERVAL_MS = 4_000, 500
#: A record that arrives while its transaction takes in something else, such as the group's positions, is looked at
#: again after so long. With the default of 20 ms many transactions of a joiner under load take 20 ms longer.
ADD_PARTITIONS_RETRY_MS = 1
#: Before it takes a transaction's first record in a partition, a broker can ask the transaction's coordinator, over the
#: network, whether the partition is part of it: four times a transaction of a joiner, a quarter of its time. That keeps
#: out what arrives late from a producer that went on after an abort, and ours never do (`streams/engine/transaction`).
#: Producers that know KIP-890 are asked for in any case.
VERIFIES_PARTITIONS = "false"
SEGMENT_BYTES = 67_108_864
#: Index files are mapped at their full size, two a partition: room for a segment's entries (8 bytes for every 4 KiB).
INDEX_BYTES = 1_048_576


def server_properties(data: Path, ports: Ports) -> dict[str, str]:
    """The properties of a combined broker and controller with its log in `data`, but for who gets in."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{ports.controller}",
        "broker.session.timeout.ms": str(SESSION_TIMEOUT_MS),
        "broker.heartbeat.interval.ms": str(HEARTBEAT_INTERVAL_MS),
        "log.dirs": str(data),
        # Topics come from the catalogue only.
        "auto.create.topics.enable": "false",
        "num.partitions": "4",
        "default.replication.factor": "1",
        "offsets.topic.num.partitions": str(INTERNAL_PARTITIONS),
        "offsets.topic.replication.factor": "1",
        "offsets.retention.minutes": str(OFFSETS_RETENTION_MINUTES),
        "transaction.state.log.num.partitions": str(INTERNAL_PARTITIONS),
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.max.timeout.ms": str(TRANSACTION_MAX_TIMEOUT_MS),
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": str(TRANSACTION_ABORT_CHECK_MS),
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # The first member of a group need not wait for others.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "message.max.bytes": str(MESSAGE_MAX_BYTES),
        "replica.fetch.max.bytes": str(MESSAGE_MAX_BYTES),
        # The catalogue sets the retention of each topic; a topic without one keeps its records.
        "log.retention.ms": "-1",
        "log.segment.bytes": str(SEGMENT_BYTES),
        "log.index.size.max.bytes": str(INDEX_BYTES),
        "log.cleaner.dedupe.buffer.size": str(CLEANER_BUFFER_BYTES),
        "num.network.threads": "2",
        "num.io.threads": "2",
        "background.threads": "2",
        "add.partitions.to.txn.retry.backoff.ms": str(ADD_PARTITIONS_RETRY_MS),
        "transaction.partition.verification.enable": VERIFIES_PARTITIONS,
        "auto.leader.rebalance.enable": "false",
    }
