"""Off-policy schedules: which batches are in flight when, and how far each is written.

Batches are numbered by the optimiser step that consumes them, from 0. Before step s the weights are of
version s (s steps have been taken). A token's lag is s minus the version that wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Protocol

from scalerl_lab.config.sampling import OffPolicy, Pipeline, PPOOffPolicy, Sync


class Schedule(Protocol):
    """What a row of the table answers."""

    def num_blocks(self, cfg: Any) -> int:
        """Batches in flight at once, the one to be consumed included."""
        ...

    def last_batch(self, cfg: Any, step: int) -> int:
        """Batches up to this one are in flight before step ``step``."""
        ...

    def share(self, cfg: Any, step: int, batch: int) -> Fraction:
        """Share of the response limit that a batch must have reached before step ``step``."""
        ...

    def rollouts_per_policy(self, cfg: Any) -> int:
        """Batches that are generated together, and so share the trainer's old policy."""
        ...


class InFlight:
    """Generation never drains: max_lag batches are in flight across every update, with new weights each time.

    Before step s, batch b has reached the share 1 - (b - s) / (max_lag + 1) of the limit; so every batch
    is written in max_lag + 1 equal parts, each under the newest weights, and its oldest token has a lag of
    max_lag when it is consumed. The pipeline is filled under the first weights.
    Worked number: max_lag 3, limit 20, step 0: batches 0, 1, 2, 3 are written up to 20, 15, 10, 5 tokens.
    Source: PipelineRL (arXiv 2509.19128); ScaleRL section 3.1 (k = 8, stale KV kept).
    """

    def num_blocks(self, cfg: Pipeline) -> int:
        """max_lag and the one consumed."""
        return cfg.max_lag + 1

    def last_batch(self, cfg: Pipeline, step: int) -> int:
        """max_lag steps ahead."""
        return step + cfg.max_lag

    def share(self, cfg: Pipeline, step: int, batch: int) -> Fraction:
        """Equal parts, one before every step."""
        return 1 - Fraction(batch - step, cfg.max_lag + 1)

    def rollouts_per_policy(self, cfg: Pipeline) -> int:
        """One: every batch is written by many policies, and the trainer's old one is that of its own step."""
        return 1


class Alternate:
    """Generate k batches with one policy, then take k steps on them: lags 0 to k - 1.

    Worked number: k 8: before step 8 the batches 8 to 15 are generated whole; before step 9 nothing is.
    Source: ScaleRL section 3.1, PPO-off-policy-k.
    """

    def num_blocks(self, cfg: PPOOffPolicy) -> int:
        """k."""
        return cfg.k

    def last_batch(self, cfg: PPOOffPolicy, step: int) -> int:
        """The last of the k batches that step ``step`` belongs to."""
        return (step // cfg.k + 1) * cfg.k - 1

    def share(self, cfg: PPOOffPolicy, step: int, batch: int) -> Fraction:
        """Whole completions."""
        return Fraction(1)

    def rollouts_per_policy(self, cfg: PPOOffPolicy) -> int:
        """k."""
        return cfg.k


class OneByOne(Alternate):
    """Generate one batch, train on it, repeat: every lag is 0.

    Worked number: before step 5 batch 5 is generated whole, and nothing else is in flight.
    Source: ScaleRL section 3.1, PPO-off-policy-1.
    """

    def num_blocks(self, cfg: Sync) -> int:  # type: ignore[override]
        """One."""
        return 1

    def last_batch(self, cfg: Sync, step: int) -> int:  # type: ignore[override]
        """The one consumed."""
        return step

    def rollouts_per_policy(self, cfg: Sync) -> int:  # type: ignore[override]
        """One."""
        return 1


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {"pipeline": InFlight(), "ppo_off_policy": Alternate(), "sync": OneByOne()}
)
"""``off_policy.type`` of a recipe -> its schedule."""


def schedule_of(cfg: OffPolicy) -> Schedule:
    """The recipe's schedule."""
    return SCHEDULES[cfg.type]
