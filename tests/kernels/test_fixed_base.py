"""Tables give the same powers as square-and-multiply, within their memory budget."""

from __future__ import annotations

import gmpy2
import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels import fixed_base
from streams.kernels.entropy import Draws, prf

MODULUS = mpz(10007) * 10009


@given(st.integers(2, 6), st.integers(1, 40), st.binary(min_size=1, max_size=4))
def test_a_power_from_tables_is_the_power_of_its_digits(window: int, bits: int, seed: bytes) -> None:
    tables = fixed_base.build_tables(mpz(5), MODULUS, bits, window)
    digits = fixed_base.draw_digits(Draws(prf(seed, "digits")), 3, len(tables), window, signed=True)
    assert len(tables) * window >= bits
    powers = fixed_base.divide(fixed_base.fractions(tables, digits, MODULUS), MODULUS)
    for power, row in zip(powers, digits.tolist(), strict=True):
        exponent = sum(digit << (window * i) for i, digit in enumerate(row))
        assert power == gmpy2.powmod(5, exponent, MODULUS)


def test_signed_digits_reach_every_value_from_minus_half_to_half() -> None:
    digits = fixed_base.draw_digits(Draws(bytes(32)), 500, 10, 4, signed=True)
    assert sorted(set(digits.flatten().tolist())) == list(range(-8, 8))


def test_a_subset_product_multiplies_the_chosen_bases() -> None:
    bases = [mpz(base) for base in (2, 3, 5, 7, 11, 13, 17)]
    tables = fixed_base.build_subset_tables(bases, MODULUS, 3)
    digits = fixed_base.draw_digits(Draws(bytes(32)), 20, len(tables), 3, signed=False)
    digits[:, -1] &= 1  # the last run holds one base
    for total, row in zip(fixed_base.subset_products(tables, digits, MODULUS), digits.tolist(), strict=True):
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


@given(st.lists(st.integers(1, 10006), max_size=20))
def test_inverting_many_is_inverting_each(values: list[int]) -> None:
    inverses = fixed_base.invert_many([mpz(value) for value in values], MODULUS)
    assert all(value * inverse % MODULUS == 1 for value, inverse in zip(values, inverses, strict=True))


def test_a_value_without_an_inverse_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        fixed_base.invert_many([mpz(3), mpz(10007)], MODULUS)
