"""A number and its short unit are the same number, and so are all powers, inverses and squares of them."""

from __future__ import annotations

import gmpy2
import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.short_units import (
    ShortUnit,
    invert_unit,
    join_unit,
    list_powers,
    split_units,
    square_repeatedly,
)

ROOT = mpz(10007) * 10009
MODULUS = ROOT * ROOT

#: With the edges: 1, -1, what is 1 or -1 modulo the root, and neighbours of the root.
units = st.one_of(
    st.sampled_from([mpz(1), MODULUS - 1, ROOT + 1, MODULUS - ROOT - 1, ROOT - 1, 2 * ROOT - 1, ROOT - 2]),
    st.integers(1, int(MODULUS) - 1).map(mpz).filter(lambda value: gmpy2.gcd(value, ROOT) == 1),
)


def whole(short: ShortUnit) -> mpz:
    """The number that is meant, by the definition."""
    return short.unit * gmpy2.powmod(1 + ROOT, short.exponent, MODULUS) % MODULUS


@given(st.lists(units, max_size=5))
def test_a_split_number_is_itself_and_half_as_long(values: list[mpz]) -> None:
    shorts = split_units(values, ROOT)
    assert [whole(short) for short in shorts] == values
    assert [join_unit(short.unit, short.exponent, ROOT) for short in shorts] == values
    for short in shorts:
        assert 0 < short.unit < ROOT and 0 <= short.exponent < ROOT
        assert 0 < short.inverse < ROOT and short.unit * short.inverse % ROOT == 1


@given(units)
def test_an_inverse_is_one(value: mpz) -> None:
    (short,) = split_units([value], ROOT)
    inverse = invert_unit(short, ROOT)
    assert whole(inverse) * value % MODULUS == 1
    assert invert_unit(inverse, ROOT) == short


@given(units, st.integers(1, 9), st.booleans())
def test_listed_powers_are_powers(value: mpz, most: int, signed: bool) -> None:
    powers = list_powers(split_units([value], ROOT)[0], most, ROOT, signed=signed)
    exponents = range(-most if signed else 0, most + 1)
    assert len(powers.units) == len(powers.exponents) == len(exponents)
    for d in exponents:
        assert 0 < powers.units[d] < ROOT and 0 <= powers.exponents[d] < ROOT
        assert join_unit(powers.units[d], powers.exponents[d], ROOT) == gmpy2.powmod(value, d, MODULUS)


@given(units, st.integers(0, 20))
def test_repeated_squares_are_a_power(value: mpz, count: int) -> None:
    assert square_repeatedly(value, count, ROOT) == gmpy2.powmod(value, 1 << count, MODULUS)


@given(units, st.integers(-(10**30), 10**30))
def test_an_exponent_may_have_any_size_and_sign(value: mpz, exponent: int) -> None:
    expected = value * gmpy2.powmod(1 + ROOT, exponent, MODULUS) % MODULUS
    assert join_unit(value, mpz(exponent), ROOT) == join_unit(value + MODULUS, mpz(exponent), ROOT) == expected


@pytest.mark.parametrize("value", [mpz(0), ROOT, mpz(10007) * 5])
def test_what_is_no_unit_is_an_error(value: mpz) -> None:
    with pytest.raises(ZeroDivisionError):
        split_units([mpz(2), value], ROOT)
