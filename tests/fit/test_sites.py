"""What runs say, as normals, against integrals and sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from scalerl_lab.fit import sites
from scalerl_lab.fit.sites import blur, sites_of
from scalerl_lab.fit.symmetric import packed
from tests.fit.populations import (
    BENT,
    OFFSET,
    SCALE,
    UNIT,
    Array,
    correlated,
    table_of,
)


def full(six: Array) -> Array:
    """[3, 3] of the six numbers of a symmetric matrix."""
    a, b, c, d, e, f = six
    return np.array([[a, d, e], [d, b, f], [e, f, c]])


def test_blur_is_the_integral_over_the_scatter_in_one_dimension() -> None:
    p, h, v = np.array([3.0, 0.5, 1e-3]), np.array([1.0, -0.7, 0.02]), np.array([0.4, 2.0, 0.1])
    P, towards, log_const = blur(packed(np.diag(p)), h[:, None], v[:, None])
    for centre in (-1.3, 0.0, 2.0):
        expected = 0.0
        for axis in range(3):

            def inside(x: float, axis: int = axis, centre: float = centre) -> float:
                site = math.exp(-0.5 * p[axis] * x * x + h[axis] * x)
                return site * float(stats.norm.pdf(x, centre, math.sqrt(v[axis])))

            expected += math.log(integrate.quad(inside, centre - 15.0, centre + 15.0, limit=200)[0])
        at = np.full(3, centre)
        assert log_const[0] - 0.5 * P[:3, 0] @ at**2 + towards[:, 0] @ at == pytest.approx(expected, abs=1e-6)


def test_blur_is_the_integral_over_the_scatter_in_three_dimensions() -> None:
    precision, shift = correlated((0.6, 1.0, 1.4), 0.6), np.array([0.5, -0.3, 0.2])
    variance = np.array([[0.2, 0.5, 0.1], [0.02, 1.0, 0.3]])
    P, towards, log_const = blur(packed(precision), shift[:, None], variance.T)
    for row in range(2):
        for centre in (np.array([0.2, -0.1, 0.4]), np.array([-0.8, 0.6, 0.0])):
            z = np.linspace(-7.0, 7.0, 57)
            off = np.stack(np.meshgrid(z, z, z, indexing="ij"), axis=-1).reshape(-1, 3)
            x = centre + off * np.sqrt(variance[row])
            log_site = -0.5 * np.einsum("ni,ij,nj->n", x, precision, x) + x @ shift
            weight = np.exp(-0.5 * (off**2).sum(axis=1)) / (2.0 * math.pi) ** 1.5 * (z[1] - z[0]) ** 3
            expected = math.log(float(np.exp(log_site) @ weight))
            found = log_const[row] - 0.5 * centre @ full(P[:, row]) @ centre + towards[:, row] @ centre
            assert found == pytest.approx(expected, abs=1e-6)


def test_tilted_moments_are_those_of_a_sum_over_cells_and_ceilings() -> None:
    centre, precision = np.array([0.55, 0.6, -0.9]), correlated((0.04, 0.15, 0.3), -0.3)
    mean, covariance = sites._tilted(BENT, UNIT, centre, precision)
    A = np.linspace(0.3, 1.0, 1401)
    theta = np.stack(
        [
            np.broadcast_to(A, (BENT.A.size, A.size)),
            np.broadcast_to(BENT.log_B[:, None], (BENT.A.size, A.size)),
            np.broadcast_to(BENT.log_C[:, None] - math.log(5000.0), (BENT.A.size, A.size)),
        ],
        axis=-1,
    )
    log_weight = BENT.log_weight[:, None] + stats.norm.logpdf(
        2.0 * A, BENT.A[:, None], np.sqrt(BENT.var_A)[:, None]
    )
    log_weight += stats.multivariate_normal(centre, np.linalg.inv(precision)).logpdf(theta)
    weight = np.exp(log_weight - log_weight.max()).ravel()
    weight, flat = weight / weight.sum(), theta.reshape(-1, 3)
    expected = weight @ flat
    off = flat - expected
    within = np.diag([0.0, BENT.step[0] ** 2 / 12.0, BENT.step[1] ** 2 / 12.0])
    assert mean == pytest.approx(expected, abs=1e-9)
    assert covariance == pytest.approx((off.T * weight) @ off + within, abs=1e-9)


@pytest.mark.parametrize("reference", [0, 1])
def test_a_normal_run_has_its_own_normal_as_site_wherever_the_reference_lies(reference: int) -> None:
    sds = (0.06, 0.1, 0.12)
    precision = correlated(sds, 0.5)
    table = table_of((1.2, 0.5, 7.8), precision, shape=(81, 81), half=(0.8, 0.7))
    centre = np.array([[0.6, 0.5, -0.7], [0.58, 0.6, -0.75]])[reference]
    found_sites = sites_of([table], UNIT, centre[None], np.diag([0.05, 0.15, 0.15])[None] ** 2)
    in_unit = precision * np.outer(SCALE, SCALE)
    at = (np.array([1.2, 0.5, 7.8]) - OFFSET) / SCALE
    width = np.sqrt(np.diag(in_unit))
    assert found_sites.precision[0] / np.outer(width, width) == pytest.approx(
        in_unit / np.outer(width, width), abs=0.03
    )
    found = np.linalg.solve(found_sites.precision[0], found_sites.shift[0])
    assert (found - at) * SCALE / sds == pytest.approx(0.0, abs=0.05)


def test_a_run_that_says_nothing_has_a_site_that_says_nothing() -> None:
    flat = table_of((1.0, 0.5, 7.8), np.diag([1e-4, 1e-4, 1e-4]), shape=(60, 60), half=(6.0, 4.0))
    found_sites = sites_of([flat], UNIT, np.array([[0.5, 0.5, -0.7]]), np.diag([0.1, 0.2, 0.3])[None] ** 2)
    assert np.linalg.eigvalsh(found_sites.precision[0]).max() < 0.1
    assert np.linalg.eigvalsh(found_sites.precision[0]).min() > 0.0
