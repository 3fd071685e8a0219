"""Kill the driver of a sweep at random moments, go on, and hold the result against an undisturbed sweep.

    python -m tests.e2e.crash SWEEP --home FOLDER [--kills 5] [--seed 0] [--reuse-undisturbed]

Every kill is SIGKILL to the driver alone, after a time drawn uniformly from 2 to 50 % of the undisturbed
sweep's duration, counted from the driver's own start. Afterwards the same command runs to its end, and
these must hold: every point that both sweeps have is equal bit for bit; no point of a run is missing or
doubled, on file or in SQL; the training entries of each run's ledger follow each other without gap or
overlap and add up to its last point; what was killed by a decision is still killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from scalerl_lab.launch.run_folder import RunFolder
from scalerl_lab.records import SPEED_FIELDS, Action, EvalPoint, LedgerKind, RunState, RunStatus
from scalerl_lab.store import Store

_NOT_OF_THE_CURVE = {"trial", "at", *SPEED_FIELDS}
"""Fields of a point that say when it was measured and where the wall time went, not what."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found."""

    kills_at_s: tuple[float, ...]
    num_points_undisturbed: int
    num_points_disturbed: int
    num_common: int
    differing: tuple[str, ...]
    missing_or_doubled: tuple[str, ...]
    ledger_faults: tuple[str, ...]
    unkilled: tuple[str, ...]
    lost_gpu_hours: float

    @property
    def sound(self) -> bool:
        """Whether everything held."""
        return not (self.differing or self.missing_or_doubled or self.ledger_faults or self.unkilled)


def _start(sweep: str, home: Path) -> subprocess.Popen[bytes]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "driver.log").open("ab") as log:
        return subprocess.Popen(
            [Path(sys.executable).with_name("lab"), "sweep", "run", sweep],
            env=os.environ | {"LAB_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def run_to_end(sweep: str, home: Path, timeout_s: float) -> float:
    """Run the sweep's command to its end; returns its seconds."""
    began = time.monotonic()
    process = _start(sweep, home)
    code = process.wait(timeout=timeout_s)
    if code != 0:
        tail = (home / "driver.log").read_text()[-3000:]
        raise RuntimeError(f"the sweep ended with exit code {code}:\n{tail}")
    return time.monotonic() - began


def run_with_kills(sweep: str, home: Path, kills_at_s: list[float], timeout_s: float) -> None:
    """Run the sweep's command, kill its driver that many times, then let it end."""
    for after_s in kills_at_s:
        process = _start(sweep, home)
        try:
            process.wait(timeout=after_s)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    run_to_end(sweep, home, timeout_s)


def _states(home: Path) -> tuple[Store, str, dict[str, RunState]]:
    store = Store.open(f"sqlite:///{home / 'lab.db'}")
    sweep_id = store.sweeps()[-1].sweep_id
    return store, sweep_id, {run.planned.run_id: run for run in store.run_states(sweep_id)}


def _curve(run: RunState) -> dict[int, dict[str, object]]:
    return {
        point.step: {k: v for k, v in asdict(point).items() if k not in _NOT_OF_THE_CURVE}
        for point in run.points
    }


def _gaps(label: str, home: Path, run: RunState) -> list[str]:
    """Faults of the run's own file, where a repeated point would stand twice, and of its rows in SQL."""
    every_steps = run.planned.spec.recipe.evaluation.every_steps
    facts = RunFolder(home / "runs" / run.planned.run_id).read_facts()
    steps = [fact.step for fact in facts if isinstance(fact, EvalPoint)]
    faults = [f"{label}: step {s} twice" for s in set(steps) if steps.count(s) > 1]
    scheduled = set(range(0, max(steps, default=0) + 1, every_steps))
    faults += [f"{label}: step {s} missing" for s in sorted(scheduled - set(steps))]
    if set(steps) != {point.step for point in run.points}:
        faults.append(f"{label}: file and SQL hold different points")
    return faults


def _ledger_faults(store: Store, sweep_id: str, run: RunState) -> list[str]:
    label = f"{run.planned.arm}:{run.planned.spec.seed}"
    entries = sorted(
        (row.entry for row in store.ledger(sweep_id) if row.run_id == run.planned.run_id),
        key=lambda entry: entry.to_step,
    )
    train = [entry for entry in entries if entry.kind is LedgerKind.TRAIN]
    faults = [
        f"{label}: training entries {a.from_step}-{a.to_step} and {b.from_step}-{b.to_step} do not join"
        for a, b in pairwise(train)
        if a.to_step != b.from_step
    ]
    if run.points and sum(entry.flops for entry in train) != run.points[-1].flops:
        faults.append(f"{label}: ledger trains {sum(e.flops for e in train)}, curve {run.points[-1].flops}")
    return faults


def compare(undisturbed: Path, disturbed: Path, kills_at_s: list[float]) -> Comparison:
    """Hold the two sweeps against each other."""
    _, _, before = _states(undisturbed)
    store, sweep_id, after = _states(disturbed)
    differing, faults, ledger, unkilled = [], [], [], []
    num_common = 0
    for run_id, run in after.items():
        label = f"{run.planned.arm}:{run.planned.spec.seed}"
        mine, other = _curve(run), _curve(before[run_id])
        common = mine.keys() & other.keys()
        num_common += len(common)
        differing += [f"{label}: step {step}" for step in sorted(common) if mine[step] != other[step]]
        faults += _gaps(label, disturbed, run)
        if run.status is RunStatus.FINISHED is before[run_id].status and max(mine) != max(other):
            faults.append(f"{label}: ends at step {max(mine)}, undisturbed at {max(other)}")
        ledger += _ledger_faults(store, sweep_id, run)
        verdicts = [row.decision.action for row in store.decisions(sweep_id, run_id)]
        if Action.KILL in verdicts and run.status is not RunStatus.KILLED:
            unkilled.append(label)
    return Comparison(
        kills_at_s=tuple(round(s, 1) for s in kills_at_s),
        num_points_undisturbed=sum(len(run.points) for run in before.values()),
        num_points_disturbed=sum(len(run.points) for run in after.values()),
        num_common=num_common,
        differing=tuple(differing),
        missing_or_doubled=tuple(faults),
        ledger_faults=tuple(ledger),
        unkilled=tuple(unkilled),
        lost_gpu_hours=sum(
            row.entry.gpu_hours for row in store.ledger(sweep_id) if row.entry.kind is LedgerKind.LOST
        ),
    )


def main() -> int:
    """Run the experiment and print what was found as JSON."""
    parser = argparse.ArgumentParser(description="Kill a sweep's driver at random moments and compare.")
    parser.add_argument("sweep")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=1800.0)
    parser.add_argument("--reuse-undisturbed", action="store_true")
    options = parser.parse_args()
    undisturbed, disturbed = options.home / "undisturbed", options.home / "disturbed"
    seconds_file = options.home / "undisturbed.seconds"
    if options.reuse_undisturbed and seconds_file.exists():
        seconds = float(seconds_file.read_text())
    else:
        seconds = run_to_end(options.sweep, undisturbed, options.timeout_s)
        seconds_file.write_text(str(seconds))
    draw = random.Random(options.seed)
    kills = [draw.uniform(0.02, 0.5) * seconds for _ in range(options.kills)]
    run_with_kills(options.sweep, disturbed, kills, options.timeout_s)
    found = compare(undisturbed, disturbed, kills)
    print(json.dumps(asdict(found) | {"sound": found.sound, "undisturbed_s": round(seconds, 1)}, indent=1))
    return 0 if found.sound else 1


if __name__ == "__main__":
    raise SystemExit(main())
