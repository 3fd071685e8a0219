"""Compute, counted in floating-point operations and in hours held.

    forward of one token at context c     2 N + 4 l d c
    its training (forward and backward)   3 times that

with N the parameters of all matrices and the head (not embeddings, not norms), l layers of width d, and
c the positions attended to, the token itself included.

Padding and finished rows that a batch happens to carry along do not count. What rows have in common does,
and so do rows that carry loss but no advantage: that an engine passes the former once and the latter not at
all is no property of the recipe. All counts are exact integers, so that they are the same on every machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scalerl_lab.config.profile import Meter
from scalerl_lab.records import SPEED_FIELDS


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the cost of a token depends on."""

    matrix_params: int
    layers: int
    width: int

    def forward_flops(self, tokens: int, attended: int) -> int:
        """Operations of a forward pass.

        Args:
            tokens: tokens that go through the model.
            attended: sum over them of the positions they attend to, themselves included.

        Worked number: N = 10, 1 layer of width 2, a first and a second token: 2 * 20 + 8 * (1 + 2) = 64.
        """
        return 2 * self.matrix_params * tokens + 4 * self.layers * self.width * attended

    def training_flops(self, row_lengths: Iterable[int]) -> int:
        """Operations of a forward and backward pass over rows of the given lengths in tokens.

        The last token of a row is predicted but not read, so a row of n tokens costs n - 1 forwards.
        """
        lengths = [length - 1 for length in row_lengths]
        return 3 * self.forward_flops(sum(lengths), sum(n * (n + 1) // 2 for n in lengths))


@dataclass(slots=True)
class Clock:
    """Compute that one purpose has used so far."""

    meter: Meter
    devices: int
    """GPUs held, or 1 for a run without."""
    flops: int = 0
    wall_s: float = 0.0

    @property
    def gpu_hours(self) -> float:
        """Lab GPU-hours under the meter of the profile."""
        return gpu_hours(self.meter, self.flops, self.wall_s, self.devices)


def gpu_hours(meter: Meter, flops: int, wall_s: float, devices: int) -> float:
    """Lab GPU-hours of some compute.

    Worked number: 3e9 operations at 1e9 a GPU-hour are 3; half an hour of wall time on 8 devices is 4.
    """
    if meter.type == "flops":
        return flops / meter.flops_per_gpu_hour
    return wall_s * devices / 3600.0


@dataclass(slots=True)
class Pace:
    """Where the wall time of the steps since the last evaluation on schedule went; it decides nothing."""

    tokens: int = 0
    """Response tokens that were generated and consumed."""
    trained: int = 0
    """Response tokens in a loss, once an epoch."""
    whole_s: float = 0.0
    generation_s: float = 0.0
    """With the reward, as the rollout is one call; ``means`` takes that off."""
    reward_s: float = 0.0
    update_s: float = 0.0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the wall time of a block to one of the fields."""
        began = time.perf_counter()
        yield
        setattr(self, name, getattr(self, name) + time.perf_counter() - began)

    def means(self, evaluation_s: float) -> dict[str, float | None]:
        """The speed fields of a point; None where no step was taken.

        Args:
            evaluation_s: wall time of the point's own evaluation.

        Worked number: 500 tokens, 400 of them trained on, in 10 s, 6 in the rollout of which 1 is reward, 3
        in the update; then 10 s of evaluation: 50 and 40 tokens a second, and shares of 0.25, 0.15, 0.05,
        0.05 waiting, and 0.5 evaluation.
        """
        if self.whole_s <= 0.0:
            return dict.fromkeys(SPEED_FIELDS)
        whole_s = self.whole_s + evaluation_s
        return {
            "tokens_per_s": self.tokens / self.whole_s,
            "trained_tokens_per_s": self.trained / self.whole_s,
            "generation_share": (self.generation_s - self.reward_s) / whole_s,
            "update_share": self.update_s / whole_s,
            "reward_share": self.reward_s / whole_s,
            "waiting_share": (self.whole_s - self.generation_s - self.update_s) / whole_s,
            "evaluation_share": evaluation_s / whole_s,
        }
