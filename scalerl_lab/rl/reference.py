"""The reference policy of the KL: whose weights it has, and when it is moved to the policy's.

Triggers are rows of one table; each answers whether what was just seen calls for a reset. Two moments are
looked at: after the steps on a rollout (``every_steps``, ``kl_above``) and after an evaluation on schedule
(``stalled_points``). Evaluations off schedule are not, so that hours granted in parts change nothing. After
a hard reset the KL of the next tokens that are scored is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from scalerl_lab.config.objective import Reference


class Seen(NamedTuple):
    """What triggers look at."""

    from_step: int
    """Optimiser steps before what was just done."""
    to_step: int
    """And after it; the same at an evaluation."""
    kl: float | None = None
    """Mean log-ratio to the reference over the tokens of the last step; None where none was trained on."""
    stalled: int | None = None
    """Scheduled evaluations on end without a new best pass rate; None but at an evaluation."""


def every_steps(limit: int, seen: Seen) -> bool:
    """Whether a multiple of so many optimiser steps was just reached or passed.

    Worked number: every 400 steps, from step 392 to 408 (a rollout of 16): reset at 408.
    Source: DeepSeek-R1 (arXiv 2501.12948): every 400 steps; ProRL v2: every 200 to 500.
    """
    return seen.to_step // limit > seen.from_step // limit


def kl_above(limit: float, seen: Seen) -> bool:
    """Whether the policy has gone further from the reference than allowed.

    Worked number: limit 0.1: a mean log-ratio of 0.12 resets, one of 0.1 does not.
    Source: ProRL v2's text ("KL spike"), without a number; 0.1 in a public re-implementation on verl.
    """
    return seen.kl is not None and seen.kl > limit


def stalled_points(limit: int, seen: Seen) -> bool:
    """Whether so many scheduled evaluations on end have brought no new best.

    Worked number: limit 2, pass rates 0.3, 0.5, 0.5, 0.4: reset after the fourth.
    Source: ProRL v1 (arXiv 2505.24864): validation "stagnates or degrades", without a number.
    """
    return seen.stalled is not None and seen.stalled >= limit


RESET_TRIGGERS: Mapping[str, Callable[[Any, Seen], bool]] = MappingProxyType(
    {"every_steps": every_steps, "kl_above": kl_above, "stalled_points": stalled_points}
)
"""Field of a recipe's ``reference`` -> (its value, what was seen) -> whether to reset."""


@dataclass(slots=True)
class ResetState:
    """What triggers remember; part of every checkpoint."""

    best: float | None = None
    """Best pass rate at a scheduled evaluation so far."""
    stalled: int = 0
    """Scheduled evaluations since then, or since the last reset."""
    resets: int = 0
    """Resets so far."""

    def measured(self, pass_rate: float) -> None:
        """Take note of a scheduled evaluation."""
        if self.best is None or pass_rate > self.best:
            self.best, self.stalled = pass_rate, 0
        else:
            self.stalled += 1

    def asks(self, cfg: Reference, seen: Seen) -> bool:
        """Whether any trigger fires; then the reset is counted and the wait for a new best starts over."""
        limits = {name: getattr(cfg, name) for name in RESET_TRIGGERS}
        fired = any(RESET_TRIGGERS[name](limit, seen) for name, limit in limits.items() if limit is not None)
        if fired:
            self.resets += 1
            self.stalled = 0
        return fired

    def state(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)
