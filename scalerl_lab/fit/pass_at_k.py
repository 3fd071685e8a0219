"""pass@k of problems sampled n times each, and its error by bootstrap over the problems.

Shapes: P problems, K values of k, D bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from scalerl_lab.fit.fitted import interval_of
from scalerl_lab.records import Interval

Floats = npt.NDArray[np.float64]

NUM_DRAWS = 2000


def powers_of_two(max_k: int) -> tuple[int, ...]:
    """The k at which pass@k is told: 1, 2, 4 .. and the largest itself."""
    below = [1 << place for place in range(max_k.bit_length()) if 1 << place < max_k]
    return (*below, max_k)


def pass_at_k(samples: int, passed_P: Sequence[int], ks: Sequence[int]) -> Floats:
    """Probability that at least one of k samples passes, for each problem, without bias: [P, K].

    1 - C(n - c, k) / C(n, k) = 1 - prod over i from n - c + 1 to n of (1 - k / i), with n samples of
    which c passed. The product neither overflows nor cancels.

    Args:
        samples: n, the same for every problem.
        passed_P: c of each problem.
        ks: each from 1 to n.

    Raises:
        ValueError: a k or a count lies outside its range.

    Source: Chen et al. 2021 (arXiv 2107.03374), section 2.1 and its numpy script.
    Worked number: n = 4, c = 2, k = 2: 1 - C(2, 2) / C(4, 2) = 5 / 6.
    """
    passed = np.asarray(passed_P, dtype=np.int64)
    if not ks or min(ks) < 1 or max(ks) > samples:
        raise ValueError(f"k must lie between 1 and the {samples} samples of a problem, got {list(ks)}")
    if passed.size and not 0 <= passed.min() <= passed.max() <= samples:
        raise ValueError(
            f"a problem passes between 0 and {samples} times, got {passed.min()} to {passed.max()}"
        )
    descending = np.arange(samples, 0, -1, dtype=np.float64)
    # From i = k on downwards the factor is 0: fewer than k samples failed, so every draw of k has a pass.
    factor_NK = np.maximum(0.0, 1.0 - np.asarray(ks, dtype=np.float64) / descending[:, None])
    missed_CK = np.vstack([np.ones(len(ks)), np.cumprod(factor_NK, axis=0)])
    return np.asarray(1.0 - missed_CK[passed])


@lru_cache(maxsize=8)
def drawn_weights(num_problems: int, num_draws: int = NUM_DRAWS) -> Floats:
    """Weights of the problems in each bootstrap draw, the same ones for the same number: [D, P].

    A problem drawn m times of P has weight m / P, so that weights times values are means. Measurements of
    the same problems share one draw: their difference is then paired.
    """
    rng = np.random.default_rng([num_problems, 20251])
    counts = rng.multinomial(num_problems, np.full(num_problems, 1.0 / num_problems), size=num_draws)
    weight_DP = np.asarray(counts / num_problems)
    weight_DP.setflags(write=False)
    return weight_DP


def mean_interval(value_P: Floats) -> Interval:
    """Interval of the mean over problems by percentile bootstrap; needs at least one problem."""
    return interval_of(drawn_weights(len(value_P)) @ value_P)


def mean_error(value_P: Floats) -> float | None:
    """Standard error of the mean over problems, as the bootstrap converges to it; None for one problem."""
    if len(value_P) < 2:
        return None
    return float(np.std(value_P) / np.sqrt(len(value_P)))
