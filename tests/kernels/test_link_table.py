"""The separable link: the stated sup errors hold, ranks are nested, bounds are bounds, the artefact is reproducible."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import link_table_generator
from streams.kernels import link_table
from streams.kernels.fixed_point import LOGIT_BITS, RESIDUAL_BITS
from streams.kernels.link_table import (
    BOXES,
    INTERVALS,
    PINNED,
    TABLES,
    Basis,
    LinkTable,
    NoTableError,
    approximate_residuals,
    choose_table,
    count_outside,
    load_table,
)
from streams.kernels.sigmoid import sigmoid

tables = st.sampled_from([load_table(a, b, basis) for basis, a, b in TABLES])


def logits_inside(table: LinkTable, draws: np.random.RandomState, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform logits of both parties inside the box."""
    a = draws.randint(-table.guest_clip << LOGIT_BITS, (table.guest_clip << LOGIT_BITS) + 1, n).astype(np.int64)
    b = draws.randint(-table.host_clip << LOGIT_BITS, (table.host_clip << LOGIT_BITS) + 1, n).astype(np.int64)
    return a, b


@pytest.mark.parametrize("key", TABLES)
def test_every_rank_keeps_its_stated_sup_error(key: tuple[Basis, int, int]) -> None:
    basis, *box = key
    table = load_table(*box, basis)
    a, b = logits_inside(table, np.random.RandomState(1), 20_000)
    phi, psi = table.phi(a, table.max_rank), table.psi(b, table.max_rank)
    for rank in range(1, table.max_rank + 1):
        approximation = approximate_residuals(phi[:, : rank + 1], psi[:, :rank], np.zeros(a.size, dtype=np.int8))
        error = np.abs(approximation - sigmoid(a + b)).max() / 2**RESIDUAL_BITS
        # The reference is itself a table, good to 6e-8.
        assert error <= table.sup_error(rank) + 1e-7


@pytest.mark.parametrize("box", BOXES)
def test_every_box_reaches_a_thousandth(box: tuple[int, int]) -> None:
    table = load_table(*box)
    assert table.sup_error(table.max_rank) <= 1e-3
    assert table.rank_for(1e-3) <= table.max_rank


def test_the_figures_that_the_documents_quote() -> None:
    table = choose_table(8.0, 4.0)
    assert [table.sup_error(rank) for rank in (4, 6, 8)] == pytest.approx([1.34e-2, 2.24e-3, 4.12e-4], rel=0.02)
    centred = choose_table(8.0, 4.0, Basis.CENTRED)
    assert [centred.sup_error(rank) for rank in (4, 6)] == pytest.approx([1.14e-1, 3.85e-2], rel=0.02)
    assert (table.rank_for(1e-2), table.rank_for(5e-3), table.rank_for(1e-3)) == (5, 6, 7)


def test_the_rank_follows_from_the_smaller_side() -> None:
    """Widening the other side from 8 to 24 costs nothing: there sigma is flat."""
    assert load_table(24, 4).rank_for(1e-3) == load_table(8, 4).rank_for(1e-3)


@given(tables, st.data())
def test_ranks_are_nested(table: LinkTable, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, table.max_rank))
    a, b = logits_inside(table, np.random.RandomState(rank), 5)
    assert np.array_equal(table.phi(a, rank), table.phi(a, table.max_rank)[:, : rank + 1])
    assert np.array_equal(table.psi(b, rank), table.psi(b, table.max_rank)[:, :rank])


@given(tables, st.integers(0, INTERVALS))
def test_at_table_points_the_table_is_returned(table: LinkTable, k: int) -> None:
    step = (2 * table.guest_clip << LOGIT_BITS) // INTERVALS
    a = np.array([k * step - (table.guest_clip << LOGIT_BITS)], dtype=np.int64)
    row = table.phi(a, table.max_rank)[0]
    assert row[0] == table.arrays.phi_0[k]
    assert row[1:].tolist() == table.arrays.phi[k].tolist()


@given(tables, st.integers(-(2**50), 2**50))
def test_logits_beyond_the_box_are_clipped_to_it(table: LinkTable, logit: int) -> None:
    inside = max(-(table.host_clip << LOGIT_BITS), min(table.host_clip << LOGIT_BITS, logit))
    given_, clipped = np.array([logit], dtype=np.int64), np.array([inside], dtype=np.int64)
    assert np.array_equal(table.psi(given_, 2), table.psi(clipped, 2))


