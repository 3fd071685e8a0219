"""What RL starts from: the model, and the supervised warm start before it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scalerl_lab.config.strict import Share, Strict


class LlamaModel(Strict):
    """A Llama decoder built locally with random weights; nothing is downloaded."""

    type: Literal["llama"] = "llama"
    layers: PositiveInt = 2
    width: PositiveInt = 64
    heads: PositiveInt = 4
    mlp_width: PositiveInt = 256

    @model_validator(mode="after")
    def _heads_divide_width(self) -> LlamaModel:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, got width={self.width} and heads={self.heads}")
        return self


class CheckpointModel(Strict):
    """A pre-trained checkpoint, read from a local folder in Hugging Face format."""

    type: Literal["checkpoint"] = "checkpoint"
    path: str
    """Local folder; the lab never downloads weights."""
    params_billion: PositiveFloat
    """Number of parameters, for estimates."""


Model = Annotated[LlamaModel | CheckpointModel, Field(discriminator="type")]


class NoWarmStart(Strict):
    """RL starts from the model's own weights."""

    type: Literal["none"] = "none"


class Demonstrations(Strict):
    """Supervised warm start on demonstrations that are unreliable per fact.

    For each (operation, operand, state) the probability that a demonstration does it right is
    drawn once from Beta(reliability_alpha, reliability_beta). So RL starts from a low pass rate
    with the right moves in the policy's support.
    """

    type: Literal["demonstrations"] = "demonstrations"
    steps: PositiveInt = 800
    demonstrations_per_step: PositiveInt = 64
    lr: PositiveFloat = 2e-3
    reliability_alpha: PositiveFloat = 3.0
    reliability_beta: PositiveFloat = 1.5
    worked_share: Share = 0.90
    """Share of demonstrations that write every step."""
    results_only_share: Share = 0.05
    """Share that write only the running results; the remainder writes only the answer."""
    seed: int = 0

    @model_validator(mode="after")
    def _shares_fit(self) -> Demonstrations:
        if self.worked_share + self.results_only_share > 1.0:
            raise ValueError("worked_share + results_only_share must be at most 1")
        return self


WarmStart = Annotated[NoWarmStart | Demonstrations, Field(discriminator="type")]
