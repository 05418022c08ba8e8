"""Accounts of answers: what each house hashes, says, and how two accounts are brought down to the requests that differ.

An answer is booked under the time at which it was *asked*, which both houses know from the question. A question that
was asked twice (a router that was killed) and answered twice in the same way counts once, under the earlier time; if
the two answers differ, both count, for both houses have both. Late answers count as those that were used: the host gave
them. So the account of an interval is a set of leaves, whatever was repeated, and in whatever order it came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.statements import LeavesTold, LeavesWanted, ScoreStatement, StatementBucket, StatementLeaf
from streams.kernels.fields import digest_fields

BUCKETS = 256
_LEAF = b"isthmus/score-leaf/1"
_BUCKET = b"isthmus/score-bucket/1"
_STATEMENT = b"isthmus/score-statement/1"
_SIGNED = b"isthmus/score-statement-signed/1"


@dataclass(frozen=True, order=True)
class Account:
    """What one statement is about: answers of a host to a guest by one version; given ones apart from refusals."""

    guest: str
    host: str
    start_ms: int
    model: str
    version: str
    answered: bool


@dataclass(frozen=True)
class BookedLeaf:
    """An answer in an account."""

    request_id: str
    leaf: bytes
    value: int


class DifferenceKind(StrEnum):
    """How the books differ about a request."""

    MISSING_AT_HOST = "missing_at_host"
    MISSING_AT_GUEST = "missing_at_guest"
    #: Both have an answer, and not the same one; or one of them has further ones.
    DIFFERENT = "different"


@dataclass(frozen=True, order=True)
class Difference:
    """A request about which the books differ."""

    request_id: str
    kind: DifferenceKind


def leaf_of(
    request_id: str,
    purpose: str,
    guest: str,
    host: str,
    model: str,
    version: str,
    *,
    answered: bool,
    value: int,
    quantum: int,
) -> bytes:
    """SHA-256 over everything about an answer that both houses know and that does not depend on when it was given."""
    return digest_fields(_LEAF, request_id, purpose, guest, host, model, version, int(answered), value, quantum)


def bucket_of(request_id: str) -> int:
    """The first byte of the id's SHA-256."""
    return hashlib.sha256(request_id.encode()).digest()[0]


def interval_of(asked_at_us: int, length_ms: int) -> int:
    """The beginning, in ms since 1970, of the interval in which something was asked."""
    return asked_at_us // 1000 // length_ms * length_ms


def build_statement(
    sender: str, account: Account, length_ms: int, made_at_ms: int, leaves: Iterable[BookedLeaf]
) -> ScoreStatement:
    """The account's statement, not signed yet. `leaves` are read once, one by one.

    Raises:
        ValueError: the leaves are not in the order of (bucket, leaf), or one is there twice.
    """
    buckets: list[StatementBucket] = []
    count = value_sum = 0
    last = (-1, b"")
    running = hashlib.sha256()
    for booked in leaves:
        place = (bucket_of(booked.request_id), booked.leaf)
        if place <= last:
            raise ValueError(f"leaf {booked.leaf.hex()} of bucket {place[0]} is out of order, or there twice")
        if place[0] != last[0]:
            _close(buckets, last[0], count, running)
            running = hashlib.sha256(_BUCKET)
        running.update(booked.leaf)
        count += 1
        # What a host makes up must not stop anybody's account: sums are those of 64-bit machines.
        value_sum = (value_sum + booked.value + 2**63) % 2**64 - 2**63
        last = place
    _close(buckets, last[0], count, running)
    return ScoreStatement(
        sender=sender,
        guest=account.guest,
        host=account.host,
        interval_start_ms=account.start_ms,
        interval_end_ms=account.start_ms + length_ms,
        made_at_ms=made_at_ms,
        model=account.model,
        version=account.version,
        answered=account.answered,
        count=count,
        value_sum=value_sum,
        digest=digest_of(buckets),
        buckets=tuple(buckets),
        signature=b"",
    )


def _close(buckets: list[StatementBucket], bucket: int, count: int, running: hashlib._Hash) -> None:
    """Note the bucket that ended; `count` is that of all buckets so far."""
    if bucket >= 0:
        before = sum(earlier.count for earlier in buckets)
        buckets.append(StatementBucket(bucket, count - before, running.digest()))


def digest_of(buckets: Sequence[StatementBucket]) -> bytes:
    """SHA-256 over the buckets that are not empty."""
    fields: list[bytes | int] = []
    for bucket in buckets:
        fields += [bucket.bucket, bucket.count, bucket.digest]
    return digest_fields(_STATEMENT, *fields)


