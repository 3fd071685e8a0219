"""Curves of draws and the compute at which they reach a level, where the law holds and where it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scalerl_lab.fit import (
    ArmDraws,
    Lines,
    drawn_curves,
    drawn_hours,
    fit_posterior,
    fit_siblings,
    log_hours_ratio,
)
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.sweep_fit import _of_arm
from scalerl_lab.records import FitStatus

HOURS = np.linspace(250.0, 8000.0, 32)


def mixed(bounds: tuple[float, float] | None = (0.0, 1.0)) -> ArmDraws:
    """A draw of the law, one that rises by 0.1 per unit of log compute, one that falls, one that rests."""
    lines = Lines(
        np.array([True, False, False, False]),
        np.array([9.0, 0.5, 0.5, 0.5]),
        np.array([9.0, 0.1, -0.1, 0.0]),
        1000.0,
        bounds,
    )
    return ArmDraws(np.full(4, 0.2), np.full(4, 0.6), np.full(4, 1.0), np.full(4, 1000.0), lines)


def test_a_draw_follows_the_law_or_its_line() -> None:
    # The law at 1, 1/3 and 3 midpoints, B = 1: a half, a quarter and three quarters of the gain of 0.4.
    found = drawn_curves(mixed(), [1000.0, 1000.0 / 3.0, 3000.0])
    step = 0.1 * math.log(3.0)
    expected = [
        [0.4, 0.3, 0.5],
        [0.5, 0.5 - step, 0.5 + step],
        [0.5, 0.5 + step, 0.5 - step],
        [0.5, 0.5, 0.5],
    ]
    assert found == pytest.approx(np.array(expected))


def test_lines_stay_within_the_bounds() -> None:
    # 0.5 + 0.1 * 10 is 1.5 at 1,000 e^10.
    far = 1000.0 * math.exp(10.0)
    assert list(drawn_curves(mixed(), far)[1:, 0]) == pytest.approx([1.0, 0.0, 0.5])
    assert list(drawn_curves(mixed(None), far)[1:, 0]) == pytest.approx([1.5, -0.5, 0.5])
    # At compute 0 a line has come from as far below as it can.
    assert list(drawn_curves(mixed(), 0.0)[:, 0]) == pytest.approx([0.2, 0.0, 1.0, 0.5])


def test_the_compute_to_a_level_is_that_of_the_line() -> None:
    # 0.55: the law has (0.55 - 0.2) / 0.4 = 7/8 of its gain at 7 midpoints; the line 0.05 / 0.1 later.
    later = list(drawn_hours(mixed(), 0.55))
    assert later == pytest.approx([7000.0, 1000.0 * math.exp(0.5), math.inf, math.inf])
    # 0.45 was behind the rising line; those that do not rise lie there from the start.
    assert list(drawn_hours(mixed(), 0.45)) == pytest.approx(
        [1000.0 * 5.0 / 3.0, 1000.0 * math.exp(-0.5), 0.0, 0.0]
    )
    assert np.isinf(drawn_hours(mixed(), 1.2)).all()
    assert drawn_hours(mixed(None), 1.2)[1] == pytest.approx(1000.0 * math.exp(7.0))


@pytest.mark.parametrize("r0", [None, 0.3])
@pytest.mark.parametrize("slope", [0.02, 0.05, 0.08])
def test_a_line_in_log_compute_has_no_ceiling(slope: float, r0: float | None) -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.004, HOURS.size)
    value = 0.3 + slope * np.log(HOURS / 250.0) + noise
    known = {} if r0 is None else {"r0": r0, "r0_se": 0.01}
    found = fit_posterior(Curve.of("line", HOURS, value, bounds=(0.0, 1.0), **known))
    assert found.status is FitStatus.NOT_IDENTIFIED
    assert "a line in log compute, which has no ceiling" in found.why


def test_arms_that_are_lines_are_compared_along_their_lines() -> None:
    rng = np.random.default_rng(1)
    slopes = {"control": 0.05, "arm": 0.045}
    curves = [
        Curve.of(
            name,
            HOURS,
            0.3 + slope * np.log(HOURS / 250.0) + rng.normal(0.0, 0.004, HOURS.size),
            r0=0.3,
            r0_se=0.01,
            bounds=(0.0, 1.0),
        )
        for name, slope in slopes.items()
    ]
    found = fit_siblings(curves, list(slopes))
    laws = {}
    for (name, slope), fit in zip(slopes.items(), found.fits, strict=True):
        assert fit.draws is not None
        population = found.arms[name]
        laws[name] = _of_arm(population.A, population.B, population.C_mid, [fit.draws])
        truth = 250.0 * math.exp(0.12 / slope)
        assert np.median(drawn_hours(laws[name], 0.42)) == pytest.approx(truth, rel=0.03)
        assert np.median(drawn_curves(laws[name], 8000.0)) == pytest.approx(
            0.3 + slope * math.log(32.0), abs=0.004
        )
    ratio = log_hours_ratio(drawn_hours(laws["arm"], 0.42), drawn_hours(laws["control"], 0.42))
    assert ratio is not None
    # 0.12 / 0.045 - 0.12 / 0.05 = 0.2667.
    assert ratio.interval.low95 <= 0.2667 <= ratio.interval.high95
    assert ratio.interval.low95 > 0.15
