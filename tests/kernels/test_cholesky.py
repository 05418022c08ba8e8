"""Own Cholesky: LAPACK's answer in a fixed order, dependent columns left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kernels.cholesky import exact_gram, factor, solve


@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_solves_as_lapack_does(d: int, seed: int) -> None:
    draws = np.random.RandomState(seed)
    half = draws.standard_normal((d + 5, d))
    matrix, right = half.T @ half + np.eye(d), draws.standard_normal(d)
    assert np.allclose(solve(factor(matrix), right), np.linalg.solve(matrix, right), rtol=1e-9, atol=1e-12)


def test_a_repeated_and_an_empty_column_get_zero_and_the_others_their_solution() -> None:
    draws = np.random.RandomState(0)
    half = draws.standard_normal((30, 3))
    columns = np.column_stack([half[:, 0], half[:, 0], np.zeros(30), half[:, 1], half[:, 2]])
    matrix, right = columns.T @ columns, draws.standard_normal(5)
    found = solve(factor(matrix), right)
    assert found[1] == 0.0 and found[2] == 0.0
    kept = [0, 3, 4]
    assert np.allclose(found[kept], np.linalg.solve(matrix[np.ix_(kept, kept)], right[kept]))


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.array([[np.nan]])])
def test_no_square_finite_matrix_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite square matrix"):
        factor(bad)


@given(st.integers(0, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_gram_matrix_is_exact_at_the_format_bounds(n: int, d: int, seed: int) -> None:
    draws = np.random.RandomState(seed)
    features = draws.choice([-(2**16), 2**16, 2**16 - 1, 3], size=(n, d)).astype(np.int32)
    weights = draws.choice([0, 1, 2**12], size=n).astype(np.int64)
    exact = [
        [
            sum(int(w) * int(a) * int(b) for w, a, b in zip(weights, features[:, i], features[:, j], strict=True))
            for j in range(d)
        ]
        for i in range(d)
    ]
    assert exact_gram(features, weights).tolist() == [[float(value) for value in row] for row in exact]


def test_the_gram_matrix_does_not_depend_on_how_rows_are_cut_into_blocks() -> None:
    features = np.random.RandomState(3).randint(-(2**16), 2**16, (40_000, 3)).astype(np.int32)
    twice = exact_gram(features[:20_000]) + exact_gram(features[20_000:])
    assert np.array_equal(exact_gram(features), twice)
    assert np.array_equal(exact_gram(features), exact_gram(features[::-1]))
