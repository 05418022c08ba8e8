"""Slots neither overflow nor leak into each other at the bounds, and shares add up to within one unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from streams.kernels import packing
from streams.kernels.entropy import Draws, prf
from streams.kernels.multiexp import combined_powers, powers, weighted_products
from streams.kernels.packing import ConvolutionLayout, SlotLayout, centre, convolve, row_slot_bound
from streams.kernels.paillier import (
    OwnerEncryptor,
    Refresher,
    add_plain,
    decrypt,
    decrypt_many,
    generate_keys,
    product,
)

SEED = bytes(range(32))
PRIVATE = generate_keys(SEED, 512)
PUBLIC = PRIVATE.public
ENCRYPTOR = OwnerEncryptor(PRIVATE)

TABLE_MAX = 2**5
OFFSET_MAX = 2**10
WEIGHT_MAX = 2**6
ROWS = 16


def layout_of(rank: int) -> SlotLayout:
    bound = row_slot_bound([TABLE_MAX] * rank, [TABLE_MAX] * rank, OFFSET_MAX, WEIGHT_MAX, ROWS)
    return SlotLayout.choose(PUBLIC.bits, rank, bound)


def at_bounds(limit: int) -> st.SearchStrategy[int]:
    """Mostly the extremes: that is where slots overflow."""
    return st.one_of(st.sampled_from([-limit, limit]), st.integers(-limit, limit))


@st.composite
def row_problems(
    draw: st.DrawFn,
) -> tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], list[int], int]:
    """Rank, phi, psi, offsets, weights and a pad that does not wrap."""
    rank = draw(st.integers(1, 4))
    tables = hnp.arrays(np.int64, (ROWS, rank), elements=at_bounds(TABLE_MAX))
    weights = draw(st.lists(at_bounds(WEIGHT_MAX), min_size=ROWS, max_size=ROWS))
    offsets = draw(hnp.arrays(np.int64, (ROWS,), elements=at_bounds(OFFSET_MAX)))
    reach = 1 << (layout_of(rank).slots * layout_of(rank).slot_bits)
    pad = draw(st.one_of(st.integers(reach, PUBLIC.n - reach - 1), st.sampled_from([reach, PUBLIC.n - reach - 1])))
    return rank, draw(tables), draw(tables), offsets, weights, pad


@given(row_problems())
@settings(max_examples=150)
def test_row_slots_at_the_bounds_give_the_weighted_sum_within_one_unit_a_slot(
    problem: tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], list[int], int],
) -> None:
    """The gradient: all rows, times the largest weights, into one plaintext; plain integers stand for ciphertexts."""
    rank, phi, psi, offsets, weights, pad = problem
    layout = layout_of(rank)
    packed = zip(layout.basis_plaintexts(psi, 0), layout.exponents(phi), offsets.tolist(), weights, strict=True)
    total = sum(
        weight * (basis * exponent + layout.at_target(offset, row))
        for row, (basis, exponent, offset, weight) in enumerate(packed)
    )
    assert abs(total) < 1 << (layout.slots * layout.slot_bits)
    difference = layout.summed_share((pad + total) % PUBLIC.n) - layout.summed_share(pad)
    expected = int(((phi * psi).sum(axis=1) + offsets) @ np.array(weights))
    assert abs(centre(difference - expected, layout.slot_bits)) <= layout.rows_per_plaintext


@given(row_problems())
@settings(max_examples=100)
def test_the_shares_of_single_rows_differ_by_the_value_within_one_unit(
    problem: tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], list[int], int],
) -> None:
    rank, phi, psi, offsets, _, pad = problem
    layout = layout_of(rank)
    per = layout.rows_per_plaintext
    basis, exponents = layout.basis_plaintexts(psi, 0), layout.exponents(phi)
    sums = [
        sum(
            basis[i] * exponents[i] + layout.at_target(int(offsets[i]), i) for i in range(first, min(first + per, ROWS))
        )
        for first in range(0, ROWS, per)
    ]
    mine = layout.row_shares([pad] * len(sums), ROWS)
    theirs = layout.row_shares([(pad + value) % PUBLIC.n for value in sums], ROWS)
    for row in range(ROWS):
        expected = int(phi[row] @ psi[row] + offsets[row])
        error = centre(int(theirs[row]) - int(mine[row]) - expected, layout.slot_bits)
        assert error in (-1, 0, 1)
        # The share arithmetic is centred correctly: the value itself is recovered, not only its residue.
        assert abs(centre(int(theirs[row]) - int(mine[row]), layout.slot_bits) - expected) <= 1


def test_one_bit_less_than_the_bound_asks_for_overflows() -> None:
    """Teeth of the tests above: with slots two bits narrower, the largest gradient comes out wrong."""
    rank = 2
    layout = layout_of(rank)
    narrow = SlotLayout(rank, layout.rows_per_plaintext, layout.slot_bits - 2)
    ones = np.full((ROWS, rank), TABLE_MAX)
    expected = ROWS * WEIGHT_MAX * (rank * TABLE_MAX**2 + OFFSET_MAX)
    for candidate, right in ((layout, True), (narrow, False)):
        total = sum(
            WEIGHT_MAX * (basis * exponent + candidate.at_target(OFFSET_MAX, row))
            for row, (basis, exponent) in enumerate(
                zip(candidate.basis_plaintexts(ones, 0), candidate.exponents(ones), strict=True)
            )
        )
        pad = PUBLIC.n // 2
        difference = candidate.summed_share(pad + total) - candidate.summed_share(pad)
        assert (abs(centre(difference, candidate.slot_bits) - expected) <= layout.rows_per_plaintext) is right


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_row_slots_work_under_encryption(rank: int) -> None:
    """The split-link round: basis values of one party, coefficients of the other, shares for both."""
    rng = np.random.default_rng(rank)
    layout = layout_of(rank)
    phi, psi = (rng.integers(-TABLE_MAX, TABLE_MAX + 1, (ROWS, rank)) for _ in range(2))
    offsets = rng.integers(-OFFSET_MAX, OFFSET_MAX + 1, ROWS)
    weights = rng.integers(-WEIGHT_MAX, WEIGHT_MAX + 1, (ROWS, 3))
    per = layout.rows_per_plaintext

    sent = ENCRYPTOR.encrypt_many(layout.basis_plaintexts(psi, 0), Draws(prf(SEED, "m1")))
    rows = [
        add_plain(PUBLIC, power, layout.at_target(int(offset), row))
        for row, (power, offset) in enumerate(
            zip(powers(sent, layout.exponents(phi), PUBLIC), offsets.tolist(), strict=True)
        )
    ]
    groups = [product(PUBLIC, rows[i : i + per]) for i in range(0, ROWS, per)]
    shifts = [layout.slot_bits * (rank - 1 - k) for k in range(rank)]
    at_once = [
        add_plain(
            PUBLIC,
            group,
            sum(layout.at_target(int(offsets[row]), row) for row in range(i * per, min(ROWS, i * per + per))),
        )
        for i, group in enumerate(combined_powers(sent, phi, shifts, per, PUBLIC))
    ]
    assert at_once == groups

    draws = Draws(prf(SEED, "pads"))
    pads = [draws.below(PUBLIC.n) for _ in groups]
    refresher = Refresher(PUBLIC, prf(SEED, "bases"))
    padded = refresher.refresh_many([add_plain(PUBLIC, g, p) for g, p in zip(groups, pads, strict=True)], draws)
    theirs = layout.row_shares([value % PUBLIC.n for value in decrypt_many(PRIVATE, padded)], ROWS)
    mine = layout.row_shares(pads, ROWS)
    errors = [
        centre(int(t) - int(m) - int(d), layout.slot_bits)
        for t, m, d in zip(theirs, mine, (phi * psi).sum(axis=1) + offsets, strict=True)
    ]
    assert set(errors) <= {-1, 0, 1}

    gradient = (((phi * psi).sum(axis=1) + offsets) @ weights).tolist()
    for total, expected in zip(weighted_products(rows, weights, PUBLIC), gradient, strict=True):
        pad = draws.below(PUBLIC.n)
        value = decrypt(PRIVATE, add_plain(PUBLIC, total, pad)) % PUBLIC.n
        difference = centre(layout.summed_share(value) - layout.summed_share(pad), layout.slot_bits)
        assert abs(difference - expected) <= per


@pytest.mark.parametrize("rank", range(1, 9))
def test_a_layout_uses_the_plaintext_as_far_as_the_head_room_allows(rank: int) -> None:
    layout = SlotLayout.choose(2048, rank, 2**60)
    assert layout.slots * layout.slot_bits + 64 <= 2046
    bigger = SlotLayout(rank, layout.rows_per_plaintext + 1, layout.slot_bits)
    assert bigger.slots * bigger.slot_bits + 64 > 2046


def test_the_design_figures_come_out() -> None:
    """Rank 4 and 6 at 14 fractional bits, 2^15 rows, 2048 bits: seven and four rows in a plaintext."""
    for rank, rows in ((4, 7), (6, 4)):
        bound = row_slot_bound([2**13] * rank, [2**14] * rank, 2**28, 2**16, 21_000)
        assert SlotLayout.choose(2048, rank, bound).rows_per_plaintext == rows


def test_target_slots_do_not_meet_and_first_rows_may_be_anywhere() -> None:
    layout = SlotLayout(rank=3, rows_per_plaintext=4, slot_bits=10)
    assert layout.target_slots() == [2, 5, 8, 11]
    assert layout.slots == 14
    psi = np.array([[1, 2, 3]] * 6)
    shifted = layout.basis_plaintexts(psi, 2)
    plain = 1 + (2 << 10) + (3 << 20)
    assert shifted == [plain << (30 * ((2 + i) % 4)) for i in range(6)]


@pytest.mark.parametrize(("rank", "bound"), [(8, 2**200), (4, 2**290), (1, 2**1990)])
def test_a_layout_that_does_not_fit_is_refused_with_advice(rank: int, bound: int) -> None:
    with pytest.raises(ValueError, match="use a longer key, a lower rank or fewer fractional bits"):
        SlotLayout.choose(2048, rank, bound)


def test_a_wrong_number_of_plaintexts_is_refused() -> None:
    with pytest.raises(ValueError, match="9 rows at 4 rows a plaintext need 3 plaintexts, not 2"):
        SlotLayout(3, 4, 10).row_shares([1, 2], 9)


@given(st.data())
@settings(max_examples=100)
def test_the_middle_slot_at_the_bounds_is_the_scalar_product_within_one_unit(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 14))
    layout = ConvolutionLayout.choose(PUBLIC.bits, 14 * 2**30 * 2**6)
    values = data.draw(st.lists(at_bounds(2**30), min_size=rows, max_size=rows))
    weights = data.draw(st.lists(at_bounds(2**6), min_size=rows, max_size=rows))
    per = layout.values_per_plaintext
    exponents = ConvolutionLayout(per, layout.slot_bits)
    total = 0
    for i, plaintext in enumerate(layout.pack(values)):
        run = weights[i * per : (i + 1) * per]
        total += plaintext * sum(w << (layout.slot_bits * (per - 1 - k)) for k, w in enumerate(run))
    reach = 1 << (exponents.slots * layout.slot_bits)
    pad = data.draw(st.integers(reach, PUBLIC.n - reach - 1))
    difference = layout.share((pad + total) % PUBLIC.n) - layout.share(pad)
    expected = sum(v * w for v, w in zip(values, weights, strict=True))
    assert abs(centre(difference, layout.slot_bits) - expected) <= 1


@pytest.mark.parametrize("rows", [1, 3, 4, 25])
def test_convolution_slots_work_under_encryption(rows: int) -> None:
    rng = np.random.default_rng(rows)
    values = rng.integers(0, 2**31, rows)
    weights = rng.integers(-(2**16), 2**16 + 1, (rows, 3))
    layout = ConvolutionLayout.choose(PUBLIC.bits, 25 * 2**31 * 2**16)
    sent = ENCRYPTOR.encrypt_many(layout.pack(values), Draws(prf(SEED, "conv", rows)))
    assert len(sent) == layout.plaintext_count(rows) < max(2, rows)
    draws = Draws(prf(SEED, "conv pads", rows))
    for total, expected in zip(convolve(sent, weights, layout, PUBLIC), (values @ weights).tolist(), strict=True):
        pad = draws.below(PUBLIC.n)
        value = decrypt(PRIVATE, add_plain(PUBLIC, total, pad)) % PUBLIC.n
        assert abs(centre(layout.share(value) - layout.share(pad), layout.slot_bits) - expected) <= 1


def test_a_convolution_without_head_room_is_refused() -> None:
    """Without 64 bits above the slots the pad would tell the size of what it hides."""
    crowded = ConvolutionLayout(values_per_plaintext=4, slot_bits=64)
    with pytest.raises(ValueError, match="head room"):
        convolve(ENCRYPTOR.encrypt_many([1], Draws(SEED)), np.ones((1, 1), dtype=np.int64), crowded, PUBLIC)
    with pytest.raises(ValueError, match="does not fit a modulus of 512 bits"):
        ConvolutionLayout.choose(512, 2**500)


@given(st.sampled_from([20, 63, 64, 65, 90]), st.data())
@settings(max_examples=60)
def test_weighted_shares_are_the_product_modulo_the_slot(slot_bits: int, data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 6))
    weights = data.draw(hnp.arrays(np.int32, (rows, 2), elements=st.integers(-(2**16), 2**16)))
    numbers = data.draw(st.lists(st.integers(0, 2**slot_bits - 1), min_size=rows, max_size=rows))
    assume(rows > 0)
    shares = packing.slot_shares(numbers, [0] * rows, slot_bits)
    for column, result in zip(weights.T.tolist(), packing.weighted_shares(weights, shares, slot_bits), strict=True):
        assert int(result) == sum(w * s for w, s in zip(column, numbers, strict=True)) % 2**slot_bits


@given(st.integers(2, 70), st.integers(-(2**70), 2**70))
def test_centring_keeps_the_residue_and_the_range(slot_bits: int, value: int) -> None:
    centred = centre(value, slot_bits)
    assert (centred - value) % 2**slot_bits == 0
    assert -(2 ** (slot_bits - 1)) <= centred < 2 ** (slot_bits - 1)


def test_bounds_need_both_tables() -> None:
    with pytest.raises(ValueError, match="2 phi functions came with 1 psi"):
        row_slot_bound([1, 1], [1], 0, 1, 1)
