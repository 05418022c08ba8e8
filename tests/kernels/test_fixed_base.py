"""Tables give the same powers as square-and-multiply, within their memory budget."""

from __future__ import annotations

import gmpy2
import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels import fixed_base
from streams.kernels.entropy import Draws, prf

ROOT = mpz(10007) * 10009
MODULUS = ROOT * ROOT


@given(st.integers(2, 6), st.lists(st.integers(1, 40), min_size=1, max_size=3), st.binary(min_size=1, max_size=4))
def test_a_power_from_tables_is_the_power_of_its_digits(window: int, bits: list[int], seed: bytes) -> None:
    bases = fixed_base.prepare_bases([(mpz(5 + k), each) for k, each in enumerate(bits)], ROOT, window)
    digits = fixed_base.draw_digits(Draws(prf(seed, "digits")), 3, bases.positions, window, signed=True)
    positions = [-(-each // window) for each in bits]
    assert bases.positions == sum(positions)
    for power, row in zip(fixed_base.raise_bases(bases, digits), digits.tolist(), strict=True):
        expected, first = mpz(1), 0
        for k, count in enumerate(positions):
            exponent = sum(digit << (window * i) for i, digit in enumerate(row[first : first + count]))
            expected = expected * gmpy2.powmod(5 + k, exponent, MODULUS) % MODULUS
            first += count
        assert power == expected
    assert fixed_base.raise_bases(bases, digits[:0]) == []


def test_signed_digits_reach_every_value_from_minus_half_to_half() -> None:
    digits = fixed_base.draw_digits(Draws(bytes(32)), 500, 10, 4, signed=True)
    assert sorted(set(digits.flatten().tolist())) == list(range(-8, 8))


def test_a_subset_product_multiplies_the_chosen_bases() -> None:
    bases = [mpz(base) for base in (2, 3, 5, 7, 11, 13, 17)]
    subsets = fixed_base.prepare_subsets(bases, ROOT, 3)
    digits = fixed_base.draw_digits(Draws(bytes(32)), 20, subsets.positions, 3, signed=False)
    digits[:, -1] &= 1  # the last run holds one base
    for total, row in zip(fixed_base.multiply_subsets(subsets, digits), digits.tolist(), strict=True):
        expected = mpz(1)
        for i, base in enumerate(bases):
            if row[i // 3] >> (i % 3) & 1:
                expected = expected * base % MODULUS
        assert total == expected


@pytest.mark.parametrize("bits", [1024, 2048, 3072, 4096])
def test_tables_stay_within_their_memory_budget(bits: int) -> None:
    owner_exponents = 2 * (bits // 2 + 64)
    refresh_exponents = bits + 64 + bits // 2 + 168
    for modulus_bits, exponent_bits in ((bits, owner_exponents), (2 * bits, refresh_exponents)):
        window = fixed_base.choose_window(modulus_bits, exponent_bits)
        entries = (exponent_bits // window + 2) * (1 << (window - 1))
        assert entries * (modulus_bits // 8 + 56) < 1.02 * fixed_base.TABLE_BUDGET_BYTES
        assert window >= 6
