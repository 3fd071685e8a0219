"""From verdicts to the rewards that advantages are made of, in one fixed order.

    1. verdict           score in [0, 1] -> wrong + score * (correct - wrong)      ``reward``
    2. length reward     the cosine terms, while their schedule has them on        ``length_reward``
    3. length control    soft overlong punishment                                  ``length_control``
    4. truncation        what a completion that was cut keeps of all that          ``truncated``

What comes after is not shaping: KL as a reward is subtracted from this, then advantages are computed.
Truncation comes last, so that no length term can pay for not stopping; a replaced reward comes before any
that is added to. Nothing here looks at a prompt's other completions, so order and padding cannot matter.

Shape letters: B rows (completions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.rewards import (
    CosineBonus,
    CosineReward,
    LengthReward,
    MaskedTruncated,
    NoLengthReward,
    Reward,
    ScoredTruncated,
    StopProperly,
    TruncatedCompletions,
)
from scalerl_lab.config.stages import Always, Between, Cycle, When
from scalerl_lab.rl.lengths import length_penalty


def shaped_rewards(
    recipe: Recipe, raw_reward_B: Tensor, num_tokens_B: Tensor, truncated_B: Tensor, step: int
) -> Tensor:
    """The rewards of completions (B,) that step ``step`` consumes.

    Args:
        recipe: its ``reward``, ``length_reward``, ``length_control``, ``truncated`` and response limit.
        raw_reward_B: verdicts: +1 for a verified answer, -1 for a wrong one, linear between. Only a full
            score is a correct answer.
        num_tokens_B: response tokens of each completion; long.
        truncated_B: whether it was cut before it ended; bool.
        step: optimiser steps before the one that consumes the completions, from 0.

    Worked number: 1/0 rewards, limit 100, cosine bonus of weight 0.5 from eta 0 to 1, stop_properly 0.1: a
    correct completion of 50 tokens gets 1 + 0.5 * 0.5 = 1.25, one cut at 100 gets 0.1 * (1 + 0) = 0.1.
    """
    limit = recipe.sampling.max_response_tokens_at(step)
    score_B = (raw_reward_B + 1.0) / 2.0
    correct_B = score_B >= 1.0
    length_B = num_tokens_B.to(raw_reward_B.dtype)
    reward_B = worth(recipe.reward, score_B)
    reward_B = with_length_reward(recipe.length_reward, reward_B, correct_B, length_B, limit, step)
    reward_B = reward_B + length_penalty(recipe.length_control, correct_B, length_B, limit)
    return after_truncation(recipe.truncated, reward_B, truncated_B, step)


def worth(cfg: Reward, score_B: Tensor) -> Tensor:
    """wrong + score * (correct - wrong).

    Worked number: correct 1, wrong -0.5: scores 0, 0.5 and 1 are worth -0.5, 0.25 and 1.
    Source: ScaleRL A.3 (+1 and -1); ProRL (arXiv 2505.24864) (1 and 0, fractions of tests passed).
    """
    return cfg.wrong + score_B * (cfg.correct - cfg.wrong)


# ---------------------------------------------------------------- schedules


def holds(cfg: When, step: int) -> bool:
    """Whether a term counts in the batch that step ``step`` consumes."""
    return WHENS[cfg.type](cfg, step)


def always(cfg: Always, step: int) -> bool:
    """At every step.

    Worked number: steps 0 and 10,000 both count.
    Source: length terms of DAPO (arXiv 2503.14476) and NVIDIA's public ProRL v2 script.
    """
    return True


def cycle(cfg: Cycle, step: int) -> bool:
    """On for ``on_steps``, off for ``off_steps``, and so on, or the other way round.

    Worked number: on 100, off 500: on at steps 0 to 99, off at 100 to 599, on at 600.
    Source: ProRL v2 blog ("scheduled cosine length penalty").
    """
    place = step % (cfg.on_steps + cfg.off_steps)
    return place < cfg.on_steps if cfg.first == "on" else place >= cfg.off_steps


def between(cfg: Between, step: int) -> bool:
    """From one step until before another.

    Worked number: from 10 until 20: steps 10 and 19 count, 9 and 20 do not.
    Source: ProRL (arXiv 2505.24864), whose runs 4 and 5 shape the reward and whose others do not.
    """
    return cfg.from_step <= step and (cfg.until_step is None or step < cfg.until_step)


WHENS: Mapping[str, Callable[[Any, int], bool]] = MappingProxyType(
    {"always": always, "cycle": cycle, "between": between}
)
"""``when.type`` of a term -> (cfg, step) -> whether it counts."""


# ---------------------------------------------------------------- length rewards


def with_length_reward(
    cfg: LengthReward, reward_B: Tensor, correct_B: Tensor, num_tokens_B: Tensor, limit: int, step: int
) -> Tensor:
    """Rewards (B,) with the recipe's length reward, if it is on at this step."""
    if cfg.type != "none" and not holds(cfg.when, step):
        return reward_B
    return LENGTH_REWARDS[cfg.type](cfg, reward_B, correct_B, num_tokens_B, limit)


def _fall(num_tokens_B: Tensor, limit: int) -> Tensor:
    """(1 + cos(pi T / L)) / 2: 1 at no tokens, 0 at the limit."""
    share_B = (num_tokens_B / limit).clamp(max=1.0)
    return (1.0 + torch.cos(math.pi * share_B)) / 2.0


def no_length_reward(
    cfg: NoLengthReward, reward_B: Tensor, correct_B: Tensor, num_tokens_B: Tensor, limit: int
) -> Tensor:
    """The reward as it is.

    Worked number: a reward of 1 at any length stays 1.
    Source: ScaleRL section 2.
    """
    return reward_B


