"""What is measured: the held-out pass rate, and what else, each at its cadence."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scalerl_lab.config.stages import TemperatureChange, value_at
from scalerl_lab.config.strict import Strict


class DownstreamEvaluation(Strict):
    """Pass rate on each of the tasks' downstream sets: does the gain on held-out prompts carry over?"""

    every_steps: PositiveInt
    """A multiple of ``evaluation.every_steps``; measured also at step 0 and where the grant is used."""
    samples_per_prompt: PositiveInt = 16
    """ProRL averages pass@1 over 16 samples (arXiv 2505.24864, evaluation set-up)."""
    temperature: PositiveFloat | None = None
    """Of ``evaluation``, when absent."""
    max_response_tokens: PositiveInt | None = None
    """Of ``sampling``, when absent; harder problems may need longer answers than training allows."""


class BoundaryEvaluation(Strict):
    """pass@k for k = 1, 2, 4 .. max_k on the held-out prompts and on each downstream set.

    The reasoning boundary is what some sample of many reaches (ProRL, arXiv 2505.24864: 256 samples).
    """

    every_steps: PositiveInt
    """A multiple of ``evaluation.every_steps``; measured also at step 0 and where the grant is used."""
    num_prompts: PositiveInt = 256
    """At most so many of each set: its first ones, the same every time."""
    samples_per_prompt: PositiveInt = 256
    max_k: PositiveInt = 256
    temperature: PositiveFloat | None = None
    """Of ``evaluation``, when absent."""
    max_response_tokens: PositiveInt | None = None
    """Of ``sampling``, when absent."""

    @model_validator(mode="after")
    def _samples_suffice(self) -> BoundaryEvaluation:
        if self.max_k > self.samples_per_prompt:
            raise ValueError(
                f"max_k ({self.max_k}) exceeds samples_per_prompt ({self.samples_per_prompt}): pass@k cannot "
                "be estimated from fewer than k samples"
            )
        return self


class DemonstrationCorpus(Strict):
    """The responses that the supervised warm start showed."""

    type: Literal["demonstrations"] = "demonstrations"


class TextCorpus(Strict):
    """A local text file; each line is a text of its own."""

    type: Literal["text_file"] = "text_file"
    path: str


Corpus = Annotated[DemonstrationCorpus | TextCorpus, Field(discriminator="type")]


class NgramOverlap(Strict):
    """How much of the held-out completions is found, n-gram by n-gram, in a corpus.

    The share of words inside an n-gram that the corpus has, averaged over n from min_length to
    max_length. The sum over n of the remaining shares is the Creativity Index (Lu et al., arXiv
    2410.04265, L = 5..12), which ProRL reports against a web corpus; verbatim matches only.
    """

    every_steps: PositiveInt
    """A multiple of ``evaluation.every_steps``; measured also at step 0 and where the grant is used."""
    corpus: Corpus = DemonstrationCorpus()
    min_length: PositiveInt = 5
    max_length: Annotated[int, Field(ge=1, le=32)] = 12

    @model_validator(mode="after")
    def _lengths_in_order(self) -> NgramOverlap:
        if self.max_length < self.min_length:
            raise ValueError(
                f"max_length ({self.max_length}) must be at least min_length ({self.min_length})"
            )
        return self


class Evaluation(Strict):
    """Held-out pass rate: the same prompts every time; and what else is measured, each at its cadence."""

    every_steps: PositiveInt = 100
    num_prompts: PositiveInt = 1000
    samples_per_prompt: PositiveInt = 16
    temperature: PositiveFloat = 1.0
    temperature_changes: tuple[TemperatureChange, ...] = ()
    """Later temperatures, by the optimiser steps taken before the evaluation."""
    downstream: DownstreamEvaluation | None = None
    boundary: BoundaryEvaluation | None = None
    ngram_overlap: NgramOverlap | None = None

    @model_validator(mode="after")
    def _cadences_meet(self) -> Evaluation:
        for name in ("downstream", "boundary", "ngram_overlap"):
            further = getattr(self, name)
            if further is not None and further.every_steps % self.every_steps:
                raise ValueError(
                    f"{name}.every_steps ({further.every_steps}) must be a multiple of every_steps "
                    f"({self.every_steps}): further measurements are saved together with a point"
                )
        return self

    def temperature_at(self, step: int) -> float:
        """Temperature of the evaluation after ``step`` optimiser steps."""
        return value_at(self.temperature, self.temperature_changes, step)