@given(tables, st.integers(0, 2**32 - 1), st.data())
def test_no_slot_exceeds_its_bound(table: LinkTable, seed: int, data: st.DataObject) -> None:
    """Every coefficient of the product of the packed polynomials, for rows inside and far outside the box."""
    rank = data.draw(st.integers(1, table.max_rank))
    draws = np.random.RandomState(seed)
    a, b = (draws.randint(-(2**26), 2**26, 20).astype(np.int64) for _ in range(2))
    phi, psi = table.phi(a, rank), table.psi(b, rank)
    assert np.all(np.abs(phi[:, 1:]).max(axis=0) <= table.phi_maxima(rank))
    assert np.all(np.abs(psi).max(axis=0) <= table.psi_maxima(rank))
    for row in range(20):
        slots = np.convolve(psi[row], phi[row, 1:][::-1])
        assert np.abs(slots).max() <= table.slot_bound(rank)
        label = np.array([row % 2], dtype=np.int8)
        target = approximate_residuals(phi[row : row + 1], psi[row : row + 1], label)
        assert int(slots[rank - 1]) + int(phi[row, 0]) - ((row % 2) << RESIDUAL_BITS) == int(target[0])
        assert abs(int(target[0])) <= table.residual_bound(rank) <= table.slot_bound(rank)


@pytest.mark.parametrize(
    ("clips", "box"),
    [((8.0, 4.0), (8, 4)), ((3.0, 2.5), (4, 4)), ((4.0, 5.0), (8, 8)), ((5, 20), (6, 24)), ((20, 20), (24, 24))],
)
def test_the_smallest_covering_box_is_chosen(clips: tuple[float, float], box: tuple[int, int]) -> None:
    table = choose_table(*clips)
    assert (table.guest_clip, table.host_clip) == box


@pytest.mark.parametrize("clips", [(25.0, 4.0), (4.0, 30.0), (0.0, 4.0), (-1.0, 4.0), (float("nan"), 4.0)])
def test_clips_without_a_table_are_refused(clips: tuple[float, float]) -> None:
    with pytest.raises(NoTableError):
        choose_table(*clips)


def test_an_unreachable_sup_error_says_what_can_be_reached() -> None:
    with pytest.raises(NoTableError, match=r"\(8, 4\) reaches a sup error of"):
        load_table(8, 4).rank_for(1e-9)


@pytest.mark.parametrize("rank", [0, -1, 99])
def test_a_rank_outside_the_table_is_refused(rank: int) -> None:
    with pytest.raises(NoTableError, match="has ranks 1 to"):
        load_table(8, 4).phi(np.zeros(1, dtype=np.int64), rank)


def test_rows_outside_are_counted_beyond_the_clip_only() -> None:
    edge = 4 << LOGIT_BITS
    assert count_outside(np.array([edge, -edge, edge + 1, -edge - 1, 0], dtype=np.int64), 4) == 2


def test_every_box_has_its_own_pinned_digest() -> None:
    assert set(PINNED) == set(TABLES)
    assert {load_table(a, b, basis).digest.hex() for basis, a, b in TABLES} == set(PINNED.values())
    assert len(set(PINNED.values())) == len(TABLES)


def test_the_generator_reproduces_a_pinned_table() -> None:
    """The artefact is what its generator makes, on this machine's linear algebra too."""
    arrays = link_table_generator.make_table(Basis.CENTRED, 8, 4)
    assert link_table.content_digest(Basis.CENTRED, 8, 4, arrays).hex() == PINNED[Basis.CENTRED, 8, 4]


def test_values_between_table_points_are_the_same_bits_everywhere() -> None:
    """Integer arithmetic only: a digest over many evaluations is a constant of the project."""
    table = load_table(8, 4)
    a, b = link_table.grid_logits(8, 3001), link_table.grid_logits(4, 3001)
    data = table.phi(a, 8).astype("<i8").tobytes() + table.psi(b, 8).astype("<i8").tobytes()
    assert hashlib.sha256(data).hexdigest()[:16] == "a4e056eae28af2fb"
