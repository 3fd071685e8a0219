"""What the gradient is taken of: loss, ratios, aggregation, advantage, KL and its reference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scalerl_lab.config.strict import NonNegative, Strict

# ---------------------------------------------------------------- loss and ratios


class CISPO(Strict):
    """Truncated importance weights, gradient through every token (ScaleRL Eq. 4)."""

    type: Literal["cispo"] = "cispo"
    ratio_cap: PositiveFloat = 5.0
    """Absolute cap on the token ratio; the paper finds 4, 5 and 8 alike."""


class PPOClip(Strict):
    """Clipped token ratio: GRPO with equal bounds, DAPO with a higher upper bound."""

    type: Literal["ppo_clip"] = "ppo_clip"
    clip_low: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    clip_high: PositiveFloat = 0.26
    dual_clip: Annotated[float, Field(gt=1.0)] | None = None
    """Dual clip (arXiv 1912.09729): with a negative advantage A no loss beyond -dual_clip * A. verl: 3;
    NVIDIA's ProRL v2 script: 10; NeMo-RL's ProRL v2 and most others: none."""


class GSPO(Strict):
    """Clipped length-normalised sequence ratio."""

    type: Literal["gspo"] = "gspo"
    clip_low: PositiveFloat = 3e-3
    clip_high: PositiveFloat = 4e-3


class Reinforce(Strict):
    """Plain policy gradient, no ratio."""

    type: Literal["reinforce"] = "reinforce"


Loss = Annotated[CISPO | PPOClip | GSPO | Reinforce, Field(discriminator="type")]


Anchor = Literal["gen", "old"]


class NoMismatchWeight(Strict):
    """Whatever the sampler said, the token loss stays as it is."""

    type: Literal["none"] = "none"


class Truncated(Strict):
    """Truncated importance sampling (TIS): min(w, cap) per token."""

    type: Literal["truncated"] = "truncated"
    cap: PositiveFloat = 2.0
    """2 in verl, OpenRLHF, open-instruct and NVIDIA's ProRL v2 run."""


class Masked(Strict):
    """w per token, and 0 where it is above the cap (MIS; TRL's ``token_mask``)."""

    type: Literal["masked"] = "masked"
    cap: PositiveFloat = 3.0
    """TRL 1.16."""


class IcePop(Strict):
    """w per token, and 0 where it is outside the band."""

    type: Literal["icepop"] = "icepop"
    low: NonNegative = 0.5
    high: PositiveFloat = 5.0
    """0.5 and 5 are those of ProRL v2 in NeMo-RL and OpenRLHF."""

    @model_validator(mode="after")
    def _in_order(self) -> IcePop:
        _require_order(self.low, self.high)
        return self


class SequenceTruncated(Strict):
    """min(w, cap) with w = exp(sum of log w) of the whole completion."""

    type: Literal["sequence_truncated"] = "sequence_truncated"
    cap: PositiveFloat = 3.0
    """TRL 1.16."""


class SequenceMasked(Strict):
    """w = exp(sum of log w) of the whole completion, and 0 where it is above the cap.

    The sum grows with length, so long completions are masked in numbers.
    """

    type: Literal["sequence_masked"] = "sequence_masked"
    cap: PositiveFloat = 3.0
    """TRL 1.16, where this form is the default."""


class SequenceBand(Strict):
    """w per token, in completions whose geometric mean of w is within the band; 0 in the others.

    ``seq-mask-tis`` of NeMo-RL and OpenRLHF.
    """

    type: Literal["sequence_band"] = "sequence_band"
    low: NonNegative = 0.99
    high: PositiveFloat = 1.02
    """The lab's; ProRL v2.1 has 0.999 and 1.002 for a mixture of experts."""

    @model_validator(mode="after")
    def _in_order(self) -> SequenceBand:
        _require_order(self.low, self.high)
        return self


def _require_order(low: float, high: float) -> None:
    if high <= low:
        raise ValueError(f"high must be above low, got low={low} and high={high}")


MismatchWeight = Annotated[
    NoMismatchWeight | Truncated | Masked | IcePop | SequenceTruncated | SequenceMasked | SequenceBand,
    Field(discriminator="type"),
]


# ---------------------------------------------------------------- aggregation


class ConstAggregation(Strict):
    """Sum of token losses over completions times the response limit (Dr. GRPO)."""

    type: Literal["const"] = "const"


class SampleAggregation(Strict):
    """Mean over completions of each completion's token mean (GRPO)."""

    type: Literal["sample"] = "sample"


class PromptAggregation(Strict):
    """Mean over prompts of the token mean over all of a prompt's completions (ScaleRL)."""

    type: Literal["prompt"] = "prompt"


class TokenAggregation(Strict):
    """Mean over all tokens of the batch."""

    type: Literal["token"] = "token"


Aggregation = Annotated[
    SampleAggregation | PromptAggregation | TokenAggregation | ConstAggregation, Field(discriminator="type")
]


# ---------------------------------------------------------------- advantage


class GroupStdAdvantage(Strict):
    """Reward minus group mean, over the group's (unbiased) standard deviation (GRPO)."""

    type: Literal["group_std"] = "group_std"
    eps: PositiveFloat = 1e-6


class BatchAdvantage(Strict):
    """Reward minus group mean, over the batch's standard deviation of that difference (ScaleRL)."""

    type: Literal["batch"] = "batch"
    eps: PositiveFloat = 1e-6


