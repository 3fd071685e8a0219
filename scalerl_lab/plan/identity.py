"""Hashes that name a run and a sweep: equal if and only if the numbers they stand for are equal."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from scalerl_lab.config.profile import Meter, WallMeter
from scalerl_lab.config.recipe import Recipe

RESULTS_VERSION = 1
"""Raised whenever the same run would give other numbers; older runs are then not reused."""

PROSE = frozenset({"name", "about", "stands_in"})
"""Fields of a recipe that describe it and decide nothing."""


def run_identity(recipe: Recipe, seed: int, meter: Meter) -> str:
    """The identity of a run: 12 hexadecimal digits.

    The first digits of SHA-256 over the canonical JSON of recipe, seed, meter and results version. Left
    out are the recipe's name, prose and stand-ins, and its resources, except under a ``wall`` meter,
    where GPU-hours depend on the devices held.
    """
    left_out = PROSE if isinstance(meter, WallMeter) else PROSE | {"resources"}
    return digest(
        {
            "recipe": recipe.model_dump(mode="json", exclude=set(left_out)),
            "seed": seed,
            "meter": meter.model_dump(mode="json"),
            "results_version": RESULTS_VERSION,
        },
        12,
    )


def digest(value: Any, num_digits: int) -> str:
    """The first hexadecimal digits of SHA-256 over a value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:num_digits]
