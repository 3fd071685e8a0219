"""What a posterior must show before its ceiling is believed, and the sentence where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.identify import Limits, identify, too_few
from scalerl_lab.fit.posterior import Draws
from scalerl_lab.records import FitStatus

NORMAL = stats.norm.ppf((np.arange(1000) + 0.5) / 1000.0)
"""A standard normal; 80 % of it lies within 1.2816."""
HOURS = np.arange(1, 11) * 1000.0


def draws(
    *,
    ceiling: float = 0.6,
    sd: float = 0.01,
    midpoint: float = 2500.0,
    efficiency: float = 2.0,
    edge_mass: float = 0.0,
    scale: float = 1.0,
    unlawful: int = 0,
) -> Draws:
    """A normal ceiling, all else known; the first so many draws are no law's."""
    ones = np.ones(NORMAL.size)
    lawful = np.arange(NORMAL.size) >= unlawful
    return Draws(
        r0=0.4 * scale * ones,
        A=scale * np.minimum(ceiling + sd * NORMAL, 1.0),
        B=efficiency * ones,
        # What is said of a midpoint without the law counts for nothing.
        C_mid=np.where(lawful, midpoint, 1e9),
        sigma=0.005 * scale * ones,
        kind=np.zeros(NORMAL.size, dtype=np.int64),
        lawful=lawful,
        slope=0.0 * ones,
        edge_mass=edge_mass,
    )


def curve(num: int = 10, *, scale: float = 1.0, bounds: tuple[float, float] | None = (0.0, 1.0)) -> Curve:
    """Points from 0.4 to 0.6 up to 10,000."""
    value = scale * np.linspace(0.4, 0.6, HOURS.size)
    return Curve.of("run", HOURS[-num:], value[-num:], bounds=bounds)


def test_a_narrow_ceiling_past_two_midpoints_is_identified() -> None:
    status, why = identify(curve(), draws(), Limits())
    assert status is FitStatus.IDENTIFIED
    # 0.6 -+ 1.2816 * 0.01.
    assert why == (
        "the window ends at 4.0 midpoints, and the ceiling's 80 % interval [0.587, 0.613] is 0.026 wide."
    )


def test_a_window_of_few_midpoints_is_too_short() -> None:
    status, why = identify(curve(), draws(midpoint=6250.0), Limits())
    assert status is FitStatus.NOT_IDENTIFIED
    assert why == (
        "the window ends at 1.6 midpoints, 2 demanded; the ceiling's 80 % interval is [0.587, 0.613]."
    )
    assert identify(curve(), draws(midpoint=5000.0), Limits())[0] is FitStatus.IDENTIFIED
    assert (
        identify(curve(), draws(midpoint=6250.0), Limits(min_window_midpoints=1.5))[0] is FitStatus.IDENTIFIED
    )


def test_a_wide_interval_names_its_width_and_what_is_allowed() -> None:
    status, why = identify(curve(), draws(sd=0.05), Limits())
    assert status is FitStatus.NOT_IDENTIFIED
    assert why == "the ceiling's 80 % interval [0.536, 0.664] is 0.128 wide, at most 0.12 allowed."
    assert identify(curve(), draws(sd=0.046), Limits())[0] is FitStatus.IDENTIFIED
    assert identify(curve(), draws(sd=0.05), Limits(max_ceiling_width=0.2))[0] is FitStatus.IDENTIFIED


def test_widths_of_unbounded_values_are_shares_of_what_was_seen() -> None:
    # Seen: 20; at most 0.12 of that, 2.4; the 80 % interval of a sd of 1 is 2.56.
    free = curve(scale=100.0, bounds=None)
    status, why = identify(free, draws(sd=0.01, scale=100.0), Limits())
    assert status is FitStatus.NOT_IDENTIFIED
    assert "is 2.559 wide, at most 2.4 allowed" in why
    assert identify(free, draws(sd=0.009, scale=100.0), Limits())[0] is FitStatus.IDENTIFIED