class CentredAdvantage(Strict):
    """Reward minus group mean, not normalised (Dr. GRPO)."""

    type: Literal["none"] = "none"


class RLOOAdvantage(Strict):
    """Reward minus the mean of the group's other rewards (RLOO)."""

    type: Literal["rloo"] = "rloo"


class BatchRawAdvantage(Strict):
    """Reward minus group mean, over the batch's (unbiased) standard deviation of the rewards as they are.

    TRL's ``scale_rewards: batch``; differs from ``batch`` by the variance between prompts.
    """

    type: Literal["batch_raw"] = "batch_raw"
    eps: PositiveFloat = 1e-4
    """TRL 1.16."""


Weighting = Literal["token", "sequence"]
"""Whether long completions count more in a mean: every token once, or every completion once."""


class ReinforcePPAdvantage(Strict):
    """REINFORCE++ (arXiv 2501.03262): returns whitened over the whole batch, with no group mean."""

    type: Literal["reinforce_pp"] = "reinforce_pp"
    weighting: Weighting = "token"
    eps: PositiveFloat = 1e-8
    """Added to the variance (verl's ``masked_whiten``)."""


class ReinforcePPBaselineAdvantage(Strict):
    """REINFORCE++-baseline: reward minus group mean, whitened over the whole batch.

    verl, OpenRLHF and NeMo-RL weigh by token; the text of ProRL v2 does not say.
    """

    type: Literal["reinforce_pp_baseline"] = "reinforce_pp_baseline"
    weighting: Weighting = "token"
    eps: PositiveFloat = 1e-8
    """Added to the variance (verl's ``masked_whiten``)."""


class MagistralAdvantage(Strict):
    """Reward minus group mean, whitened by completion over each mini-batch (arXiv 2506.10910)."""

    type: Literal["magistral"] = "magistral"
    eps: PositiveFloat = 1e-8
    """Added to the variance; the paper has none."""


Advantage = Annotated[
    GroupStdAdvantage
    | BatchAdvantage
    | CentredAdvantage
    | RLOOAdvantage
    | BatchRawAdvantage
    | ReinforcePPAdvantage
    | ReinforcePPBaselineAdvantage
    | MagistralAdvantage,
    Field(discriminator="type"),
]


# ---------------------------------------------------------------- KL and its reference


class NoKL(Strict):
    """Nothing holds the policy to a reference."""

    type: Literal["none"] = "none"


class KLLoss(Strict):
    """coef times an estimate of the KL to the reference, added to the loss of each token."""

    type: Literal["loss"] = "loss"
    estimator: Literal["k1", "k2", "k3", "k1_weighted", "k3_weighted", "k3_straight_through"] = "k3"
    """``rl.kl`` says what each one's gradient is."""
    coef: PositiveFloat = 1e-3
    """DeepSeek-R1: 1e-3; ProRL v1: 1e-4; ProRL v2: 5e-4, 1e-3 or 1e-4 in NVIDIA's own three scripts."""
    clamp: PositiveFloat = 20.0
    """Bound of |log-ratio to the reference| before anything else: verl 20, ProRL v2's text 10,
    open-instruct 40. There is no bound on the estimate itself: at 10 it takes the gradient of k2 from every
    token with a log-ratio beyond 4.47."""

    @model_validator(mode="after")
    def _has_a_gradient(self) -> KLLoss:
        if self.estimator == "k1":
            raise ValueError(
                "kl.type=loss with estimator=k1 is a no-op: its expected gradient is 0; "
                "use k2 or k1_weighted, or kl.type=reward"
            )
        return self


class KLReward(Strict):
    """coef times an estimate of the KL to the reference, taken off the reward; it carries no gradient.

    Off the reward of the whole completion, or, where the advantage is REINFORCE++'s, off the return of each
    token from there to the end (arXiv 2501.03262).
    """

    type: Literal["reward"] = "reward"
    estimator: Literal["k1", "k2", "k3"] = "k1"
    coef: PositiveFloat = 0.03
    """TRL's RLOO trainer."""
    clamp: PositiveFloat = 20.0
    """Bound of |log-ratio to the reference|."""


KL = Annotated[NoKL | KLLoss | KLReward, Field(discriminator="type")]


class Reference(Strict):
    """The reference policy of the KL: the start's weights, until a reset moves it to the policy.

    Triggers add up; whichever fires resets. None of the published recipes gives a number for a spike or a
    stall. DeepSeek-R1: hard, every 400 steps; ProRL v1: hard, on stalled validation, optimiser too; ProRL v2:
    hard, every 200 to 500 steps or on a spike or stall, optimiser kept.
    """

    every_steps: PositiveInt | None = None
    """Reset after every so many optimiser steps."""
    kl_above: PositiveFloat | None = None
    """Reset after a step whose mean log-ratio to the reference over its tokens is above this."""
    stalled_points: PositiveInt | None = None
    """Reset when so many scheduled evaluations on end have not raised the best pass rate."""
    new_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The reference becomes new_share * policy + (1 - new_share) * itself: 1 is a hard reset, less is
    Polyak's (TRL ``sync_ref_model``: 0.6 every 512 steps)."""
    reset_optimizer: bool = False
    """Whether a reset also forgets the optimiser's moments."""

    @property
    def resets(self) -> bool:
        """Whether anything can move the reference."""
        return any(each is not None for each in (self.every_steps, self.kl_above, self.stalled_points))