def cosine(cfg: CosineBonus, reward_B: Tensor, correct_B: Tensor, num_tokens_B: Tensor, limit: int) -> Tensor:
    """R + weight * (eta_min + (eta_max - eta_min) (1 + cos(pi T / L)) / 2), right or wrong.

    Worked number: weight 0.5, eta 0 to 1, limit 100: bonuses 0.5, 0.25 and 0 at 0, 50 and 100 tokens.
    Source: ProRL v2 blog.
    """
    eta_B = cfg.eta_min + (cfg.eta_max - cfg.eta_min) * _fall(num_tokens_B, limit)
    return reward_B + cfg.weight * eta_B


def cosine_reward(
    cfg: CosineReward, reward_B: Tensor, correct_B: Tensor, num_tokens_B: Tensor, limit: int
) -> Tensor:
    """long + (short - long) (1 + cos(pi T / L)) / 2, with values of its own for right and wrong.

    Worked number: correct 1 to 0.5, wrong -1 to -0.5, limit 100: at 50 tokens 0.75 and -0.75.
    Source: NVIDIA's public ProRL v2 reward manager; TRL get_cosine_scaled_reward.
    """
    fall_B = _fall(num_tokens_B, limit)
    right_B = cfg.correct_long + (cfg.correct_short - cfg.correct_long) * fall_B
    wrong_B = cfg.wrong_long + (cfg.wrong_short - cfg.wrong_long) * fall_B
    return torch.where(correct_B, right_B, wrong_B)


LENGTH_REWARDS: Mapping[str, Callable[[Any, Tensor, Tensor, Tensor, int], Tensor]] = MappingProxyType(
    {"none": no_length_reward, "cosine": cosine, "cosine_reward": cosine_reward}
)
"""``length_reward.type`` -> (cfg, reward_B, correct_B, num_tokens_B, limit) -> reward_B."""


# ---------------------------------------------------------------- truncated completions


def after_truncation(cfg: TruncatedCompletions, reward_B: Tensor, truncated_B: Tensor, step: int) -> Tensor:
    """Rewards (B,) after what truncated completions lose."""
    return TRUNCATIONS[cfg.type].reward(cfg, reward_B, truncated_B, step)


def counted(cfg: TruncatedCompletions, truncated_B: Tensor) -> Tensor:
    """Which completions count in the filter and in means and deviations: bool (B,)."""
    return TRUNCATIONS[cfg.type].counted(cfg, truncated_B)


def with_loss(cfg: TruncatedCompletions, truncated_B: Tensor) -> Tensor:
    """Which completions carry loss: bool (B,)."""
    return TRUNCATIONS[cfg.type].with_loss(cfg, truncated_B)


class Outcome(Protocol):
    """What a row of the table answers."""

    def reward(self, cfg: Any, reward_B: Tensor, truncated_B: Tensor, step: int) -> Tensor:
        """Reward (B,)."""
        ...

    def counted(self, cfg: Any, truncated_B: Tensor) -> Tensor:
        """Bool (B,)."""
        ...

    def with_loss(self, cfg: Any, truncated_B: Tensor) -> Tensor:
        """Bool (B,)."""
        ...


class Score:
    """A truncated completion is like any other.

    Worked number: rewards (1, -1), the second cut: they stay, both count, both carry loss.
    Source: ScaleRL section 2.
    """

    def reward(self, cfg: ScoredTruncated, reward_B: Tensor, truncated_B: Tensor, step: int) -> Tensor:
        """As it is."""
        return reward_B

    def counted(self, cfg: Any, truncated_B: Tensor) -> Tensor:
        """All."""
        return torch.ones_like(truncated_B)

    def with_loss(self, cfg: Any, truncated_B: Tensor) -> Tensor:
        """All."""
        return torch.ones_like(truncated_B)


class Stop(Score):
    """A truncated completion keeps a share of its reward, or gets a fixed one.

    Worked number: rewards (1, 0.5), both cut: coefficient 0.1 gives (0.1, 0.05), -0.5 gives (-0.5, -0.5).
    Source: stop_properly_penalty_coef of NVIDIA's public ProRL v2 script, NeMo-RL and OpenRLHF.
    """

    def reward(self, cfg: StopProperly, reward_B: Tensor, truncated_B: Tensor, step: int) -> Tensor:  # type: ignore[override]
        """Scaled or replaced where truncated, if it is on at this step."""
        if not holds(cfg.when, step):
            return reward_B
        negative = cfg.coefficient < 0.0
        cut_B = torch.full_like(reward_B, cfg.coefficient) if negative else cfg.coefficient * reward_B
        return torch.where(truncated_B, cut_B, reward_B)


class Mask(Score):
    """Overlong filtering: a truncated completion carries no loss.

    Worked number: rewards (1, 0, 0) of a prompt, the last cut, Dr. GRPO's advantage: in the statistics the
    first two have 2/3 and -1/3, out of them 1/2 and -1/2; the third trains nothing in either case.
    Source: DAPO section 3.4; TRL mask_truncated_completions (in_statistics: true).
    """

    def counted(self, cfg: MaskedTruncated, truncated_B: Tensor) -> Tensor:
        """All, or those that were not truncated."""
        return torch.ones_like(truncated_B) if cfg.in_statistics else ~truncated_B

    def with_loss(self, cfg: MaskedTruncated, truncated_B: Tensor) -> Tensor:
        """Those that were not truncated."""
        return ~truncated_B


TRUNCATIONS: Mapping[str, Outcome] = MappingProxyType(
    {"score": Score(), "stop_properly": Stop(), "mask": Mask()}
)
"""``truncated.type`` of a recipe -> what becomes of a truncated completion."""
