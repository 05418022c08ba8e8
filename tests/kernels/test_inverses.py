"""Inverting many numbers is inverting each."""

from __future__ import annotations

import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.inverses import invert_many

MODULUS = mpz(10007) * 10009


@given(st.lists(st.integers(1, 10006), max_size=20))
def test_inverting_many_is_inverting_each(values: list[int]) -> None:
    inverses = invert_many([mpz(value) for value in values], MODULUS)
    assert all(value * inverse % MODULUS == 1 for value, inverse in zip(values, inverses, strict=True))


def test_a_value_without_an_inverse_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        invert_many([mpz(3), mpz(10007)], MODULUS)
