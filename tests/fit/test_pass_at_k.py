"""pass@k against hand-worked numbers and enumeration; its bootstrap against a truth that is known."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalerl_lab.fit import mean_error, mean_interval, pass_at_k, powers_of_two
from scalerl_lab.fit.pass_at_k import drawn_weights


def test_by_hand() -> None:
    # n = 4. c = 2, k = 2: of 6 pairs one has no pass. c = 1, k = 3: of 4 triples one has none.
    found = pass_at_k(4, [0, 1, 2, 4], [1, 2, 3, 4])
    assert found == pytest.approx(
        np.array([[0, 0, 0, 0], [1 / 4, 1 / 2, 3 / 4, 1], [1 / 2, 5 / 6, 1, 1], [1, 1, 1, 1]])
    )


@given(st.integers(1, 7), st.data())
def test_it_is_the_share_of_all_draws_of_k_samples_that_have_a_pass(n: int, data: st.DataObject) -> None:
    passes = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    k = data.draw(st.integers(1, n))
    draws = [any(draw) for draw in combinations(passes, k)]
    assert pass_at_k(n, [sum(passes)], [k])[0, 0] == pytest.approx(sum(draws) / len(draws))


@pytest.mark.parametrize("p", [0.003, 0.2, 0.9])
@pytest.mark.parametrize(("n", "k"), [(4, 2), (16, 16), (256, 100), (256, 256)])
def test_unbiased_over_all_outcomes_where_the_plain_share_is_not(p: float, n: int, k: int) -> None:
    # Expectation over c ~ Binomial(n, p) is exactly 1 - (1 - p)^k.
    chance = np.array([comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)])
    truth = 1 - (1 - p) ** k
    assert float(chance @ pass_at_k(n, range(n + 1), [k])[:, 0]) == pytest.approx(truth, abs=1e-12)
    if k == 2:
        # 1 - (1 - c / n)^k, which is often printed, is not.
        assert abs(float(chance @ (1 - (1 - np.arange(n + 1) / n) ** k)) - truth) > 1e-4


def test_large_numbers_neither_overflow_nor_cancel() -> None:
    exact = 1 - comb(246, 128) / comb(256, 128)
    assert pass_at_k(256, [10], [128])[0, 0] == pytest.approx(exact, rel=1e-12)
    assert pass_at_k(10**6, [1], [1])[0, 0] == pytest.approx(1e-6, rel=1e-9)


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and the 4 samples"):
        pass_at_k(4, [1], [5])
    with pytest.raises(ValueError, match="between 0 and 4 times, got 0 to 5"):
        pass_at_k(4, [0, 5], [1])


def test_the_ks_that_are_told() -> None:
    assert powers_of_two(256) == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    assert powers_of_two(100) == (1, 2, 4, 8, 16, 32, 64, 100)
    assert powers_of_two(1) == (1,)


def test_the_error_of_the_mean_is_what_the_bootstrap_converges_to() -> None:
    value = np.array([0.0, 0.5, 1.0, 1.0, 0.25])
    drawn = drawn_weights(5, 200_000) @ value
    assert float(drawn.std()) == pytest.approx(mean_error(value), rel=0.01)
    # By hand: squared deviations from 0.55 sum to 0.8, over 5 and over 5 again.
    assert mean_error(value) == pytest.approx((0.8 / 25) ** 0.5)
    assert mean_error(value[:1]) is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    # Problems drawn from Beta(0.5, 1.5): E[1 - (1 - p)^8] = 1 - prod over j < 8 of (1.5 + j) / (2 + j).
    truth = 1 - float(np.prod([(1.5 + j) / (2 + j) for j in range(8)]))
    rng = np.random.default_rng(0)
    sets, problems, samples = 400, 80, 16
    held80 = held95 = 0
    for _ in range(sets):
        passed = rng.binomial(samples, rng.beta(0.5, 1.5, problems))
        found = mean_interval(pass_at_k(samples, passed, [8])[:, 0])
        held80 += found.low80 <= truth <= found.high80
        held95 += found.low95 <= truth <= found.high95
    # Four binomial standard errors: 0.08 and 0.044.
    assert held80 / sets == pytest.approx(0.80, abs=0.08)
    assert held95 / sets == pytest.approx(0.95, abs=0.044)
