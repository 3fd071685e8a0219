"""Which checkpoints of a run are whole, told without torch.

    checkpoints/step-00000480/state.json            digest, run, step, counters, facts, hash of every file
                              policy.safetensors    weights
                              optimizer.safetensors AdamW's moments
                              rollout.safetensors   completions in flight, with their KV cache

A checkpoint is written beside its place and renamed into it, so a folder under its final name was once
whole; the digests also find what a disk lost later. What is not whole is as if it were not there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATE_FILE = "state.json"
_PREFIX = "step-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that is whole."""

    path: Path
    step: int
    run_id: str
    digest: str
    num_bytes: int
    state: dict[str, Any]
    """What ``state.json`` holds besides."""


def checkpoints_of(folder: Path) -> Path:
    """Where a run's checkpoints lie."""
    return folder / "checkpoints"


def name_of(step: int) -> str:
    """Folder name of the checkpoint at a step."""
    return f"{_PREFIX}{step:08d}"


def digest_of(state: dict[str, Any]) -> str:
    """SHA-256 of a state without its own digest; the hashes of the other files are part of it."""
    body = {name: value for name, value in state.items() if name != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def newest_whole(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that is whole, or None."""
    for path in sorted(checkpoints_of(folder).glob(f"{_PREFIX}*"), reverse=True):
        found = read_checkpoint(path)
        if found is not None:
            return found
    return None


def resumable_step(folder: Path) -> int:
    """Optimiser step from which a run in this folder would go on; 0 where it would start afresh."""
    found = newest_whole(folder)
    return found.step if found else 0


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at ``path`` if every one of its files is there and unchanged."""
    try:
        state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        if state["digest"] != digest_of(state) or path.name != name_of(state["step"]):
            return None
        if any(hash_file(path / name) != digest for name, digest in state["files"].items()):
            return None
        num_bytes = sum(file.stat().st_size for file in path.iterdir())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Checkpoint(path, state["step"], state["run_id"], state["digest"], num_bytes, state)
