"""Every file of one run: who writes it, who reads it, and what survives a crash.

spec.json       what is to be run; written once by the driver
orders.json     compute granted and whether to stop; replaced by the driver, polled by the worker
facts.jsonl     what the worker saw; append-only, one fact a line, the first of all truths
progress.json   the worker's last step, several times a second; replaced
checkpoints/    the trainer's
lock            held by the worker while it lives
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scalerl_lab.records import (
    Fact,
    Measurement,
    PassCounts,
    RunSpec,
    fact_from_json,
    fact_to_json,
    from_json,
    to_json,
)


@dataclass(frozen=True, slots=True)
class Orders:
    """What the driver tells a worker."""

    granted_gpu_hours: float
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """The last optimiser step that a worker finished."""

    trial: int
    step: int
    gpu_hours: float
    flops: int
    wall_s: float
    """Seconds since the trial began."""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return value


class RunFolder:
    """The files of one run, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts = path / "facts.jsonl"
        self.lock = path / "lock"
        self.driver_lock = path / "driver.lock"
        self._spec = path / "spec.json"
        self._orders = path / "orders.json"
        self._progress = path / "progress.json"

    def create(self, spec: RunSpec) -> None:
        """Make the folder and write the spec; does nothing where it is there already."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._spec.exists():
            write_atomically(self._spec, json.dumps(to_json(spec), indent=1))

    def spec(self) -> RunSpec:
        """What is to be run."""
        return from_json(RunSpec, json.loads(self._spec.read_text(encoding="utf-8")))

    def write_orders(self, orders: Orders) -> None:
        """Tell the worker, now or at its next start."""
        write_atomically(self._orders, json.dumps(asdict(orders)))

    def orders(self) -> Orders:
        """What the driver said last; nothing is granted before it says so."""
        value = _read_json(self._orders)
        return Orders(**value) if value else Orders(granted_gpu_hours=0.0)

    def orders_stamp(self) -> tuple[int, int]:
        """Changes whenever the orders are replaced; cheap enough for every optimiser step."""
        try:
            stat = self._orders.stat()
        except FileNotFoundError:
            return (0, 0)
        return (stat.st_mtime_ns, stat.st_ino)

    def write_progress(self, progress: Progress) -> None:
        """Note the last finished step."""
        write_atomically(self._progress, json.dumps(asdict(progress)))

    def progress(self) -> Progress | None:
        """The last step some trial finished, or None before the first."""
        value = _read_json(self._progress)
        return Progress(**value) if value else None

    def read_facts(self, first_line: int = 0) -> list[Fact]:
        """Facts from a line number on; a last line without its newline is not a fact yet."""
        try:
            text = self.facts.read_bytes()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1].decode("utf-8").splitlines()
        return [fact_from_json(json.loads(line)) for line in whole[first_line:]]


class FactWriter:
    """Appends facts to a run's file, each one once, on disk before the call returns.

    A torn last line, left by a crash, is cut off when the file is opened. A fact that is on file
    already (the same measurement, told again after a resume) is dropped.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._seen = {fact_key(fact) for fact in folder.read_facts()}
        self._file = folder.facts.open("ab")
        whole = folder.facts.read_bytes().rfind(b"\n") + 1
        self._file.truncate(whole)

    def append(self, fact: Fact) -> None:
        """Write one fact through to the disk, unless it is on file."""
        key = fact_key(fact)
        if key in self._seen:
            return
        self._file.write(json.dumps(fact_to_json(fact)).encode("utf-8") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._seen.add(key)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_ONCE_PER_STEP = {"EvalPoint": "step", "CheckpointSaved": "step"}
_ONCE_PER_TRIAL = {"TrialStarted", "SandboxUsed", "TrialEnded"}
_KINDS_OF_STEPS = {"train", "evaluate", "checkpoint"}


def fact_key(fact: Fact) -> tuple[object, ...]:
    """What makes two facts the same: a measurement's step and name, a trial's number."""
    name = type(fact).__name__
    if name in _ONCE_PER_TRIAL:
        return (name, fact.trial)
    if name in _ONCE_PER_STEP:
        return (name, fact.step)  # type: ignore[union-attr]
    if isinstance(fact, Measurement):
        return (name, fact.step, fact.problem_set, fact.domain, fact.metric)
    if isinstance(fact, PassCounts):
        return (name, fact.step, fact.problem_set, fact.domain)
    entry: Any = fact
    if entry.kind in _KINDS_OF_STEPS:
        return (name, entry.kind, entry.from_step, entry.to_step)
    return (name, entry.kind, entry.trial)
