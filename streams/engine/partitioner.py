"""Which partition a key belongs to: the same answer everywhere, since a job's records must meet in one partition."""

from __future__ import annotations

import zlib


def partition_of(key: bytes, partitions: int) -> int:
    """CRC-32 of the key modulo the number of partitions: librdkafka's default for keys that are not empty.

    So kcat and every client on librdkafka puts a job's records where the engine expects them; a Java client must be
    told to. The engine sets aside what lies in another partition: two processes would each keep a state for the job.
    """
    return zlib.crc32(key) % partitions
