"""Histograms of encrypted values: each bin has the sum of the values of its rows, and what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest

from streams.kernels.entropy import Draws, prf
from streams.kernels.histogram import choose_features, sum_bins
from streams.kernels.paillier import OwnerEncryptor, decrypt_many, generate_keys

PRIVATE = generate_keys(prf(bytes(32), "histogram"), 256)


def test_each_bin_has_the_sum_of_its_rows() -> None:
    values = [3, -5, 70, 11, 0, 2]
    bins = np.array([[0, 2], [1, 2], [0, 2], [3, 0], [3, 1], [0, 1]])
    given = OwnerEncryptor(PRIVATE).encrypt_many(values, Draws(prf(bytes(32), "draws")))
    sums = sum_bins(given, bins, 4, PRIVATE.public)
    assert [decrypt_many(PRIVATE, column) for column in sums] == [[75, -5, 0, 11], [11, 2, 68, 0]]
    assert sum_bins([], np.zeros((0, 2), dtype=int), 3, PRIVATE.public)[1][2].value == 1


@pytest.mark.parametrize(("rows", "features", "count"), [(40, 5, 3), (200, 7, 4), (33, 4, 4), (64, 1, 2), (20, 3, 1)])
def test_rows_that_share_cells_of_joint_histograms_are_in_the_right_bins(rows: int, features: int, count: int) -> None:
    draws = np.random.default_rng(rows)
    values, bins = draws.integers(-99, 99, rows), draws.integers(0, count, (rows, features))
    given = OwnerEncryptor(PRIVATE).encrypt_many(values.tolist(), Draws(prf(bytes(32), "draws")))
    for kind in (np.int8, np.int64):
        sums = sum_bins(given, bins.astype(kind), count, PRIVATE.public)
        expected = [[int(values[bins[:, k] == place].sum()) for place in range(count)] for k in range(features)]
        assert [decrypt_many(PRIVATE, column) for column in sums] == expected


def test_a_joint_histogram_has_at_most_half_as_many_cells_as_there_are_rows() -> None:
    assert choose_features(30_000, 50) == 2
    assert choose_features(4_999, 50) == 1
    assert choose_features(5_000, 50) == 2
    assert choose_features(1 << 21, 32) == 4
    assert choose_features(0, 50) == choose_features(100, 1) == 1


def test_bins_that_do_not_fit_are_refused() -> None:
    given = OwnerEncryptor(PRIVATE).encrypt_many([1, 2], Draws(prf(bytes(32), "draws")))
    with pytest.raises(ValueError, match="bins of 3 rows came with 2 ciphertexts"):
        sum_bins(given, np.zeros((3, 1), dtype=int), 2, PRIVATE.public)
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match="bins are 0 to 1"):
            sum_bins(given, np.array([[0], [wrong]]), 2, PRIVATE.public)
