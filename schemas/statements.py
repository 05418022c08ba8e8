"""Accounts of online scoring that the parties show each other, so that they agree on who owes whom."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.record import Record

# --- statements, sealed, topic vfl.score.statements.<party>: peers -> this party -------------------------------------


@dataclass(frozen=True)
class StatementBucket(Record):
    """Requests whose id digests begin with one byte: their number, and SHA-256 over their sorted leaves."""

    bucket: int
    count: int
    digest: bytes


@dataclass(frozen=True)
class ScoreStatement(Record):
    """What a party says it answered, or got answered, in an interval of requests' asking times, for one version.

    `answered` tells parts that were given from refusals to answer. `digest` is over the buckets' digests.
    `signature` is Ed25519 over everything else, under the statement's domain.
    """

    sender: str
    guest: str
    host: str
    interval_start_ms: int
    interval_end_ms: int
    #: Of two statements about the same, the later one counts: books get longer when a process had been away.
    made_at_ms: int
    model: str
    version: str
    answered: bool
    count: int
    #: Sum of the values in units of the quantum: what an invoice by volume and weight would be checked against.
    value_sum: int
    digest: bytes
    buckets: tuple[StatementBucket, ...]
    signature: bytes


@dataclass(frozen=True)
class LeavesWanted(Record):
    """These buckets differ: which requests do you have in them?"""

    guest: str
    host: str
    interval_start_ms: int
    model: str
    version: str
    answered: bool
    buckets: tuple[int, ...]


@dataclass(frozen=True)
class StatementLeaf(Record):
    """One request in a bucket; `leaf` is SHA-256 over what both parties know of the answer."""

    request_id: str
    leaf: bytes


@dataclass(frozen=True)
class LeavesTold(Record):
    """Requests of a bucket that was asked for: those with ids after `after` and up to `until`, empty for no limit."""

    guest: str
    host: str
    interval_start_ms: int
    model: str
    version: str
    answered: bool
    #: Of the sender's statement that these leaves are in.
    digest: bytes
    bucket: int
    after: str
    until: str
    leaves: tuple[StatementLeaf, ...]
