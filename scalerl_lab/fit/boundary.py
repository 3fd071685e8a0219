"""What training does to the reasoning boundary: does some sample of many reach more problems than before?

Shapes: P problems, K values of k in rising order, D bootstrap draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from scalerl_lab.fit.fitted import interval_of
from scalerl_lab.fit.pass_at_k import drawn_weights
from scalerl_lab.records import Interval

Floats = npt.NDArray[np.float64]


class Regime(StrEnum):
    """ProRL's three regimes (arXiv 2505.24864, analysis of the reasoning boundary)."""

    DIMINISHING = "diminishing"
    """pass@k at the largest k is no higher than before training, whatever pass@1 did."""
    PLATEAU = "plateau"
    """It rose, but all of its rise came in the first half."""
    SUSTAINED = "sustained"
    """It rose, and was still rising in the second half."""
    OPEN = "open"
    """None of the three has the demanded probability."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """pass@k before and after, and the regime that their difference at the largest k speaks for."""

    regime: Regime
    diminishing: float
    """Probability of each regime; the three add up to 1."""
    plateau: float | None
    """None, as ``sustained``, without a measurement between the first and the last."""
    sustained: float | None
    narrower: float
    """Probability that pass@k at the largest k fell by more than the margin."""
    first_gain: Interval
    """After minus before at the smallest k, which is pass@1."""
    last_gain: Interval
    """After minus before at the largest k."""
    late_gain: Interval | None
    """After minus middle at the largest k."""


def boundary(
    before_PK: Floats, middle_PK: Floats | None, after_PK: Floats, *, margin: float, demanded: float
) -> Boundary:
    """The regime of one set of problems.

    With G the gain of mean pass@K from before to after, L its gain from the middle to after, K the
    largest k and m the margin: diminishing where G <= m; else plateau where L <= m; else sustained. Each
    bootstrap draw of problems, the same for all three measurements, falls into one of them; the regime is
    the one that has at least the demanded share of the draws. Without a middle, plateau and sustained
    cannot be told apart.

    Args:
        before_PK: pass@k of each problem before training.
        middle_PK: halfway, of the same problems; None where nothing was measured between.
        after_PK: after training.
        margin: difference of pass@k below which two are taken for equal.
        demanded: probability that a regime needs to be named.

    Worked number: two problems whose pass@K goes from 0 to 0.5 and then 0.5 are a plateau with
    probability 1 at margin 0.02: every draw has G = 0.5 and L = 0.
    """
    weight_DP = drawn_weights(len(before_PK))
    gain_DK = weight_DP @ (after_PK - before_PK)
    last_D = gain_DK[:, -1]
    # Equality within rounding counts as equality: weights times constants are exact only to the last bit.
    wider_D = last_D > margin + 1e-12
    diminishing = 1.0 - float(wider_D.mean())
    plateau = sustained = None
    late_gain = None
    if middle_PK is not None:
        late_D = weight_DP @ (after_PK - middle_PK)[:, -1]
        late_gain = interval_of(late_D)
        sustained = float((wider_D & (late_D > margin + 1e-12)).mean())
        plateau = float(wider_D.mean()) - sustained
    likely = {Regime.DIMINISHING: diminishing, Regime.PLATEAU: plateau, Regime.SUSTAINED: sustained}
    named = [kind for kind, share in likely.items() if share is not None and share >= demanded]
    return Boundary(
        regime=named[0] if named else Regime.OPEN,
        diminishing=diminishing,
        plateau=plateau,
        sustained=sustained,
        narrower=float((last_D < -margin - 1e-12).mean()),
        first_gain=interval_of(gain_DK[:, 0]),
        last_gain=interval_of(last_D),
        late_gain=late_gain,
    )
