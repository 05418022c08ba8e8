"""Sums of encrypted values by bin: what gradient histograms of trees are made of.

A histogram is a product of ciphertexts for each feature and bin; rows with the same bin of a feature meet in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from streams.kernels.ciphertexts import Ciphertext
from streams.kernels.native_modulus import native_modulus
from streams.kernels.paillier_keys import PublicKey


def sum_bins(
    ciphertexts: Sequence[Ciphertext], bins: NDArray[np.integer[Any]], count: int, public: PublicKey
) -> list[list[Ciphertext]]:
    """For each feature and each of `count` bins the ciphertext of the sum of the plaintexts whose row is in it.

    `bins` has shape (ciphertexts, features), from 0 to count - 1. An empty bin has the trivial ciphertext of 0.
    Raises `ValueError` when the bins do not fit. Nothing of it is fresh: refresh what leaves the party.
    """
    rows, features = bins.shape
    if rows != len(ciphertexts):
        raise ValueError(f"bins of {rows} rows came with {len(ciphertexts)} ciphertexts")
    if rows and (int(bins.min()) < 0 or int(bins.max()) >= count):
        raise ValueError(f"bins are 0 to {count - 1}, and one of them is {int(bins.min())} or {int(bins.max())}")
    values = [ciphertext.value for ciphertext in ciphertexts]
    native = native_modulus(public.modulus_squared, rows) if features and count else None
    if native is not None:
        sums = native.histogram(values, bins.astype(np.int32), count)
        return [[Ciphertext(each) for each in sums[k * count : (k + 1) * count]] for k in range(features)]
    return [_sum_column(values, bins[:, k].tolist(), count, public) for k in range(features)]


def _sum_column(values: Sequence[mpz], column: Sequence[int], count: int, public: PublicKey) -> list[Ciphertext]:
    n2 = public.modulus_squared
    totals = [mpz(1)] * count
    for value, place in zip(values, column, strict=True):
        totals[place] = totals[place] * value % n2
    return [Ciphertext(total) for total in totals]
