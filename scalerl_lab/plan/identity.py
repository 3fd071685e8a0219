"""Hashes that name a run and a sweep: equal if and only if the numbers they stand for are equal."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from scalerl_lab.config.profile import Meter, WallMeter
from scalerl_lab.config.recipe import Recipe

RESULTS_VERSION = 2
"""Raised whenever the same run would give other numbers; older runs are then not reused."""

_SANDBOX = {
    "fallback": "refuse",
    "workers": None,
    "limits": {
        "cpu_s": 2,
        "wall_s": 4.0,
        "memory_mb": 512,
        "processes": 16,
        "open_files": 64,
        "scratch_mb": 16,
        "files": 2048,
        "output_kb": 1024,
    },
}
_CODE_REWARD = {"score": "fraction", "total_s": 5.0, "float_tolerance": 1e-6}

NEUTRAL: dict[str, Any] = {
    "sampling.temperature_changes": [],
    "sampling.max_response_tokens_changes": [],
    "curriculum.stages": [],
    "refill": {"max_generated": 10, "when_short": "end"},
    "filter_on": "raw",
    "difficulty_filter": {"type": "none"},
    "reward": {"correct": 1.0, "wrong": -1.0},
    "length_reward": {"type": "none"},
    "length_control.applies_to": "correct",
    "length_control.scale": 1.0,
    "truncated": {"type": "score"},
    "early_truncation": {"type": "none"},
    "evaluation.temperature_changes": [],
    "tasks.downstream": {},
    "evaluation.downstream": None,
    "evaluation.boundary": None,
    "evaluation.ngram_overlap": None,
    "anchor": "gen",
    "mismatch_weight": {"type": "none"},
    "loss.dual_clip": None,
    "kl": {"type": "none"},
    "reference": {
        "every_steps": None,
        "kl_above": None,
        "stalled_points": None,
        "new_share": 1.0,
        "reset_optimizer": False,
    },
    "entropy_bonus": 0.0,
    "batch.mini_batches": 1,
    "batch.epochs": 1,
    "tasks.template": "{prompt}\n",
    "tasks.answer_format": "boxed",
    "tasks.partial_credit": False,
    "tasks.heldout": None,
    "tasks.weights": {},
    "tasks.sandbox": _SANDBOX,
    "tasks.code_reward": _CODE_REWARD,
    "tasks.parts.tasks.sandbox": _SANDBOX,
    "tasks.parts.tasks.code_reward": _CODE_REWARD,
    "tasks.parts.tasks.downstream of reasoning_gym": {},
}
"""Fields that were added to recipes -> their JSON value that means what recipes did before.

There they are left out, so that a run on record keeps its identity and is not trained anew. ``of`` a type:
the field was added to this member of a union, and others had it before.
"""

PROSE = frozenset({"name", "about", "stands_in"})
"""Fields of a recipe that describe it and decide nothing."""


def run_identity(recipe: Recipe, seed: int, meter: Meter) -> str:
    """The identity of a run: 12 hexadecimal digits.

    The first digits of SHA-256 over the canonical JSON of recipe, seed, meter and results version. Left
    out are the recipe's name, prose and stand-ins, what is neutral of later fields, and its resources,
    except under a ``wall`` meter, where GPU-hours depend on the devices held.
    """
    left_out = PROSE if isinstance(meter, WallMeter) else PROSE | {"resources"}
    return digest(
        {
            "recipe": without_neutral(recipe.model_dump(mode="json", exclude=set(left_out))),
            "seed": seed,
            "meter": meter.model_dump(mode="json"),
            "results_version": RESULTS_VERSION,
        },
        12,
    )


def without_neutral(value: dict[str, Any], at: str = "") -> dict[str, Any]:
    """A recipe's JSON without later fields that have their neutral value, at any depth.

    Members of a list of objects have the path of the list.
    """
    kept: dict[str, Any] = {}
    for name, inner in value.items():
        path = f"{at}{name}"
        paths = (path, f"{path} of {value.get('type')}")
        if any(each in NEUTRAL and inner == NEUTRAL[each] for each in paths):
            continue
        kept[name] = _inside(inner, f"{path}.")
    return kept


def _inside(value: Any, at: str) -> Any:
    if isinstance(value, list):
        return [_inside(each, at) for each in value]
    return without_neutral(value, at) if isinstance(value, dict) else value


def digest(value: Any, num_digits: int) -> str:
    """The first hexadecimal digits of SHA-256 over a value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:num_digits]
