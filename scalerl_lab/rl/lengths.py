"""Length controls: what keeps completions from growing past the limit.

Shape letters: B rows (completions). A control says three things: how it shapes rewards, how many tokens
each completion may think before it is interrupted, and with which phrase.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from scalerl_lab.config.recipe import Interruption, LengthControl, LengthPenalty


def shaped_reward(
    cfg: LengthControl, raw_reward_B: Tensor, num_tokens_B: Tensor, max_response_tokens: int
) -> Tensor:
    """Reward from which advantages are computed (B,).

    Args:
        cfg: the recipe's ``length_control``.
        raw_reward_B: +1 for a verified answer, -1 otherwise.
        num_tokens_B: all response tokens of each completion.
        max_response_tokens: the recipe's response limit.
    """
    return LENGTH_CONTROLS[cfg.type].shaped_reward(cfg, raw_reward_B, num_tokens_B, max_response_tokens)


def thinking_budgets(
    cfg: LengthControl, max_response_tokens: int, num: int, generator: torch.Generator
) -> Tensor | None:
    """Tokens after which each of ``num`` completions is interrupted: long (num,), or None for never."""
    return LENGTH_CONTROLS[cfg.type].thinking_budgets(cfg, max_response_tokens, num, generator)


def interruption_phrase(cfg: LengthControl) -> str | None:
    """Text that is forced where the thinking budget ends, or None; its tokens carry no loss."""
    return LENGTH_CONTROLS[cfg.type].phrase(cfg)


class Control(Protocol):
    """What a row of the table answers."""

    def shaped_reward(
        self, cfg: Any, raw_reward_B: Tensor, num_tokens_B: Tensor, max_response_tokens: int
    ) -> Tensor:
        """Reward (B,) from which advantages are computed."""
        ...

    def thinking_budgets(
        self, cfg: Any, max_response_tokens: int, num: int, generator: torch.Generator
    ) -> Tensor | None:
        """Long (num,), or None."""
        ...

    def phrase(self, cfg: Any) -> str | None:
        """Text forced at the end of the budget, or None."""
        ...


class Truncate:
    """A completion that reaches the limit is cut and scored as it stands.

    Worked number: a wrong completion of any length keeps reward -1; no budgets, no phrase.
    Source: the baseline of ScaleRL section 2, without its interruptions.
    """

    def shaped_reward(
        self, cfg: Any, raw_reward_B: Tensor, num_tokens_B: Tensor, max_response_tokens: int
    ) -> Tensor:
        """The raw reward."""
        return raw_reward_B

    def thinking_budgets(
        self, cfg: Any, max_response_tokens: int, num: int, generator: torch.Generator
    ) -> Tensor | None:
        """No completion is interrupted."""
        return None

    def phrase(self, cfg: Any) -> str | None:
        """Nothing is injected."""
        return None


class Penalise(Truncate):
    """Correct completions lose reward as they near the limit.

    R + clip((L_max - |y|) / L_cache - 1, -1, 0) if R > 0, with L_cache = window_fraction * L_max.
    Worked number: limit 100, window 0.2: correct completions of 80, 90 and 100 tokens have
    rewards 1, 0.5 and 0; a wrong one of 100 tokens keeps -1.
    Source: ScaleRL A.10; DAPO Eq. 13 (which punishes wrong completions too).
    """

    def shaped_reward(
        self, cfg: LengthPenalty, raw_reward_B: Tensor, num_tokens_B: Tensor, max_response_tokens: int
    ) -> Tensor:
        """The raw reward, less up to 1 for a correct completion within the window."""
        window = cfg.window_fraction * max_response_tokens
        room_B = (max_response_tokens - num_tokens_B.to(raw_reward_B.dtype)) / window
        penalty_B = (room_B - 1.0).clamp(-1.0, 0.0)
        return torch.where(raw_reward_B > 0, raw_reward_B + penalty_B, raw_reward_B)


class Interrupt(Truncate):
    """Thinking ends at a random budget by a forced phrase; what follows is the answer.

    Budgets are uniform integers from round(low_fraction * L_max) to round(high_fraction * L_max), both
    included, one per completion, at least 1 and below L_max.
    Worked number: limit 14,336 with 0.714 and 0.857: 10,236 to 12,286 tokens.
    Source: ScaleRL section 4 and A.10 (10k to 12k of 12,288 thinking and 2,048 answer tokens).
    """

    def thinking_budgets(
        self, cfg: Interruption, max_response_tokens: int, num: int, generator: torch.Generator
    ) -> Tensor | None:
        """Long (num,) on the generator's device."""
        low = max(1, round(cfg.low_fraction * max_response_tokens))
        high = max(low, min(round(cfg.high_fraction * max_response_tokens), max_response_tokens - 1))
        return torch.randint(low, high + 1, (num,), generator=generator, device=generator.device)

    def phrase(self, cfg: Interruption) -> str | None:
        """The recipe's phrase."""
        return cfg.phrase


LENGTH_CONTROLS: Mapping[str, Control] = MappingProxyType(
    {"truncate": Truncate(), "penalty": Penalise(), "interruption": Interrupt()}
)
"""``length_control.type`` of a recipe -> its control."""
