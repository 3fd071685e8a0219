"""The supervised start that runs of one model and task family share, built once per content."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from scalerl_lab.config.recipe import Optimizer, Recipe
from scalerl_lab.config.start import Demonstrations
from scalerl_lab.config.tasks import Tasks
from scalerl_lab.engines.learner import TorchLearner
from scalerl_lab.engines.policy import build_policy, matrix_params
from scalerl_lab.errors import RunFailed
from scalerl_lab.rl.meter import ModelShape
from scalerl_lab.tasks import Demonstration, TaskSet, training_files

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

_CONTENT_VERSION = 2
"""Part of the cache key; raised when the same configuration would give other weights."""
_WARMUP_STEPS = 20


@dataclass(frozen=True, slots=True)
class Start:
    """Where RL begins, and what it cost whom."""

    policy: LlamaForCausalLM
    built_by: str
    """Run that built it, which is billed; empty where there was nothing to build."""
    flops: int
    wall_s: float


def content_key(recipe: Recipe) -> str:
    """Digest of all that decides the start's weights: model, tasks, the files they read, and warm start."""
    content: dict[str, Any] = {
        "version": _CONTENT_VERSION,
        "model": recipe.model.model_dump(mode="json"),
        # What is only measured, and how that is judged, plays no part in it.
        "tasks": recipe.tasks.model_dump(mode="json", exclude=_only_measured(recipe.tasks)),
        "warm_start": recipe.warm_start.model_dump(mode="json"),
    }
    if files := training_files(recipe.tasks):
        content["files"] = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _only_measured(tasks: Tasks) -> dict[str, Any]:
    names = dict.fromkeys(("downstream", "sandbox", "code_reward"), True)
    return {"parts": {"__all__": {"tasks": names}}} if tasks.type == "mixture" else names


def start_policy(recipe: Recipe, tasks: TaskSet, run_id: str, seed: int, cache: Path) -> Start:
    """The policy at step 0: from the cache, or built there by the first run that asks.

    Runs that ask at the same time wait for the one that builds; a half-written start is never seen.

    Raises:
        RunFailed: the warm start diverged.
    """
    if recipe.warm_start.type == "none":
        return Start(build_policy(recipe.model, tasks.tokenizer.size, seed), "", 0, 0.0)
    folder = cache / "warm_start"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{content_key(recipe)}.safetensors"
    with _only_one(path.with_suffix(".lock")):
        if not path.exists():
            _build(recipe, recipe.warm_start, tasks, run_id, path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    policy = build_policy(recipe.model, tasks.tokenizer.size, recipe.warm_start.seed)
    policy.load_state_dict(load_file(path))
    return Start(policy, about["built_by"], int(about["flops"]), float(about["wall_s"]))


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a lock that the system gives back when its process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, warm_start: Demonstrations, tasks: TaskSet, run_id: str, path: Path) -> None:
    began = time.perf_counter()
    policy = build_policy(recipe.model, tasks.tokenizer.size, warm_start.seed)
    flops = imitate(policy, tasks, warm_start)
    about = {
        "built_by": run_id,
        "flops": str(flops),
        "wall_s": repr(time.perf_counter() - began),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: each.cpu() for name, each in policy.state_dict().items()}, partial, metadata=about)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def imitate(policy: LlamaForCausalLM, tasks: TaskSet, warm_start: Demonstrations) -> int:
    """Train a policy on demonstrations, by the mean cross-entropy of the response tokens of each step.

    The rate rises over 20 steps and then falls by a cosine to a tenth.

    Returns:
        Counted operations.

    Raises:
        RunFailed: the loss or a gradient is not finite.
    """
    config = _adamw(warm_start)
    learner = TorchLearner(policy, config, "fp32")
    shape = ModelShape(matrix_params(policy), policy.config.num_hidden_layers, policy.config.hidden_size)
    per_step = warm_start.demonstrations_per_step
    shown = tasks.demonstrations(warm_start, warm_start.steps * per_step)
    flops = 0
    for step in range(1, warm_start.steps + 1):
        rows = shown[(step - 1) * per_step : step * per_step]
        tokens_BT, mask_BT = _padded(rows, tasks.tokenizer.pad_id, policy.device)
        length_B = torch.tensor([_length(row) for row in rows], device=policy.device)
        loss = -(learner.token_logprobs(tokens_BT, 1.0, length_B) * mask_BT).sum() / mask_BT.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        decay = 0.1 + 0.45 * (1 + math.cos(math.pi * step / warm_start.steps))
        if learner.apply_gradient(step, decay) is None:
            raise RunFailed(
                f"the warm start diverged at step {step} of {warm_start.steps}; lower warm_start.lr"
            )
        flops += shape.training_flops(map(_length, rows))
    return flops


def _length(row: Demonstration) -> int:
    return len(row.prompt) + len(row.response)


def _adamw(warm_start: Demonstrations) -> Optimizer:
    """AdamW of the supervised start: the recipe's RL optimiser plays no part in it."""
    return Optimizer(lr=warm_start.lr, warmup_steps=_WARMUP_STEPS, beta2=0.95, eps=1e-8)


def _padded(
    rows: list[Demonstration], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(_length, rows))
    tokens = [[*row.prompt, *row.response] for row in rows]
    mask = [[0.0] * len(row.prompt) + [1.0] * len(row.response) for row in rows]
    tokens_BT = torch.tensor([each + [pad_id] * (width - len(each)) for each in tokens], device=device)
    mask_BT = torch.tensor([each + [0.0] * (width - len(each)) for each in mask], device=device)
    return tokens_BT, mask_BT
