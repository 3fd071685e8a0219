"""From prompts to steps: how completions are drawn, how many steps they are good for, and when."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from scalerl_lab.config.stages import LengthChange, TemperatureChange, value_at
from scalerl_lab.config.strict import Strict


class Sampling(Strict):
    """How completions are drawn during training."""

    generations_per_prompt: Annotated[int, Field(ge=2)] = 16
    temperature: PositiveFloat = 1.0
    max_response_tokens: PositiveInt = 14336
    """All response tokens, thinking and answer (ScaleRL A.3: 12,288 + 2,048)."""
    temperature_changes: tuple[TemperatureChange, ...] = ()
    """Later temperatures; each batch is sampled at that of the step that consumes it."""
    max_response_tokens_changes: tuple[LengthChange, ...] = ()
    """Later limits, of training and evaluation alike (DeepSeek-R1: 32,768, from step 8,200 on 65,536)."""

    def temperature_at(self, step: int) -> float:
        """Temperature of the batch that step ``step`` (from 0) consumes."""
        return value_at(self.temperature, self.temperature_changes, step)

    def max_response_tokens_at(self, step: int) -> int:
        """Response limit of the batch that step ``step`` (from 0) consumes."""
        return value_at(self.max_response_tokens, self.max_response_tokens_changes, step)

    @property
    def longest_response_tokens(self) -> int:
        """The largest limit of the whole run."""
        return max(self.max_response_tokens, *(each.value for each in self.max_response_tokens_changes), 1)


class NoEarlyTruncation(Strict):
    """A completion goes on until it ends or reaches the limit."""

    type: Literal["none"] = "none"


class RepetitionTruncation(Strict):
    """A training completion is cut once a run of its tokens were all nearly certain: it repeats itself.

    MiniMax-M1 (arXiv 2506.13585): 3,000 consecutive tokens with probability above 0.99.
    The completion counts as truncated. Evaluations are not cut.
    """

    type: Literal["repetition"] = "repetition"
    consecutive_tokens: PositiveInt = 3000
    above_probability: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.99


EarlyTruncation = Annotated[NoEarlyTruncation | RepetitionTruncation, Field(discriminator="type")]


class Refill(Strict):
    """How ``zero_variance: refill`` replaces dropped prompts."""

    max_generated: Annotated[int, Field(ge=2)] = 10
    """Most prompts generated for one batch, in multiples of ``prompts_per_step``.

    Ten generation batches in DAPO's open code (verl, max_num_gen_batches) and in NeMo-RL's ProRL v2.
    """
    when_short: Literal["end", "train"] = "end"
    """Where even that leaves the batch short: end the run, as verl does, or train on what there is."""


class Batch(Strict):
    """What one optimiser step consumes, and how many steps a rollout is good for.

    A rollout of ``prompts_per_step * mini_batches`` prompts is divided by prompts into mini-batches, in
    the order in which they were drawn; each is one optimiser step, and all of them come again in every
    epoch. Advantages are those of the whole rollout, except where a choice says otherwise. ``max_lag`` of
    a pipeline then counts rollouts. The steps on one rollout are atomic: evaluations, checkpoints and
    stops come between rollouts.
    """

    prompts_per_step: PositiveInt = 48
    mini_batches: PositiveInt = 1
    """16 in DeepSeek-R1 (8,192 completions in steps of 512) and in DAPO (arXiv 2503.14476, section 4.1)."""
    epochs: PositiveInt = 1
    """Times that a rollout is gone through; 1 in every recipe of the lab."""

    @property
    def prompts_per_rollout(self) -> int:
        """Prompts that are generated at once."""
        return self.prompts_per_step * self.mini_batches

    @property
    def steps_per_rollout(self) -> int:
        """Optimiser steps taken on them."""
        return self.mini_batches * self.epochs


class Pipeline(Strict):
    """PipelineRL: generation never drains; new weights arrive in flight and the stale KV cache is kept.

    A completion's oldest token lags at most ``max_lag`` optimiser steps behind the weights it trains.
    """

    type: Literal["pipeline"] = "pipeline"
    max_lag: PositiveInt = 8


class PPOOffPolicy(Strict):
    """Generate k batches with one policy, then take k optimiser steps on them."""

    type: Literal["ppo_off_policy"] = "ppo_off_policy"
    k: PositiveInt = 8


class Sync(Strict):
    """Generate one batch, train on it, repeat: on-policy."""

    type: Literal["sync"] = "sync"


OffPolicy = Annotated[Pipeline | PPOOffPolicy | Sync, Field(discriminator="type")]
