"""Symmetric matrices by their six numbers against a library's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from scalerl_lab.fit import symmetric

Array = NDArray[np.float64]


def some() -> tuple[Array, Array]:
    """([7, 3, 3] positive definite matrices, [7, 3] vectors)."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(7, 3, 5))
    return half @ half.swapaxes(1, 2), rng.normal(size=(7, 3))


def test_inverse_determinant_and_product_are_those_of_the_matrices() -> None:
    matrices, vectors = some()
    six = symmetric.packed(matrices)
    inverse, determinant = symmetric.inverse(six)
    assert inverse == pytest.approx(symmetric.packed(np.linalg.inv(matrices)), rel=1e-9)
    assert determinant == pytest.approx(np.linalg.det(matrices), rel=1e-9)
    expected = np.einsum("kij,kj->ik", matrices, vectors)
    assert symmetric.times(six, vectors.T) == pytest.approx(expected, rel=1e-9)
    assert symmetric.packed(matrices[0]) == pytest.approx(six[:, :1])


def test_roots_solve_as_those_of_cholesky() -> None:
    matrices, vectors = some()
    root, lower = symmetric.root(symmetric.packed(matrices)), np.linalg.cholesky(matrices)
    upper = lower.swapaxes(1, 2)
    for found, expected in (
        (symmetric.solve_lower(root, vectors.T), np.linalg.solve(lower, vectors[..., None])),
        (symmetric.solve_upper(root, vectors.T), np.linalg.solve(upper, vectors[..., None])),
        (symmetric.times_upper(root, vectors.T), upper @ vectors[..., None]),
    ):
        assert found == pytest.approx(expected[..., 0].T, rel=1e-9, abs=1e-12)
