"""Residual shares and products of them, against plain integers, up to the bounds that the slots were chosen for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streams.kernels.entropy import Draws, prf
from streams.kernels.fixed_point import FX, RESIDUAL_BITS, weighted_sums
from streams.kernels.link_table import approximate_residuals, choose_table
from streams.kernels.packing import centre, weighted_shares
from streams.kernels.paillier import Ciphertext, OwnerEncryptor, Refresher, encode_ciphertexts, generate_keys
from streams.kernels.residual_product import (
    ProductLayout,
    add_products,
    decode_shares,
    encode_shares,
    encrypt_values,
    join_halves,
    mask_products,
    open_products,
    own_half,
)
from streams.kernels.split_link import (
    SplitLayout,
    choose_residual_layout,
    choose_split_layout,
    column_bound,
    combine_rows,
    encrypt_basis,
    mask_residuals,
    open_residuals,
    residual_bound,
)
from streams.kernels.standardisation import fit_standardisation, standardise

BITS = 768
GUEST, HOST = generate_keys(b"g" * 32, BITS), generate_keys(b"h" * 32, BITS)
GUEST_REFRESHER = Refresher(HOST.public, b"r" * 32)
HOST_REFRESHER = Refresher(GUEST.public, b"s" * 32)
BOUND = 8 << FX
TABLE = choose_table(8, 4)

seeds = st.integers(0, 2**32 - 1)


def key(*fields: str | int) -> bytes:
    return prf(b"k" * 32, "test", *fields)


def layout_of(rank: int, rows: int, drop: int = 0) -> SplitLayout:
    return choose_split_layout(TABLE, rank, rows, BITS, drop)


def share_residuals(
    phi: NDArray[np.int64], psi: NDArray[np.int64], label: NDArray[np.int8], layout: SplitLayout, seed: int
) -> tuple[list[int], list[int]]:
    """(the host's shares e, the guest's shares rho) of the residuals, over the whole exchange."""
    sent = encrypt_basis(OwnerEncryptor(HOST), psi, layout, Draws(key("basis", seed)))
    offsets = phi[:, 0] - (label.astype(np.int64) << RESIDUAL_BITS)
    groups = combine_rows(sent, phi[:, 1:], offsets, layout, HOST.public)
    fresh, rho = mask_residuals(groups, len(label), GUEST_REFRESHER, layout, key("mask", seed))
    e = open_residuals(HOST, fresh, len(label), layout)
    return [int(value) for value in e], [int(value) for value in rho]


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(2, 6), st.integers(1, 23))
def test_shares_differ_by_the_residual(seed: int, rank: int, rows: int) -> None:
    rng = np.random.RandomState(seed)
    layout = layout_of(rank, 5000)
    phi = TABLE.phi(rng.randint(-9 << 20, 9 << 20, rows), rank)
    psi = TABLE.psi(rng.randint(-5 << 20, 5 << 20, rows), rank)
    label = rng.randint(0, 2, rows).astype(np.int8)
    e, rho = share_residuals(phi, psi, label, layout, seed)
    for left, right, d in zip(e, rho, approximate_residuals(phi, psi, label).tolist(), strict=True):
        assert abs(centre(left - right, layout.slots.slot_bits) - d) <= 1


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("rank", [2, 4, 6])
def test_no_slot_overflows_at_the_tables_maxima(rank: int, signs: tuple[int, int]) -> None:
    """Every phi and psi at its maximum at once, which no pair of logits reaches."""
    rows = 2 * layout_of(rank, 5000).slots.rows_per_plaintext + 1
    layout = layout_of(rank, 5000)
    phi = np.tile(signs[0] * np.array([TABLE.phi_0_maximum(), *TABLE.phi_maxima(rank)]), (rows, 1))
    psi = np.tile(signs[1] * np.array(TABLE.psi_maxima(rank)), (rows, 1))
    label = np.zeros(rows, dtype=np.int8)
    e, rho = share_residuals(phi, psi, label, layout, rank)
    for left, right, d in zip(e, rho, approximate_residuals(phi, psi, label).tolist(), strict=True):
        assert abs(centre(left - right, layout.slots.slot_bits) - d) <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_at_their_bound_do_not_wrap(sign: int) -> None:
    """Columns whose absolute values sum to the bound, and the largest residual of one sign in every row."""
    rows, rank = 40, 2
    layout = layout_of(rank, rows)
    features = np.full((rows, 2), 1 << FX, dtype=np.int32)
    features[:, 1] = -features[:, 0]
    features[0] += np.sign(features[0]) * (column_bound(rows) - (rows << FX))
    d = sign * residual_bound(TABLE, rank)
    modulus = 1 << layout.slots.slot_bits
    rho = [(modulus - 1) if row % 2 else 0 for row in range(rows)]
    e = [(value + d) % modulus for value in rho]
    gradient = host_gradient(features, e, rho, layout.products, 1)
    exact = column_bound(rows) * d
    assert abs(gradient[0] - exact) <= 1 and abs(gradient[1] + exact) <= 1


def host_gradient(
    features: NDArray[np.int32], e: list[int], rho: list[int], layout: ProductLayout, seed: int, chunk: int = 7
) -> list[int]:
    """X^T (e - rho) in units of 2^drop_bits, the way the host gets it."""
    encryptor = OwnerEncryptor(GUEST)
    products: list[Ciphertext] = []
    for first in range(0, len(rho), chunk):
        rows = slice(first, first + chunk)
        values = encrypt_values(encryptor, rho[rows], layout, Draws(key("rho", seed, first)))
        products = add_products(products, values, features[rows], layout, GUEST.public)
    fresh, pads = mask_products(products, HOST_REFRESHER, layout, key("product", seed))
    returned = decode_shares(encode_shares(open_products(GUEST, fresh, layout), layout), len(fresh), layout)
    sums = weighted_shares(features, np.array(e, dtype=np.uint64), layout.share_bits)
    return [-value for value in join_halves(returned, own_half(pads, sums, layout), layout)]


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 30), st.integers(0, 30))
def test_products_of_shares_are_the_gradient_up_to_the_cut(seed: int, rows: int, drop: int) -> None:
    rng = np.random.RandomState(seed)
    layout = layout_of(3, 5000, drop).products
    features = rng.randint(-BOUND, BOUND + 1, (rows, 3)).astype(np.int32)
    modulus = 1 << layout.share_bits
    d = rng.randint(-(1 << 28), 1 << 28, rows)
    draws = Draws(key("shares", seed))
    rho = [draws.bits(layout.share_bits) for _ in range(rows)]
    e = [(int(value) + share) % modulus for value, share in zip(d, rho, strict=True)]
    exact = weighted_sums(features, d)
    for value, sum_ in zip(host_gradient(features, e, rho, layout, seed), exact, strict=True):
        assert abs(value * 2**drop - sum_) <= 2**drop + 1


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 30))
def test_known_residuals_give_the_gradient_exactly_without_a_cut(seed: int, rows: int) -> None:
    rng = np.random.RandomState(seed)
    layout = choose_residual_layout(5000, BITS, 0)
    features = rng.randint(-BOUND, BOUND + 1, (rows, 3)).astype(np.int32)
    d = rng.randint(-(1 << 28), (1 << 28) + 1, rows)
    values = encrypt_values(OwnerEncryptor(GUEST), d, layout, Draws(key("d", seed)))
    products = add_products([], values, features, layout, GUEST.public)
    fresh, pads = mask_products(products, HOST_REFRESHER, layout, key("flow e", seed))
    got = join_halves(open_products(GUEST, fresh, layout), own_half(pads, (), layout), layout)
    assert all(abs(a - b) <= 1 for a, b in zip(got, weighted_sums(features, d), strict=True))


def test_what_was_computed_cannot_be_sent() -> None:
    layout = layout_of(2, 100)
    encryptor = OwnerEncryptor(HOST)
    sent = encrypt_basis(encryptor, np.ones((3, 2), dtype=np.int64), layout, Draws(key("x")))
    groups = combine_rows(sent, np.ones((3, 2), dtype=np.int64), np.zeros(3, dtype=np.int64), layout, HOST.public)
    values = encrypt_values(encryptor, [1, 2, 3], layout.products, Draws(key("y")))
    products = add_products([], values, np.ones((3, 2), dtype=np.int32), layout.products, HOST.public)
    for computed in (groups, products):
        with pytest.raises(TypeError, match="refresh"):
            encode_ciphertexts(HOST.public, computed)  # type: ignore[arg-type]


def test_wrong_counts_and_shares_are_refused() -> None:
    layout = layout_of(2, 100, 20)
    ones = np.ones((3, 2), dtype=np.int64)
    sent = encrypt_basis(OwnerEncryptor(HOST), ones, layout, Draws(key("z")))
    with pytest.raises(ValueError, match="2 ciphertexts"):
        combine_rows(sent[:2], ones, ones[:, 0], layout, HOST.public)
    with pytest.raises(ValueError, match="rows need"):
        add_products([], sent, np.ones((100, 1), dtype=np.int32), layout.products, HOST.public)
    with pytest.raises(ValueError, match="bytes"):
        decode_shares(b"\0", 3, layout.products)
    with pytest.raises(ValueError, match="more than"):
        decode_shares(b"\xff" * 3 * layout.products.share_bytes, 3, layout.products)


def test_a_key_too_short_for_the_rank_says_so() -> None:
    with pytest.raises(ValueError, match="longer key"):
        choose_split_layout(TABLE, 6, 20_000, 512, 0)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 300), st.floats(0.5, 8.0))
def test_a_standardised_column_never_exceeds_its_bound(seed: int, rows: int, clip: float) -> None:
    rng = np.random.RandomState(seed)
    values = np.column_stack([rng.standard_cauchy(rows), rng.randint(0, 2, rows), rng.normal(size=rows), np.ones(rows)])
    features = standardise(values, fit_standardisation(values), clip)
    assert np.abs(features.astype(np.int64)).sum(axis=0).max() <= column_bound(rows)


@pytest.mark.parametrize(("guest_clip", "host_clip"), [(8, 4), (8, 8), (24, 4)])
def test_the_residual_bound_holds_between_grid_points(guest_clip: int, host_clip: int) -> None:
    table = choose_table(guest_clip, host_clip)
    rng = np.random.RandomState(5)
    a = rng.randint(-(guest_clip << 20), (guest_clip << 20) + 1, 200_000)
    b = rng.randint(-(host_clip << 20), (host_clip << 20) + 1, 200_000)
    for rank in range(2, table.max_rank + 1, 2):
        for label in (0, 1):
            d = approximate_residuals(table.phi(a, rank), table.psi(b, rank), np.full(len(a), label, dtype=np.int8))
            assert np.abs(d).max() <= residual_bound(table, rank)
