"""Back ends that generate and train; the only home of transformers, vLLM and DeepSpeed.

Files: ``policy`` a local Llama and its head at a declared precision; ``sampler`` batched decoding with a
preallocated KV cache, resumable in the middle of a completion; ``learner`` log-probabilities, gradients
and AdamW; ``decoder`` the Llama's arithmetic, which both share; ``prefixes`` what rows of a batch have in
common; ``rows`` the state of completions in flight; ``devices`` what there is to compute on.

To add a back end: a class with the shape of ``TorchSampler`` or ``TorchLearner`` and a row in the
matching table below. This room knows nothing of rewards, losses or schedules.
"""

from __future__ import annotations

from scalerl_lab.config.recipe import Engine
from scalerl_lab.config.start import CheckpointModel, Model
from scalerl_lab.errors import NotSupported

GENERATORS = ("torch",)
TRAINERS = ("torch",)


def require_supported(engine: Engine, model: Model) -> None:
    """Refuse a back end or a model that this version cannot execute.

    Raises:
        NotSupported: the message names what was asked for and what there is.
    """
    for role, asked, there in (
        ("generator", engine.generator, GENERATORS),
        ("trainer", engine.trainer, TRAINERS),
    ):
        if asked not in there:
            raise NotSupported(
                f"engine.{role}={asked} cannot be executed by this version; allowed: {', '.join(there)}"
            )
    if model.type != "llama":
        raise unsupported_model(model)


def unsupported_model(model: CheckpointModel) -> NotSupported:
    """The refusal of a model of other weights."""
    return NotSupported(
        f"model.type={model.type} ({model.path}) needs a checkpoint reader that this version does not "
        "have; allowed here: llama. A recipe's stands_in names its small counterpart"
    )
