"""Shapes: curves drawn to be of one kind are named so, and law curves are not named otherwise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalerl_lab.fit import pass_rate
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.rises import MOST_POINTS, describe, thinned
from scalerl_lab.fit.shape import blocks_identification, recognise
from scalerl_lab.records import Shape
from tests.fit.curves import GOLDEN_HOURS, GOLDEN_RATES, correlated_noise

NUM = 60
X = np.arange(1, NUM + 1) / NUM


def drawn(level: np.ndarray, seed: int, *, sd: float = 0.0045, correlation: float = 0.3) -> Curve:
    noise = correlated_noise(np.random.default_rng(seed), level.size, sd, correlation)
    return Curve.of("run", 257.0 * np.arange(1, level.size + 1), level + noise)


def names(level: np.ndarray, runs: int = 10, **options: float) -> Counter[Shape]:
    return Counter(recognise(drawn(level, seed, **options))[0] for seed in range(runs))


FLAT = np.full(NUM, 0.5)
LINEAR = 0.4 + 0.08 * X
LATE = 0.4 + 0.08 * np.clip((X - 0.7) / 0.3, 0.0, None)
TWO_PHASE = pass_rate(X, 0.4, 0.47, 4.0, 0.1) + pass_rate(X, 0.0, 0.08, 12.0, 0.65)
COLLAPSING = pass_rate(X, 0.4, 0.48, 2.0, 0.1) - 0.03 * np.clip((X - 0.6) / 0.2, 0.0, 1.0)
WANDERING = pass_rate(X, 0.4, 0.52, 2.0, 0.15) + 0.018 * np.sin(14.0 * X)
SATURATED = pass_rate(X, 0.4, 0.61, 1.92, 0.15)


@pytest.mark.parametrize("correlation", [0.3, 0.6])
@pytest.mark.parametrize(
    ("level", "shape"),
    [
        (FLAT, Shape.FLAT),
        (LINEAR, Shape.LINEAR),
        (LATE, Shape.LATE_BLOOMING),
        (TWO_PHASE, Shape.TWO_PHASE),
        (COLLAPSING, Shape.COLLAPSING),
        (WANDERING, Shape.WANDERING),
        (SATURATED, Shape.LAW),
    ],
)
def test_every_shape_is_recognised(level: np.ndarray, shape: Shape, correlation: float) -> None:
    found = names(level, correlation=correlation)
    assert found[shape] >= (6 if shape is Shape.LINEAR and correlation > 0.5 else 8)
    # What is not recognised is mostly left to the law.
    assert found[shape] + found[Shape.LAW] >= 9


@pytest.mark.parametrize("share", [0.35, 0.5, 1.0])
@pytest.mark.parametrize("correlation", [0.3, 0.6])
def test_published_laws_are_laws(share: float, correlation: float) -> None:
    hours = 257.0 * np.arange(1, int(62 * share) + 1)
    for A, B, C_mid in (
        (0.61, 1.92, 2542.0),
        (0.605, 1.89, 3409.0),
        (0.59, 2.09, 2463.0),
        (0.49, 1.17, 1735.0),
    ):
        found = names(pass_rate(hours, 0.4, A, B, C_mid), correlation=correlation)
        assert found == {Shape.LAW: 10}


def test_the_golden_run_and_its_fitted_half_are_laws() -> None:
    for num in (22, 32):
        golden = Curve.of("ScaleRL", GOLDEN_HOURS[:num], GOLDEN_RATES[:num], r0=0.4)
        assert recognise(golden)[0] is Shape.LAW


def test_few_points_are_the_laws_unless_their_errors_show_them_flat() -> None:
    values = np.array([0.50, 0.503, 0.498, 0.501, 0.499])
    hours = np.arange(1, 6)
    assert recognise(Curve.of("run", hours, values))[0] is Shape.LAW
    assert recognise(Curve.of("run", hours, values, se=[0.003] * 5))[0] is Shape.FLAT
    assert recognise(Curve.of("run", hours, values + 0.01 * hours, se=[0.003] * 5))[0] is Shape.LAW
    assert recognise(Curve.of("run", hours[:3], values[:3], se=[0.003] * 3))[0] is Shape.LAW
    assert recognise(Curve.of("run", [], [])) == (
        Shape.LAW,
        "0 points are too few to tell another shape from the law.",
    )


def test_equal_values_and_straight_lines_without_noise() -> None:
    hours = np.arange(1, 31)
    assert recognise(Curve.of("run", hours, np.full(30, 0.5))) == (Shape.FLAT, "All 30 values are equal.")
    assert recognise(Curve.of("run", hours, 0.25 * hours))[0] is Shape.LINEAR
    assert recognise(Curve.of("run", hours, -0.25 * hours))[0] in (Shape.COLLAPSING, Shape.FLAT)
    exact = Curve.of("run", hours, pass_rate(hours, 0.4, 0.61, 1.92, 6.0))
    assert recognise(exact)[0] is Shape.LAW


def test_reasons_have_the_numbers_in_them() -> None:
    shape, why = recognise(drawn(COLLAPSING, 0))
    assert shape is Shape.COLLAPSING
    assert why.startswith("Fell from 0.4")
    assert "standard deviations" in why
    shape, why = recognise(drawn(TWO_PHASE, 0))
    assert shape is Shape.TWO_PHASE
    assert why.startswith("Rises by 0.0")
    for level in (FLAT, LINEAR, LATE, WANDERING, SATURATED):
        _, why = recognise(drawn(level, 0))
        assert why.endswith(".")
        assert any(character.isdigit() for character in why)


def test_residuals_of_the_fitted_law_are_what_wanders() -> None:
    run = drawn(SATURATED, 1)
    residuals = run.value - SATURATED
    assert recognise(run, residuals)[0] is Shape.LAW
    shape, why = recognise(run, residuals + 0.03 * np.sin(8.0 * X))
    assert shape is Shape.WANDERING
    assert "wander by 0.02" in why


def test_one_outlier_changes_no_name() -> None:
    for level, shape in ((SATURATED, Shape.LAW), (FLAT, Shape.FLAT), (TWO_PHASE, Shape.TWO_PHASE)):
        for place, size in ((30, 0.2), (30, -0.2), (-1, 0.2), (-1, -0.2), (-2, -0.2)):
            spoiled = level.copy()
            spoiled[place] += size
            assert names(spoiled, runs=3)[shape] == 3, (shape, place, size)


def test_only_the_law_and_what_wanders_about_it_have_a_ceiling_to_believe() -> None:
    assert {shape for shape in Shape if not blocks_identification(shape)} == {Shape.LAW, Shape.WANDERING}


def test_long_curves_are_thinned_to_means() -> None:
    hours, values = thinned(np.arange(1.0, 5.0), np.arange(4.0))
    assert values.tolist() == [0.0, 1.0, 2.0, 3.0]
    hours, values = thinned(np.arange(1.0, 162.0), np.arange(161.0))
    # Three each, the last two by themselves.
    assert values.size == 54 <= MOST_POINTS
    assert (hours[0], values[0], values[-1]) == (2.0, 1.0, 159.5)
    assert names(np.repeat(TWO_PHASE, 12), runs=2)[Shape.TWO_PHASE] == 2


def test_descriptions_are_least_squares() -> None:
    rng = np.random.default_rng(0)
    hours = np.arange(1.0, 31.0)
    values = 0.3 + 0.01 * hours + 0.02 * rng.normal(size=30)
    found = describe(hours, values, with_pairs=True)
    slope, start = np.polyfit(hours, values, 1)
    # Of noise without correlation the best correlation is about 0; then it is the ordinary line.
    assert found.line.mean == pytest.approx(start + slope * hours, abs=2e-3)
    assert found.line.deviance >= found.unbent.deviance >= found.one_rise.deviance
    assert found.constant > found.line.deviance
    falling = describe(hours, -values, with_pairs=True)
    # Rises only: what falls is a constant, whatever the noise.
    assert falling.constant - falling.one_rise.deviance < 5.0


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([FLAT, LINEAR, LATE, TWO_PHASE, COLLAPSING, WANDERING, SATURATED]),
    st.integers(0, 1000),
    st.floats(1e-6, 1e9),
    st.floats(0.01, 1e4),
)
def test_neither_units_nor_order_matter(level: np.ndarray, seed: int, unit: float, scale: float) -> None:
    run = drawn(level, seed)
    order = np.random.default_rng(seed).permutation(run.value.size)
    other = Curve.of("run", (unit * run.compute)[order], (scale * (run.value - 0.3))[order])
    assert recognise(other)[0] is recognise(run)[0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1e-9, 1e6, -3.0]), max_size=40), st.booleans())
def test_any_points_have_a_shape_and_a_reason(values: list[float], with_errors: bool) -> None:
    run = Curve.of(
        "run", np.arange(len(values)), values, se=[0.1] * len(values) if with_errors and values else None
    )
    shape, why = recognise(run)
    assert isinstance(shape, Shape)
    assert why.endswith(".")
    assert "nan" not in why
