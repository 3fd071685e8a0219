"""Complete states on disk, from which a run goes on as if it had never stopped."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from scalerl_lab.errors import CheckpointError
from scalerl_lab.rl.checkpoint_index import (
    STATE_FILE,
    Checkpoint,
    checkpoints_of,
    digest_of,
    hash_file,
    name_of,
    newest_whole,
)

Tensors = dict[str, torch.Tensor]

_KEEP = 2
_PARTIAL = ".writing-"


class CheckpointWriter:
    """One checkpoint being written: tensors first, its state last, then it takes its place.

    Files are on disk before the folder gets its final name, so that a crash at any moment leaves the
    checkpoint before this one whole and this one either whole or absent.
    """

    def __init__(self, folder: Path, run_id: str, step: int) -> None:
        self._root = checkpoints_of(folder)
        self._root.mkdir(parents=True, exist_ok=True)
        for left in self._root.glob(f"{_PARTIAL}*"):
            shutil.rmtree(left)
        self._partial = self._root / f"{_PARTIAL}{name_of(step)}"
        self._partial.mkdir()
        self._run_id = run_id
        self._step = step
        self._files: dict[str, str] = {}

    def add(self, name: str, tensors: Tensors) -> None:
        """Write tensors to ``name``.safetensors, through to the disk."""
        path = self._partial / f"{name}.safetensors"
        # Views of one storage are refused by safetensors, so each tensor gets its own.
        save_file({key: value.detach().cpu().clone() for key, value in tensors.items()}, path)
        _sync(path)
        self._files[path.name] = hash_file(path)

    def seal(self, state: dict[str, Any]) -> Checkpoint:
        """Write the state, put the checkpoint in its place, and drop those beyond the newest two.

        Args:
            state: plain JSON; ``run_id``, ``step``, ``files`` and ``digest`` are added.
        """
        whole = {**state, "run_id": self._run_id, "step": self._step, "files": self._files}
        whole["digest"] = digest_of(whole)
        path = self._partial / STATE_FILE
        path.write_text(json.dumps(whole), encoding="utf-8")
        _sync(path)
        final = self._root / name_of(self._step)
        if final.exists():
            # Only a checkpoint that is not whole can be here: a whole one would have been resumed from.
            shutil.rmtree(final)
        self._partial.rename(final)
        _sync(self._root)
        for old in sorted(self._root.glob("step-*"))[:-_KEEP]:
            shutil.rmtree(old)
        num_bytes = sum(file.stat().st_size for file in final.iterdir())
        return Checkpoint(final, self._step, self._run_id, whole["digest"], num_bytes, whole)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def newest_of_run(folder: Path, run_id: str) -> Checkpoint | None:
    """The newest whole checkpoint in a run's folder.

    Raises:
        CheckpointError: it belongs to another run.
    """
    found = newest_whole(folder)
    if found is not None and found.run_id != run_id:
        raise CheckpointError(
            f"{found.path} belongs to run {found.run_id}, but this folder is to hold run {run_id}; "
            "move the folder away, or give each run a folder of its own"
        )
    return found


def load_tensors(checkpoint: Checkpoint, name: str) -> Tensors:
    """The tensors of ``name``.safetensors."""
    loaded: Tensors = load_file(checkpoint.path / f"{name}.safetensors")
    return loaded
