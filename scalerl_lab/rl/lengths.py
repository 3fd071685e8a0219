"""Length controls: what keeps completions from growing past the limit.

Shape letters: B rows (completions). A control says three things: what it takes off rewards, how many tokens
each completion may think before it is interrupted, and with which phrase.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from scalerl_lab.config.rewards import Interruption, LengthControl, LengthPenalty


def length_penalty(
    cfg: LengthControl, correct_B: Tensor, num_tokens_B: Tensor, max_response_tokens: int
) -> Tensor:
    """What is added to the reward of each completion (B,), never above 0.

    Args:
        cfg: the recipe's ``length_control``.
        correct_B: whether the answer was verified; bool.
        num_tokens_B: all response tokens of each completion; floating point, of the reward's type.
        max_response_tokens: the response limit that held for them.
    """
    return LENGTH_CONTROLS[cfg.type].penalty(cfg, correct_B, num_tokens_B, max_response_tokens)


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

    def penalty(self, cfg: Any, correct_B: Tensor, num_tokens_B: Tensor, max_response_tokens: int) -> Tensor:
        """What is added to the reward (B,)."""
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

    def penalty(self, cfg: Any, correct_B: Tensor, num_tokens_B: Tensor, max_response_tokens: int) -> Tensor:
        """Nothing."""
        return torch.zeros_like(num_tokens_B)

    def thinking_budgets(
        self, cfg: Any, max_response_tokens: int, num: int, generator: torch.Generator
    ) -> Tensor | None:
        """No completion is interrupted."""
        return None

    def phrase(self, cfg: Any) -> str | None:
        """Nothing is injected."""
        return None


class Penalise(Truncate):
    """Completions lose reward as they near the limit.

    scale * clip((L_max - |y|) / L_cache - 1, -1, 0), with L_cache = window_fraction * L_max; for correct
    completions only, or for all.
    Worked number: limit 100, window 0.2: correct completions of 80, 90 and 100 tokens lose 0, 0.5 and 1;
    a wrong one of 90 tokens loses 0, or 0.5 where all are punished.
    Source: ScaleRL A.10 (correct only); DAPO Eq. 13 (all); Magistral section 2.2.3 (all, scale 0.1).
    """

    def penalty(
        self, cfg: LengthPenalty, correct_B: Tensor, num_tokens_B: Tensor, max_response_tokens: int
    ) -> Tensor:
        """From 0 at the window's start to -scale at the limit."""
        window = cfg.window_fraction * max_response_tokens
        room_B = (max_response_tokens - num_tokens_B) / window
        penalty_B = cfg.scale * (room_B - 1.0).clamp(-1.0, 0.0)
        return penalty_B if cfg.applies_to == "all" else torch.where(correct_B, penalty_B, 0.0)


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
