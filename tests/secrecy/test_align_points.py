"""Points that a peer makes up: of small order, not canonical, or of nobody; and joint rows that it makes up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pytest

from schemas.alignment import BlindedPoints, DoubleBlindedTags
from schemas.jobs import Reason
from schemas.record import Record
from streams.kernels.entropy import prf
from streams.kernels.ristretto import POINT_BYTES, scalar
from streams.machine import ToPeer
from tests.machines.align_cases import GUEST_IDS, HOST_IDS, build, failure, joint_ids, joint_rows, two_tables
from tests.machines.driver import Delivery
from tests.machines.test_align_cheating import change_matches
from tests.secrecy import edwards

SMALL = edwards.small_points()
#: Every writing of every point of small order, and others that are no canonical element (RFC 9496, A.2).
BAD = sorted(
    {form for point in SMALL for form in edwards.encodings(point)}
    | {bytes.fromhex("00" + 31 * "ff"), bytes.fromhex("f3" + 30 * "ff" + "7f"), b"\xff" * 32}
    | {bytes.fromhex("26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371")}
)


def test_points_of_small_order_tell_a_raw_curve_three_bits_of_the_exponent() -> None:
    """The peer multiplies what it was sent; of eight possible answers each is one residue of its exponent modulo 8.
    And whoever knows the answer before can list rows that it does not have.

    Source: Lim and Lee 1997; the cofactor of Curve25519 (RFC 7748, section 7). The design asks for Ristretto and for
    a decoder that refuses everything else.
    """
    for n in range(20):
        exponent = int.from_bytes(scalar(prf(bytes(32), "exponent", n)), "little")
        answers = {hashlib.sha256(repr(point).encode()).digest(): k for k, point in enumerate(SMALL)}
        answer = hashlib.sha256(repr(edwards.multiply(exponent, SMALL[1])).encode()).digest()
        assert answers[answer] == exponent % 8


@pytest.mark.parametrize("victim", ["guest", "host"])
def test_points_that_are_no_group_elements_are_refused_and_nothing_is_answered(victim: str) -> None:
    """In any place of any chunk; the failure names who sent them."""
    assert len(BAD) >= 12
    for place, bad in enumerate(BAD):
        chunk, row = place % 3, place % 4

        def tamper(
            delivery: Delivery, record: Record, *, bad: bytes = bad, chunk: int = chunk, row: int = row
        ) -> Iterable[Record]:
            if not isinstance(record, BlindedPoints) or delivery.receiver != victim or record.chunk != chunk:
                return (record,)
            points = bytearray(record.points)
            points[row * POINT_BYTES : (row + 1) * POINT_BYTES] = bad
            return (BlindedPoints(record.job_id, record.chunk, bytes(points)),)

        driver = build(two_tables(), tamper=tamper).run()
        refusal = failure(driver, victim)
        other = "guest" if victim == "host" else "host"
        assert (refusal.reason, refusal.blame) == (Reason.PROTOCOL_VIOLATION, other), bad.hex()
        assert f"point {row} of 4" in refusal.detail
        answered = [
            o.record.chunk
            for e in driver.trace
            if e.party == victim
            for o in e.outputs
            if isinstance(o, ToPeer) and isinstance(o.record, DoubleBlindedTags)
        ]
        assert chunk not in answered


def swap_one(positions: list[int], proofs: list[bytes]) -> tuple[list[int], list[bytes]]:
    """Name a row of the host's that is not shared in the place of one that is, with the shared one's proof."""
    other = next(position for position in range(len(HOST_IDS)) if position not in positions)
    return [other, *positions[1:]], proofs


def add_one(positions: list[int], proofs: list[bytes]) -> tuple[list[int], list[bytes]]:
    """The same row besides the shared ones: a proof is missing, whatever stands in its place."""
    other = next(position for position in range(len(HOST_IDS)) if position not in positions)
    return [*positions, other], [*proofs, proofs[0][::-1]]


def test_a_guest_that_lists_more_rows_than_it_shares_is_caught_and_named() -> None:
    """Each row needs the second half of a digest that only a point of both gives, each once.

    Source: the review's correction on alignment (a malicious guest can list non-members as hits).
    """
    refusal = failure(build(two_tables(), tamper=change_matches(add_one)).run(), "host")
    assert (refusal.reason, refusal.blame) == (Reason.PROTOCOL_VIOLATION, "guest")
    assert "1 of 16 joint rows come without proof" in refusal.detail


def test_a_guest_that_puts_one_row_in_the_place_of_another_is_a_known_gap() -> None:
    """The host cannot tell which proof is that of which row, so this goes through: a row of somebody who is not shared
    becomes a joint row, and one that is shared does not. What it costs the guest: it does not learn whose row that is,
    its own row there is another person's, and the number of joint rows is no larger than what is shared. A proof of
    equal discrete logarithms (RFC 9497) would show it; none is made, and docs/security.md says so.
    """
    datasets = two_tables()
    driver = build(datasets, tamper=change_matches(swap_one)).run()
    fooled = joint_ids(driver, datasets, "host")
    assert len(fooled) == len(set(GUEST_IDS) & set(HOST_IDS)) == joint_rows(driver, "host").n_joint
    outsiders = set(fooled) - set(GUEST_IDS)
    assert len(outsiders) == 1
    honest = build(datasets).run()
    lost = set(joint_ids(honest, datasets, "host")) - set(fooled)
    assert len(lost) == 1
    # All other rows are as they were, in the same order.
    before = np.array(joint_ids(honest, datasets, "host"))
    assert (before != np.array(fooled)).sum() == 1
