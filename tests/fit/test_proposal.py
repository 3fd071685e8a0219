"""Proposed populations weighted against closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from scalerl_lab.fit import proposal
from scalerl_lab.fit.proposal import Bell, propose, search
from scalerl_lab.fit.sites import Sites
from tests.fit.populations import (
    CASES,
    SEED_LOG_SD,
    SEED_SPREAD,
    SPREAD_COVARIANCE,
    SPREAD_MEDIAN,
    Array,
    normal_sites,
)


def log_singles(sites: Sites, coordinates: Array) -> Array:
    """[K] log evidence of normal runs, each alone in its arm, given the population, in the unit."""
    at = np.linalg.solve(sites.precision, sites.shift[..., None])[..., 0]
    spread, seed = np.exp(2.0 * coordinates[:, 3:6]), (np.exp(coordinates[:, 6:]) * SEED_SPREAD) ** 2
    total = np.zeros(coordinates.shape[0])
    for centre, own in zip(at, np.linalg.inv(sites.precision), strict=True):
        kinds = []
        for factors, share in CASES:
            covariance = own + np.einsum("ki,ij->kij", factors * spread + seed, np.eye(3))
            off = coordinates[:, :3] - centre
            misfit = np.einsum("ki,ki->k", off, np.linalg.solve(covariance, off[..., None])[..., 0])
            kinds.append(math.log(share) - 0.5 * (misfit + np.linalg.slogdet(covariance)[1]))
        total += logsumexp(kinds, axis=0)
    return total


def log_mean_prior(coordinates: Array, level: tuple[float, float]) -> Array:
    """[K] the normal priors of mu that a proposal counts."""
    prior_mean, prior_sd = [level[0], math.log(1.85), math.log(0.5)], [level[1], 0.35, 1.3]
    density: Array = stats.norm.logpdf(coordinates[:, :3], prior_mean, prior_sd).sum(axis=1)
    return density


def weighted(sites: Sites, num: int, level: tuple[float, float]) -> tuple[Array, Array]:
    """(coordinates, weights) of proposals, weighted by the exact marginal of normal runs."""
    proposed = propose(sites, np.arange(len(sites.shift)), num, 1, level)
    log_weight = log_singles(sites, proposed.coordinates) + log_mean_prior(proposed.coordinates, level)
    log_weight -= proposed.log_density
    weight = np.exp(log_weight - log_weight.max())
    return proposed.coordinates, weight / weight.sum()


def test_with_known_spreads_proposals_weigh_to_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposal, "SPREAD_ROOT", 1e-6 * np.eye(3))
    monkeypatch.setattr(proposal, "SEED_LOG_SD", 1e-6)
    monkeypatch.setattr(proposal, "CASE_LOG_WEIGHTS", np.log([1.0, 1e-12, 1e-12]))
    sites, level = normal_sites(4), (0.5, 0.35)
    proposed = propose(sites, np.arange(4), 2048, 1, level)
    at = np.linalg.solve(sites.precision, sites.shift[..., None])[..., 0]
    # Normal throughout: precisions add.
    prior = np.diag(np.array([0.35, 0.35, 1.3]) ** -2.0)
    precision, pull = prior.copy(), prior @ np.array([0.5, math.log(1.85), math.log(0.5)])
    for own, centre in zip(np.linalg.inv(sites.precision), at, strict=True):
        inverse = np.linalg.inv(own + np.diag(SPREAD_MEDIAN**2 + SEED_SPREAD**2))
        precision, pull = precision + inverse, pull + inverse @ centre
    covariance = np.linalg.inv(precision)
    mean = covariance @ pull
    mu = proposed.coordinates[:, :3]
    log_weight = stats.multivariate_normal(mean, covariance).logpdf(mu) - proposed.log_density
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    sd = np.sqrt(np.diag(covariance))
    found = weight @ mu
    assert (found - mean) / sd == pytest.approx(0.0, abs=0.04)
    off = (mu - found) / sd
    assert (off.T * weight) @ off == pytest.approx(covariance / np.outer(sd, sd), abs=0.06)
    # Heavier tails than the target, and no worse.
    assert 1.0 / (weight**2).sum() > 0.6 * weight.size
    assert log_weight.max() - np.median(log_weight) < 2.0


@pytest.mark.parametrize("odd", [False, True])
def test_proposals_weigh_to_the_posterior_of_a_chain_free_sum(odd: bool) -> None:
    sites, level = normal_sites(6), (0.5, 0.35)
    if odd:
        sites.shift[2] += sites.precision[2] @ np.array([-0.2, 0.0, 0.6])
    coordinates, weight = weighted(sites, 4096, level)
    # Brute force: spreads from their prior, mu from a wide normal.
    rng, num = np.random.default_rng(2), 150_000
    wide = stats.multivariate_normal(np.log(SPREAD_MEDIAN), SPREAD_COVARIANCE)
    brute = np.empty((num, 7))
    centre, width = np.array([0.57, 0.6, -0.75]), np.array([0.03, 0.12, 0.2])
    brute[:, :3] = centre + width * rng.standard_normal((num, 3))
    brute[:, 3:6] = wide.rvs(num, random_state=rng)
    brute[:, 6] = SEED_LOG_SD * rng.standard_normal(num)
    log_weight = log_singles(sites, brute) + log_mean_prior(brute, level)
    log_weight -= stats.norm.logpdf(brute[:, :3], centre, width).sum(axis=1)
    exact = np.exp(log_weight - log_weight.max())
    exact /= exact.sum()
    assert 1.0 / (exact**2).sum() > 3000.0
    mean, sd = exact @ brute, np.sqrt(exact @ brute**2 - (exact @ brute) ** 2)
    found = weight @ coordinates
    assert (found - mean) / sd == pytest.approx(0.0, abs=0.1)
    spread = np.sqrt(weight @ coordinates**2 - found**2)
    assert spread / sd == pytest.approx(1.0, abs=0.12)
    assert 1.0 / (weight**2).sum() > 0.25 * weight.size


def test_an_odd_arm_hardly_moves_the_proposed_population() -> None:
    level = (0.5, 0.35)
    plain, moved = normal_sites(8, (0.004, 0.05, 0.08)), normal_sites(8, (0.004, 0.05, 0.08))
    moved.shift[3] += moved.precision[3] @ np.array([-0.15, 0.0, 0.0])
    found = [weighted(sites, 1024, level) for sites in (plain, moved)]
    mean = [weight @ coordinates for coordinates, weight in found]
    assert mean[0][0] - mean[1][0] == pytest.approx(0.0, abs=0.015)
    assert math.exp(mean[1][3] - mean[0][3]) < 1.6


def test_a_bell_is_the_widened_normal_of_weighted_populations() -> None:
    rng = np.random.default_rng(6)
    coordinates, weight = rng.normal(size=(400, 7)) @ rng.normal(size=(7, 7)), rng.random(400)
    weight /= weight.sum()
    bell = Bell.around(coordinates, weight, 1.7)
    covariance = 1.7 * np.cov(coordinates.T, aweights=weight, ddof=0)
    assert bell.centre == pytest.approx(weight @ coordinates)
    assert bell.root @ bell.root.T == pytest.approx(covariance, abs=0.01)
    drawn = bell.draw(4096, 3)
    sd = np.sqrt(np.diag(covariance))
    assert np.cov(drawn.T) / np.outer(sd, sd) == pytest.approx(covariance / np.outer(sd, sd), abs=0.03)
    exact = stats.multivariate_normal(bell.centre, bell.root @ bell.root.T).logpdf(drawn[:20])
    assert np.diff(bell.log_density(drawn[:20])) == pytest.approx(np.diff(exact), abs=1e-8)


def test_a_search_fills_its_box() -> None:
    low, high = np.array([0.2, -0.5, -2.0]), np.array([0.9, 1.5, 1.0])
    found = search(low, high, 512)
    assert np.all((found[:, :3] >= low) & (found[:, :3] <= high))
    assert found[:, :3].mean(axis=0) == pytest.approx(0.5 * (low + high), abs=0.01)
    assert np.ptp(found[:, :3], axis=0) == pytest.approx(high - low, rel=0.02)
