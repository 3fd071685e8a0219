"""Random numbers by name and place, so that nothing has to be remembered to repeat them."""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, name: str, place: int) -> torch.Generator:
    """A generator of its own for one purpose at one place of a run.

    Args:
        seed: of the run.
        name: what the numbers are for.
        place: optimiser step or cohort.
    """
    digest = hashlib.sha256(f"{seed}/{name}/{place}".encode()).digest()
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator
