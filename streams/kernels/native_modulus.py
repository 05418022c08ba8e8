"""The native kernel's arithmetic modulo the square of a number, on gmpy2's integers. Every method equals what the
modules say that call it; what they do without it is the readable reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from streams.native import kernel_threads, native_backend, native_products

#: Numbers of a call below which gmpy2 is as fast: eight lanes are computed, whether they are used or not.
LEAST: Final = 4


class NativeModulus:
    """Arithmetic modulo the square of `root`, odd and above 32 bits. Numbers are in [0, root^2)."""

    def __init__(self, native: Any, root: mpz) -> None:
        self._native = native
        self._modulus = root * root
        self._inner = native.Modulus(root.to_bytes((root.bit_length() + 7) // 8, "big"), native_backend())
        self._width = self._inner.width
        self._threads = kernel_threads()

    def multiply(self, a: Sequence[mpz], b: Sequence[mpz]) -> list[mpz]:
        """a_i b_i; one b serves all."""
        return self._split(self._inner.multiply(self._join(a), self._join(b), self._threads))

    def power(self, values: Sequence[mpz], exponent: mpz) -> list[mpz]:
        """value_i ^ exponent for one exponent from 0 on."""
        power = exponent.to_bytes((exponent.bit_length() + 7) // 8 or 1, "big")
        return self._split(self._inner.power(self._join(values), power, self._threads))

    def invert(self, values: Sequence[mpz]) -> list[mpz]:
        """Inverses of units. Raises `ZeroDivisionError` when one is none."""
        return self._split(self._inner.invert(self._join(values), self._invert_eight))

    def build_table(self, base: mpz, window: int, rows: int) -> Any:
        """See `fixed_base.build_tables`."""
        return self._native.FixedTable.of_base(self._inner, self._join([base]), window, rows)

    def build_subset_table(self, bases: Sequence[mpz], window: int) -> Any:
        """See `fixed_base.build_subset_tables`."""
        return self._native.FixedTable.of_subsets(self._inner, self._join(bases), window)

    def powers(self, tables: Sequence[Any], digits: NDArray[np.int16]) -> list[mpz]:
        """See `fixed_base.raise_bases`."""
        flat = _flat(digits, np.int16)
        return self._split(self._inner.powers(list(tables), flat, self._invert_eight, self._threads))

    def subset_products(self, table: Any, digits: NDArray[np.int16]) -> list[mpz]:
        """See `fixed_base.multiply_subsets`."""
        return self._split(self._inner.subset_products(table, _flat(digits, np.int16), self._threads))

    def combine(
        self, values: Sequence[mpz], run: int, gaps: Sequence[int], digits: NDArray[np.int16], last: int
    ) -> list[mpz]:
        """See `multiexp.combined_powers`: `digits` (places, values), the highest place first."""
        joined = self._join(values)
        arguments = (joined, self._invert_eight, run, list(gaps), _flat(digits, np.int16), last, self._threads)
        return self._split(self._inner.combine(*arguments))

    def slotted(
        self,
        values: Sequence[mpz],
        digits: NDArray[np.int16],
        largest: int,
        order: Sequence[tuple[int, int]],
        last: int,
        *,
        is_signed: bool,
    ) -> list[mpz]:
        """See `multiexp.slotted_products`: `digits` (values, features, places)."""
        invert = self._invert_eight if is_signed else None
        flat, features = _flat(digits, np.int16), digits.shape[1]
        arguments = (self._join(values), invert, features, flat, largest, list(order), last, self._threads)
        return self._split(self._inner.slotted(*arguments))

    def histogram(self, values: Sequence[mpz], bins: NDArray[np.int32], count: int) -> list[mpz]:
        """See `histogram.sum_bins`: features one after the other."""
        arguments = (self._join(values), _flat(bins, np.int32), bins.shape[1], count, self._threads)
        return self._split(self._inner.histogram(*arguments))

    def _join(self, values: Sequence[mpz]) -> bytes:
        width = self._width
        return b"".join(value.to_bytes(width, "big") for value in values)

    def _split(self, joined: bytes) -> list[mpz]:
        width, read = self._width, mpz.from_bytes
        return [read(joined[start : start + width], "big") for start in range(0, len(joined), width)]

    @property
    def _invert_eight(self) -> Callable[[bytes], bytes]:
        def invert(joined: bytes) -> bytes:
            return self._join([gmpy2.invert(value, self._modulus) for value in self._split(joined)])

        return invert


def _flat(numbers: NDArray[Any], kind: Any) -> bytes:
    """Little-endian, row after row."""
    return np.ascontiguousarray(numbers, dtype=np.dtype(kind).newbyteorder("<")).tobytes()


@lru_cache(maxsize=16)
def _modulus(native: Any, modulus: mpz) -> NativeModulus | None:
    root, rest = gmpy2.isqrt_rem(modulus)
    return NativeModulus(native, root) if not rest and root % 2 and root.bit_length() > 32 else None


def native_modulus(modulus: mpz, count: int) -> NativeModulus | None:
    """What computes `count` results at a time modulo a square faster than gmpy2; None if nothing does."""
    native = native_products() if count >= LEAST else None
    return None if native is None else _modulus(native, modulus)
