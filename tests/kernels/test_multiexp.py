"""Bucket methods give exactly the group element that plain powers give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from streams.kernels import multiexp
from streams.kernels.entropy import Draws
from streams.kernels.paillier import Ciphertext, OwnerEncryptor, generate_keys, product
from streams.native import forget_choice

SEED = bytes(range(32))
PRIVATE = generate_keys(SEED, 128)
PUBLIC = PRIVATE.public
N2 = PUBLIC.modulus_squared
CIPHERTEXTS = OwnerEncryptor(PRIVATE).encrypt_many(range(40), Draws(SEED))

sizes = st.tuples(st.integers(1, 12), st.integers(1, 3))
edges = st.sampled_from([0, 1, -1, 2**16, -(2**16), 2**16 - 1, multiexp.MAX_WEIGHT, -multiexp.MAX_WEIGHT])


def naive(ciphertexts: Sequence[Ciphertext], exponents: list[int]) -> mpz:
    """The definition, with plain modular powers."""
    total = mpz(1)
    for ciphertext, exponent in zip(ciphertexts, exponents, strict=True):
        total = total * gmpy2.powmod(ciphertext.value, exponent, N2) % N2
    return total


weight_arrays: st.SearchStrategy[NDArray[np.int64]] = sizes.flatmap(
    lambda shape: hnp.arrays(np.int64, shape, elements=st.one_of(edges, st.integers(-(2**17), 2**17)))
)


@given(weight_arrays)
def test_weighted_products_equal_plain_powers(weights: NDArray[np.int64]) -> None:
    chosen = CIPHERTEXTS[: len(weights)]
    results = multiexp.weighted_products(chosen, weights, PUBLIC)
    assert [result.value for result in results] == [naive(chosen, column) for column in weights.T.tolist()]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8])
def test_any_integer_type_of_weights_will_do(dtype: type[np.integer[Any]]) -> None:
    weights = np.array([[1, 100], [3, 0], [7, 127]], dtype=dtype)
    results = multiexp.weighted_products(CIPHERTEXTS[:3], weights, PUBLIC)
    assert [r.value for r in results] == [naive(CIPHERTEXTS[:3], c) for c in weights.T.tolist()]


@given(
    st.integers(1, 6).flatmap(lambda n: hnp.arrays(np.int64, (n, 3, 2), elements=st.integers(-(2**16), 2**16))),
    st.permutations([0, 35, 61]),
)
@settings(max_examples=50)
def test_slotted_products_equal_plain_powers_of_the_long_exponent(
    weights: NDArray[np.int64], shifts: list[int]
) -> None:
    chosen = CIPHERTEXTS[: len(weights)]
    results = multiexp.slotted_products(chosen, weights, shifts, PUBLIC)
    for feature, result in enumerate(results):
        exponents = [sum(w << s for w, s in zip(row, shifts, strict=True)) for row in weights[:, :, feature].tolist()]
        assert result.value == naive(chosen, exponents)


@pytest.mark.parametrize("window", range(2, 10))
@pytest.mark.parametrize("has_tables", [False, True])
def test_buckets_and_tables_give_the_same_at_any_digit_size(
    window: int, has_tables: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_KERNEL", "gmpy2")
    forget_choice()
    monkeypatch.setattr(multiexp, "choose_method", lambda *_: (window, has_tables))
    weights = np.random.default_rng(window).integers(-(2**17), 2**17, (40, 3, 4), endpoint=True)
    weights[0] = [[-(2**17)] * 4, [0] * 4, [2**17] * 4]
    shifts = [0, 40, 80]
    results = multiexp.slotted_products(CIPHERTEXTS, weights, shifts, PUBLIC)
    monkeypatch.undo()
    forget_choice()
    for feature, result in enumerate(results):
        exponents = [sum(w << s for w, s in zip(row, shifts, strict=True)) for row in weights[:, :, feature].tolist()]
        assert result.value == naive(CIPHERTEXTS, exponents)


def test_tables_are_for_many_columns_and_buckets_for_many_rows() -> None:
    window, has_tables = multiexp.choose_method(139, 2**17, 12 * 13, 2048)
    assert has_tables and 4 <= window <= 7
    window, has_tables = multiexp.choose_method(30_000, 2**40, 2, 2048)
    assert not has_tables and window > 8
    # So many tables that memory would not hold them.
    assert multiexp.choose_method(30_000, 2**17, 5, 2048)[1] is False
    assert multiexp.choose_method(30_000, 2**17, 1000, 2048)[1] is False


@given(
    st.integers(1, 9).flatmap(lambda n: hnp.arrays(np.int64, (n, 3), elements=st.integers(-(2**15), 2**15))),
    st.integers(1, 4),
)
@settings(max_examples=50)
def test_combined_powers_equal_the_product_of_single_powers(coefficients: NDArray[np.int64], run: int) -> None:
    shifts = [60, 30, 0]
    chosen = CIPHERTEXTS[: len(coefficients)]
    exponents = [sum(c << s for c, s in zip(row, shifts, strict=True)) for row in coefficients.tolist()]
    singles = multiexp.powers(chosen, exponents, PUBLIC)
    assert [s.value for s in singles] == [naive([c], [e]) for c, e in zip(chosen, exponents, strict=True)]
    combined = multiexp.combined_powers(chosen, coefficients, shifts, run, PUBLIC)
    assert combined == [product(PUBLIC, singles[i : i + run]) for i in range(0, len(singles), run)]


@given(st.integers(2, 13), st.integers(0, multiexp.MAX_WEIGHT))
def test_digits_add_up_to_the_weight(window: int, weight: int) -> None:
    count = multiexp.digit_count(weight, window)
    digits = multiexp.signed_digits(np.array([weight, -weight]), window, count)
    half = 1 << (window - 1)
    assert digits.min() >= -half and digits[:-1].max(initial=-half) < half and digits[-1].max() <= half
    for place, expected in ((0, weight), (1, -weight)):
        assert sum(int(digit) << (window * i) for i, digit in enumerate(digits[:, place])) == expected


def test_a_weight_that_fills_its_digits_takes_no_further_one() -> None:
    assert multiexp.digit_count(1 << 17, 6) == 3
    assert multiexp.digit_count((1 << 17) + 31 * 65, 6) == 3
    assert multiexp.digit_count((1 << 17) + 31 * 65 + 1, 6) == 4
    assert multiexp.signed_digits(np.array([1 << 17]), 6, 3).tolist() == [[0], [0], [32]]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_no_rows_or_no_features_are_trivial(shape: tuple[int, int]) -> None:
    results = multiexp.weighted_products(CIPHERTEXTS[: shape[0]], np.zeros(shape, dtype=np.int64), PUBLIC)
    assert results == [Ciphertext(mpz(1))] * shape[1]


def test_weights_that_do_not_belong_to_the_ciphertexts_are_refused() -> None:
    with pytest.raises(ValueError, match="weights for 3 ciphertexts and 1 slots came with 2 ciphertexts"):
        multiexp.weighted_products(CIPHERTEXTS[:2], np.ones((3, 1), dtype=np.int64), PUBLIC)
    with pytest.raises(ValueError, match="coefficients for 2 ciphertexts and 3 slots"):
        multiexp.combined_powers(CIPHERTEXTS[:2], np.ones((2, 3), dtype=np.int64), [0, 5], 2, PUBLIC)


def test_a_weight_beyond_the_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        multiexp.weighted_products(CIPHERTEXTS[:1], np.array([[multiexp.MAX_WEIGHT + 1]]), PUBLIC)


def test_longer_inputs_get_wider_digits() -> None:
    windows = [multiexp.choose_window(rows, 2**16) for rows in (1, 100, 1000, 100_000)]
    assert windows == sorted(windows) and windows[0] < windows[-1]