def account_of(record: ScoreStatement | LeavesWanted | LeavesTold) -> Account:
    """What the record is about."""
    return Account(record.guest, record.host, record.interval_start_ms, record.model, record.version, record.answered)


def signed_bytes(statement: ScoreStatement) -> bytes:
    """What its signature is over: everything but the signature. The buckets count by their digest."""
    return digest_fields(
        _SIGNED,
        statement.sender,
        statement.guest,
        statement.host,
        statement.interval_start_ms,
        statement.interval_end_ms,
        statement.made_at_ms,
        statement.model,
        statement.version,
        int(statement.answered),
        statement.count,
        statement.value_sum,
        statement.digest,
    )


def find_flaw(statement: ScoreStatement) -> str:
    """What contradicts itself in the statement; empty when nothing does."""
    order = [bucket.bucket for bucket in statement.buckets]
    if order != sorted(set(order)) or not all(0 <= bucket < BUCKETS for bucket in order):
        return "its buckets are not in order"
    if any(bucket.count < 1 for bucket in statement.buckets):
        return "it has an empty bucket"
    if sum(bucket.count for bucket in statement.buckets) != statement.count:
        return "its buckets do not add up to its count"
    if digest_of(statement.buckets) != statement.digest:
        return "its digest is not that of its buckets"
    if statement.interval_end_ms <= statement.interval_start_ms:
        return "its interval ends before it begins"
    return ""


def compare(own: ScoreStatement, peer: ScoreStatement) -> tuple[int, ...]:
    """The buckets in which the two statements differ; none when the houses agree.

    Raises:
        ValueError: they are not about the same.
    """
    if account_of(own) != account_of(peer) or own.interval_end_ms != peer.interval_end_ms:
        raise ValueError("these statements are about different accounts")
    ours = {bucket.bucket: (bucket.count, bucket.digest) for bucket in own.buckets}
    theirs = {bucket.bucket: (bucket.count, bucket.digest) for bucket in peer.buckets}
    return tuple(bucket for bucket in sorted(ours.keys() | theirs.keys()) if ours.get(bucket) != theirs.get(bucket))


def find_differences(at_guest: Iterable[StatementLeaf], at_host: Iterable[StatementLeaf]) -> tuple[Difference, ...]:
    """The requests whose answers are not the same in both books, by id."""
    guest, host = _by_request(at_guest), _by_request(at_host)
    found = []
    for request_id in sorted(guest.keys() | host.keys()):
        if request_id not in host:
            found.append(Difference(request_id, DifferenceKind.MISSING_AT_HOST))
        elif request_id not in guest:
            found.append(Difference(request_id, DifferenceKind.MISSING_AT_GUEST))
        elif guest[request_id] != host[request_id]:
            found.append(Difference(request_id, DifferenceKind.DIFFERENT))
    return tuple(found)


def tell_leaves(
    statement: ScoreStatement, bucket: int, leaves: Iterable[StatementLeaf], at_once: int
) -> tuple[LeavesTold, ...]:
    """A bucket's leaves as records of at most `at_once` leaves, but for more answers to one request."""
    ordered = sorted(leaves, key=lambda leaf: (leaf.request_id, leaf.leaf))
    told: list[LeavesTold] = []
    after = ""
    while ordered or not told:
        part, ordered = ordered[:at_once], ordered[at_once:]
        while part and ordered and ordered[0].request_id == part[-1].request_id:
            part.append(ordered.pop(0))
        until = part[-1].request_id if ordered else ""
        told.append(
            LeavesTold(
                guest=statement.guest,
                host=statement.host,
                interval_start_ms=statement.interval_start_ms,
                model=statement.model,
                version=statement.version,
                answered=statement.answered,
                digest=statement.digest,
                bucket=bucket,
                after=after,
                until=until,
                leaves=tuple(part),
            )
        )
        after = until
    return tuple(told)


def is_within(told: LeavesTold, request_id: str) -> bool:
    """Whether the record would have to name the request, if its sender had it in the bucket."""
    return (not told.after or told.after < request_id) and (not told.until or request_id <= told.until)


def matches_bucket(told: LeavesTold, statement: ScoreStatement) -> bool:
    """Whether a bucket that is told at once has the digest that its sender signed."""
    leaves = sorted({leaf.leaf for leaf in told.leaves})
    digest = hashlib.sha256(_BUCKET + b"".join(leaves)).digest()
    signed = {bucket.bucket: (bucket.count, bucket.digest) for bucket in statement.buckets}
    return signed.get(told.bucket) == ((len(leaves), digest) if leaves else None)


def _by_request(leaves: Iterable[StatementLeaf]) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for leaf in leaves:
        found.setdefault(leaf.request_id, set()).add(leaf.leaf)
    return found