def test_a_ceiling_that_only_the_bound_holds_is_not_identified() -> None:
    status, why = identify(curve(), draws(ceiling=1.0, sd=0.02, midpoint=4000.0, efficiency=1.0), Limits())
    assert status is FitStatus.NOT_IDENTIFIED
    # Half lie at 1, and 0.5 sd below it is 0.01: 69 %. At 2.5 midpoints with B = 1 the share of the gain
    # is 5 / 7, and 0.4 + 0.6 * 5 / 7 = 0.829.
    assert why == (
        "with probability 0.69 the ceiling is 1, where only the bound holds it, while the curve is at 0.829."
    )
    near = draws(ceiling=1.0, sd=0.02, midpoint=1000.0, efficiency=1.0)
    assert identify(curve(), near, Limits())[0] is FitStatus.IDENTIFIED


def test_what_the_grid_cut_off_is_not_identified() -> None:
    status, why = identify(curve(), draws(edge_mass=0.06), Limits())
    assert status is FitStatus.NOT_IDENTIFIED
    assert why == (
        "with probability 0.06 the midpoint or the efficiency lies at the edge of what was searched."
    )
    assert identify(curve(), draws(edge_mass=0.05), Limits())[0] is FitStatus.IDENTIFIED


def test_a_curve_that_may_not_be_of_the_law_has_no_ceiling() -> None:
    status, why = identify(curve(), draws(unlawful=210), Limits())
    assert status is FitStatus.NOT_IDENTIFIED
    assert why == (
        "with probability 0.21 the curve is a level or a line in log compute, which has no ceiling."
    )
    assert "probability above 0.99" in identify(curve(), draws(unlawful=1000), Limits())[1]
    # 200 draws without the law are few enough, and their midpoints of 1e9 are not read.
    status, why = identify(curve(), draws(unlawful=200), Limits())
    assert status is FitStatus.IDENTIFIED
    assert why.startswith("the window ends at 4.0 midpoints")


def test_what_bounds_allow_is_at_most_five_times_what_was_seen() -> None:
    # Seen: 0.02, at most 0.12 * 0.1 = 0.012 wide; a sd of 0.001 makes 0.0026, of 0.006 0.0154.
    small = curve(scale=0.1)
    assert identify(small, draws(sd=0.01, scale=0.1), Limits())[0] is FitStatus.IDENTIFIED
    status, why = identify(small, draws(sd=0.06, scale=0.1), Limits())
    assert status is FitStatus.NOT_IDENTIFIED
    assert why == "the ceiling's 80 % interval [0.052, 0.068] is 0.015 wide, at most 0.012 allowed."


@pytest.mark.parametrize(
    ("scale", "range80", "width"),
    [
        # 0.6 -+ 1.2816 * 0.01 in units of the scale.
        (1e-3, "[0.000587, 0.000613]", "0.000026"),
        (1e4, "[5872, 6128]", "256"),
        (1e12, "[5.87e+11, 6.13e+11]", "2.56e+10"),
    ],
)
def test_the_sentence_has_the_digits_of_any_scale(scale: float, range80: str, width: str) -> None:
    status, why = identify(curve(scale=scale, bounds=None), draws(scale=scale), Limits())
    assert status is FitStatus.NOT_IDENTIFIED
    assert f"the ceiling's 80 % interval {range80} is {width} wide" in why


@pytest.mark.parametrize(
    ("num", "sentence"), [(0, "0 points to fit"), (1, "1 point to fit"), (5, "5 points to fit"), (6, None)]
)
def test_few_points_are_counted(num: int, sentence: str | None) -> None:
    found = too_few(num, Limits())
    assert found == (None if sentence is None else f"{sentence}, 6 demanded.")
    status, why = identify(curve(num) if num else curve().between(1e9, None), draws(), Limits())
    assert (status is FitStatus.TOO_FEW_POINTS) == (sentence is not None)
    assert sentence is None or why == found
