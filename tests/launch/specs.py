"""Run specs for tests that execute no model."""

from __future__ import annotations

from scalerl_lab.config.evaluation import Evaluation
from scalerl_lab.config.profile import FlopsMeter
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.config.tasks import ChainArithmetic
from scalerl_lab.records import RunSpec

RECIPE = Recipe(
    name="small", model=LlamaModel(), tasks=ChainArithmetic(), evaluation=Evaluation(num_prompts=256)
)


def spec(run_id: str = "0123456789ab", seed: int = 0) -> RunSpec:
    """A spec of a small recipe."""
    return RunSpec(run_id, RECIPE, seed, FlopsMeter(flops_per_gpu_hour=4.4e7))
