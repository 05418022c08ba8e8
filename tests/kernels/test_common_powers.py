"""Powers by one exponent are those of each number, however many threads share them out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gmpy2
import pytest
from gmpy2 import mpz

from streams.kernels import common_powers
from streams.native import forget_choice

MODULUS = mpz(2**89 - 1) ** 2


@pytest.fixture(autouse=True)
def _choice(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ISTHMUS_KERNEL", "gmpy2")
    forget_choice()
    yield
    monkeypatch.undo()
    forget_choice()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 8, 9])
def test_powers_come_in_order_from_any_number_of_threads(
    threads: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_KERNEL_THREADS", str(threads))
    forget_choice()
    values = [mpz(3) ** k for k in range(count)]
    expected = [gmpy2.powmod(value, 12345, MODULUS) for value in values]
    assert common_powers.raise_all(values, mpz(12345), MODULUS) == expected


def test_threads_compute_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_KERNEL_THREADS", "2")
    forget_choice()
    meeting = threading.Barrier(2, timeout=30)
    compute = gmpy2.powmod_base_list

    class Meeting:
        def __getattr__(self, name: str) -> Any:
            return getattr(gmpy2, name)

        def powmod_base_list(self, *arguments: Any) -> Any:
            meeting.wait()
            return compute(*arguments)

    monkeypatch.setattr(common_powers, "gmpy2", Meeting())
    assert common_powers.raise_all([mpz(2), mpz(3)], mpz(5), MODULUS) == [32, 243]
