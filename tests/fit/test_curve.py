"""Curves built from points in any order and state."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.fit.curve import Curve, natural_bounds

FINITE = st.floats(-1e100, 1e100)


def same(one: Curve, other: Curve) -> None:
    """Both hold the same numbers but for the rounding of sums."""
    assert one.name == other.name
    np.testing.assert_array_equal(one.compute, other.compute)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-12)
    assert (one.se is None) == (other.se is None)
    if one.se is not None and other.se is not None:
        np.testing.assert_allclose(one.se, other.se, rtol=1e-12)
    assert (one.r0, one.r0_se, one.bounds) == (other.r0, other.r0_se, other.bounds)


def test_points_are_ordered_and_keep_their_errors() -> None:
    curve = Curve.of("run", [3.0, 1.0, 2.0], [0.3, 0.1, 0.2], se=[0.03, 0.01, 0.02], bounds=(0.0, 1.0))
    assert curve.compute.tolist() == [1.0, 2.0, 3.0]
    assert curve.value.tolist() == [0.1, 0.2, 0.3]
    assert curve.se is not None
    assert curve.se.tolist() == [0.01, 0.02, 0.03]
    assert (curve.name, curve.r0, curve.r0_se, curve.bounds) == ("run", None, None, (0.0, 1.0))


def test_points_at_one_compute_are_averaged_with_the_error_of_a_mean() -> None:
    curve = Curve.of("run", [2.0, 1.0, 2.0, 2.0], [0.5, 0.1, 0.2, 0.8], se=[0.03, 0.01, 0.04, 0.12])
    assert curve.compute.tolist() == [1.0, 2.0]
    assert curve.value == pytest.approx([0.1, 0.5])
    assert curve.se is not None
    # sqrt(0.03^2 + 0.04^2 + 0.12^2) / 3 = 0.13 / 3.
    assert curve.se == pytest.approx([0.01, 0.13 / 3.0])


def test_points_at_0_are_the_start() -> None:
    curve = Curve.of("run", [0.0, 5.0, 0.0], [0.1, 0.9, 0.3], se=[0.03, 0.01, 0.04])
    assert curve.compute.tolist() == [5.0]
    assert curve.r0 == pytest.approx(0.2)
    # sqrt(0.03^2 + 0.04^2) / 2: the error of a mean of two.
    assert curve.r0_se == pytest.approx(0.025)
    assert Curve.of("run", [0.0, 5.0], [0.1, 0.9]).r0_se is None


def test_a_start_that_is_given_is_kept() -> None:
    curve = Curve.of("run", [0.0, 5.0], [0.1, 0.9], se=[0.03, 0.01], r0=0.4)
    assert (curve.r0, curve.r0_se) == (0.4, None)
    curve = Curve.of("run", [0.0, 5.0], [0.1, 0.9], se=[0.03, 0.01], r0=0.4, r0_se=0.0)
    assert (curve.r0, curve.r0_se) == (0.4, 0.0)
    assert Curve.of("run", [0.0, 5.0], [0.1, 0.9], se=[0.03, 0.01], r0_se=0.2).r0_se == 0.2


def test_points_that_are_no_numbers_are_left_out() -> None:
    nan, inf = math.nan, math.inf
    curve = Curve.of(
        "run",
        [1.0, nan, 2.0, inf, 3.0, -inf, nan],
        [0.1, 0.2, nan, 0.4, 0.5, 0.6, nan],
        se=[0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07],
    )
    same(curve, Curve.of("run", [1.0, 3.0], [0.1, 0.5], se=[0.01, 0.05]))


def test_errors_that_are_none_become_the_median_of_the_others() -> None:
    curve = Curve.of(
        "run", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], np.zeros(6), se=[0.0, 1.0, math.nan, 2.0, 9.0, -1]
    )
    assert curve.se is not None
    assert curve.se.tolist() == [2.0, 1.0, 2.0, 2.0, 9.0, 2.0]
    assert Curve.of("run", [1.0, 2.0], [0.0, 0.0], se=[0.0, math.inf]).se is None


def test_a_start_that_is_no_number_is_unknown() -> None:
    assert Curve.of("run", [1.0, 2.0], [0.1, 0.2], r0=math.nan).r0 is None


def test_values_beyond_the_bounds_widen_them() -> None:
    assert Curve.of("run", [1.0, 2.0], [0.1, 1.2], bounds=(0.0, 1.0)).bounds == (0.0, 1.2)
    assert Curve.of("run", [1.0], [0.1], r0=-3.0, bounds=(0.0, 1.0)).bounds == (-3.0, 1.0)
    assert Curve.of("run", [0.0, 1.0], [7.0, 0.1], bounds=(0.0, 1.0)).bounds == (0.0, 7.0)
    assert Curve.of("run", [1.0, 2.0], [0.1, math.inf], bounds=(0.0, 1.0)).bounds == (0.0, 1.0)
    assert Curve.of("run", [1.0], [5.0]).bounds is None


def test_no_points_are_a_curve() -> None:
    curve = Curve.of("run", [], [], se=[])
    assert curve.compute.size == curve.value.size == 0
    assert curve.se is None
    only_start = Curve.of("run", [0.0], [0.4], se=[0.01])
    assert (only_start.compute.size, only_start.r0, only_start.r0_se) == (0, 0.4, 0.01)


@pytest.mark.parametrize(
    ("compute", "value", "se", "bounds", "why"),
    [
        ([1.0, 2.0], [0.1], None, None, "same length"),
        ([1.0, 2.0], [0.1, 0.2], [0.1], None, "same length"),
        ([1.0, -2.0], [0.1, 0.2], None, None, "negative"),
        ([1.0], [0.1], None, (1.0, 1.0), "lower bound 1.0 is not below the upper one 1.0"),
        ([1.0], [0.1], None, (math.nan, 1.0), "not below"),
    ],
)
def test_what_is_no_curve_is_refused(
    compute: list[float],
    value: list[float],
    se: list[float] | None,
    bounds: tuple[float, float] | None,
    why: str,
) -> None:
    with pytest.raises(ValueError, match=why):
        Curve.of("run", compute, value, se=se, bounds=bounds)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            # Few computes, so that some are equal.
            st.sampled_from([0.0, 1e-9, 1.0, 2.0, 3.0, 1e30]),
            st.one_of(FINITE, st.sampled_from([math.nan, math.inf])),
            st.one_of(st.floats(1e-50, 1e50), st.sampled_from([0.0, math.nan])),
        ),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_points_is_immaterial(rows: list[tuple[float, float, float]], random: object) -> None:
    def of(points: list[tuple[float, float, float]]) -> Curve:
        compute, value, se = (
            (list(column) for column in zip(*points, strict=True)) if points else ([], [], [])
        )
        return Curve.of("run", compute, value, se=se)

    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = of(rows), of(shuffled)
    np.testing.assert_array_equal(one.compute, other.compute)
    largest = max([abs(v) for _, v, _ in rows if math.isfinite(v)], default=1.0)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-9, atol=1e-9 * largest)
    assert (one.se is None) == (other.se is None)
    if one.se is not None and other.se is not None:
        np.testing.assert_allclose(one.se, other.se, rtol=1e-9)
    assert np.all(np.diff(one.compute) > 0.0)
    assert np.all(one.compute > 0.0)
    assert np.all(np.isfinite(one.value))
    assert one.se is None or (np.all(np.isfinite(one.se)) and np.all(one.se > 0.0))


def test_a_part_keeps_its_ends_and_the_start() -> None:
    curve = Curve.of(
        "run",
        [0.0, 1.0, 2.0, 3.0, 4.0],
        [0.0, 0.1, 0.2, 0.3, 0.4],
        se=[0.5, 0.1, 0.2, 0.3, 0.4],
        bounds=(0, 1),
    )
    same(
        curve.between(2.0, 3.0),
        Curve.of("run", [2.0, 3.0], [0.2, 0.3], se=[0.2, 0.3], r0=0.0, r0_se=0.5, bounds=(0, 1)),
    )
    assert curve.between(2.0, None).compute.tolist() == [2.0, 3.0, 4.0]
    assert curve.between(None, 2.0).compute.tolist() == [1.0, 2.0]
    same(curve.between(None, None), curve)
    empty = curve.between(9.0, None)
    assert (empty.compute.size, empty.r0) == (0, 0.0)
    assert Curve.of("run", [1.0, 2.0], [0.1, 0.2]).between(2.0, 2.0).se is None


@pytest.mark.parametrize(
    ("value", "r0", "inside"),
    [
        ([0.0, 1.0], None, True),
        ([0.5], 0.0, True),
        ([0.5, 1.0001], None, False),
        ([-0.0001], None, False),
        ([0.5], 1.5, False),
        ([], None, True),
    ],
)
def test_values_between_0_and_1_are_bounded_by_them(
    value: list[float], r0: float | None, inside: bool
) -> None:
    curve = Curve.of("run", np.arange(1.0, len(value) + 1.0), value, r0=r0)
    assert natural_bounds([curve]) == ((0.0, 1.0) if inside else None)


def test_one_curve_outside_frees_all() -> None:
    inside, outside = Curve.of("a", [1.0], [0.5]), Curve.of("b", [1.0], [2.0])
    assert natural_bounds([inside, inside]) == (0.0, 1.0)
    assert natural_bounds([inside, outside]) is None
    assert natural_bounds([]) == (0.0, 1.0)
