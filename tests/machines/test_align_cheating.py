"""What cheating gets in an alignment: the attack works where the check is missing, and is caught where it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from schemas.alignment import (
    AlignReady,
    BlindedPoints,
    DoubleBlindedTags,
    MatchConfirmed,
    MatchedRows,
)
from schemas.codec import decode
from schemas.jobs import Reason
from schemas.record import Record
from streams.kernels.ristretto import POINT_BYTES
from streams.machines.align import host as host_module
from streams.machines.align.protocol import MAX_CHUNK_POINTS, MAX_CHUNKS, MAX_ROWS
from tests.machines.align_cases import (
    CHUNK,
    GUEST_IDS,
    HOST_IDS,
    THIRD_IDS,
    build,
    check_table,
    datasets_for,
    failure,
    joint_ids,
    two_tables,
)
from tests.machines.driver import Delivery, Tamper
from tests.machines.parties import JOB_ID


def replace_records(kind: type[Record], change: dict[str, object], chunk: int | None = None) -> Tamper:
    """Change fields of every record of a class on its way (of one chunk, if given)."""

    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        if type(record) is kind and chunk in (None, getattr(record, "chunk", None)):
            return (replace(record, **change),)  # type: ignore[type-var]
        return (record,)

    return tamper


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 0},
        {"rows": MAX_ROWS + 1, "chunks": 1},
        {"chunks": 5},
        {"chunks": 7},
        {"chunk_points": 0},
        {"chunk_points": MAX_CHUNK_POINTS + 1, "chunks": 1},
        {"rows": MAX_CHUNKS + 1, "chunk_points": 1, "chunks": MAX_CHUNKS + 1},
        {"spec_digest": b"another spec"},
        {"nonce": b"short"},
    ],
)
def test_wrong_announcements_are_refused(change: dict[str, object]) -> None:
    driver = build(two_tables(), tamper=replace_records(AlignReady, change)).run()
    for party, peer in (("guest", "host"), ("host", "guest")):
        assert failure(driver, party).reason is Reason.PROTOCOL_VIOLATION
        assert failure(driver, party).blame == peer
    assert not any(isinstance(entry.record, BlindedPoints) for entry in driver.trace)


def test_a_second_different_announcement_is_a_violation() -> None:
    driver = build(two_tables()).run(steps=8)
    driver.send_as("guest", "host", "align", AlignReady(JOB_ID, 22, 4, 6, b"", b""))
    assert "twice" in failure(driver.run(), "host").detail


IDENTITY = bytes(POINT_BYTES)
NOT_CANONICAL = b"\xff" * POINT_BYTES


@pytest.mark.parametrize(
    ("kind", "change", "chunk", "victim"),
    [
        (BlindedPoints, {"points": IDENTITY * CHUNK}, 1, "host"),
        (BlindedPoints, {"points": NOT_CANONICAL * CHUNK}, 0, "host"),
        (BlindedPoints, {"points": b""}, 2, "host"),
        (BlindedPoints, {"chunk": 3}, 1, "host"),
        (BlindedPoints, {"chunk": -1}, 0, "host"),
        (DoubleBlindedTags, {"tags": b"\1" * 15}, 0, "guest"),
        (DoubleBlindedTags, {"tags": b"\1" * 64}, 1, "guest"),
        (DoubleBlindedTags, {"chunk": 99}, 1, "guest"),
        (MatchConfirmed, {"rows": 3}, None, "guest"),
        (MatchedRows, {"chunks": 3}, 1, "host"),
        (MatchedRows, {"chunks": 5}, 0, "host"),
        (MatchedRows, {"chunks": 0}, 0, "host"),
        (MatchedRows, {"rows": 14}, 2, "host"),
        (MatchedRows, {"rows": 24}, None, "host"),
        (MatchedRows, {"rows": 0}, None, "host"),
        (MatchedRows, {"positions": b""}, 1, "host"),
        (MatchedRows, {"proofs": b"\1" * 17}, 1, "host"),
        (MatchedRows, {"proofs": b"", "positions": b""}, 1, "host"),
        (MatchedRows, {"chunk": 2}, 1, "host"),
    ],
)
def test_wrong_chunks_are_refused_with_blame(
    kind: type[Record], change: dict[str, object], chunk: int | None, victim: str
) -> None:
    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        hit = type(record) is kind and delivery.receiver == victim and chunk in (None, getattr(record, "chunk", None))
        return (replace(record, **change),) if hit else (record,)  # type: ignore[type-var]

    driver = build(two_tables(), tamper=tamper).run()
    refusal = failure(driver, victim)
    assert refusal.reason is Reason.PROTOCOL_VIOLATION
    assert refusal.blame == ("guest" if victim == "host" else "host")
    check_table(driver.trace)


def test_more_chunks_than_announced_are_refused() -> None:
    def repeat_last(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, BlindedPoints) and delivery.receiver == "host" and record.chunk == 5:
            return (record, replace(record, chunk=6))
        return (record,)

    assert failure(build(two_tables(), tamper=repeat_last).run(), "host").blame == "guest"


@pytest.mark.parametrize("victim", ["guest", "host"])
def test_duplicate_points_are_refused(victim: str) -> None:
    """The same point in two chunks would let one row stand for two."""
    first: list[bytes] = []

    def repeat_point(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, BlindedPoints) and delivery.receiver == victim:
            first.append(record.points[:POINT_BYTES])
            return (replace(record, points=first[0] + record.points[POINT_BYTES:]),)
        return (record,)

    refusal = failure(build(two_tables(), tamper=repeat_point).run(), victim)
    assert refusal.reason is Reason.PROTOCOL_VIOLATION and "repeat" in refusal.detail
    assert refusal.blame != victim


def test_a_host_that_gives_one_tag_for_two_points_is_refused() -> None:
    def copy_tag(delivery: Delivery, record: Record) -> Iterable[Record]:
        if isinstance(record, DoubleBlindedTags):
            return (replace(record, tags=record.tags[:16] + record.tags[:16] + record.tags[32:]),)
        return (record,)

    refusal = failure(build(two_tables(), tamper=copy_tag).run(), "guest")
    assert "same tag" in refusal.detail and refusal.blame == "host"


def change_matches(change: object) -> Tamper:
    """Hand all chunks of joint rows together to `change(positions, proofs)`, and send what it gives in their place.

    The lists are what a cheating guest would have sent; `rows` and `chunks` are made to fit.
    """
    chunks: list[MatchedRows] = []

    def tamper(delivery: Delivery, record: Record) -> Iterable[Record]:
        if not isinstance(record, MatchedRows):
            return (record,)
        chunks.append(record)
        if len(chunks) < record.chunks:
            return ()
        positions = np.frombuffer(b"".join(c.positions for c in chunks), "<u4").tolist()
        joined = b"".join(c.proofs for c in chunks)
        proofs = [joined[start : start + 16] for start in range(0, len(joined), 16)]
        positions, proofs = change(positions, proofs)  # type: ignore[operator]
        data = np.array(positions, "<u4").tobytes()
        return (MatchedRows(JOB_ID, 0, 1, len(positions), data, b"".join(proofs)),)

    return tamper


def list_non_members(positions: list[int], proofs: list[bytes]) -> tuple[list[int], list[bytes]]:
    """Claim three more rows of the host, which the guest does not have."""
    others = [p for p in range(len(HOST_IDS)) if p not in set(positions)][:3]
    return positions + others, proofs + [bytes([n]) * 16 for n in range(3)]


def test_a_guest_that_lists_non_members_is_caught_by_the_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a host without the check the attack works: three rows that the guest does not have become joint."""
    datasets = two_tables()
    with monkeypatch.context() as without_check:
        without_check.setattr(host_module, "check_proofs", lambda guest, proofs, known: None)
        fooled = build(datasets, tamper=change_matches(list_non_members)).run()
    assert len(joint_ids(fooled, datasets, "host")) == 18
    assert not set(joint_ids(fooled, datasets, "host")) <= set(GUEST_IDS)

    caught = build(datasets, tamper=change_matches(list_non_members)).run()
    refusal = failure(caught, "host")
    assert (refusal.reason, refusal.blame) == (Reason.PROTOCOL_VIOLATION, "guest")
    assert "3 of 18 joint rows come without proof" in refusal.detail
    assert ("host", "train") not in caught.handed_over


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda p, q: ([*p[:-1], p[0]], q), "listed twice"),
        (lambda p, q: (p, [*q[:-1], q[0]]), "repeat"),
        (lambda p, q: ([len(HOST_IDS), *p[1:]], q), "position 33 of a table with 33 rows"),
        (lambda p, q: ([2**32 - 1, *p[1:]], q), "position 4294967295"),
        (lambda p, q: (p, [b"\0" * 16, *q[1:]]), "1 of 15 joint rows come without proof"),
    ],
)
def test_joint_rows_that_do_not_hold_are_refused(change: object, detail: str) -> None:
    refusal = failure(build(two_tables(), tamper=change_matches(change)).run(), "host")
    assert refusal.blame == "guest" and detail in refusal.detail


def test_fresh_exponents_for_each_job_and_each_host() -> None:
    """The same table never gives the same points twice, to whom or when ever it is blinded."""
    datasets = datasets_for(guest=GUEST_IDS, host=HOST_IDS, third=THIRD_IDS)
    points: list[set[bytes]] = []
    for job_id in ("job-1", "job-2"):
        driver = build(datasets, job_id=job_id).run()
        for receiver in ("host", "third"):
            sent = [decode(d.data) for d in driver.wire if d.sender == "guest" and d.receiver == receiver]
            joined = b"".join(r.points for r in sent if isinstance(r, BlindedPoints))
            points.append({joined[start : start + 32] for start in range(0, len(joined), 32)})
    for one, other in itertools.combinations(points, 2):
        assert len(one) == len(GUEST_IDS) and not one & other
