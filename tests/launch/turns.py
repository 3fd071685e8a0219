"""How long the driver's turns take beside many runs at work: its loop, store, folders and process of fits.

    python -m tests.launch.turns --runs 1000 --points 200

Simulated curves lie in run folders as workers leave them; some runs report a point more before each turn.
Trials are held by a launcher that does nothing, so a turn is the driver's work alone.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from scalerl_lab.config.reading import read_profile
from scalerl_lab.config.sweep import Rule
from scalerl_lab.decide.recorded import Recorded, record
from scalerl_lab.fit.published import FIT_START_GPU_HOURS
from scalerl_lab.fit.simulate import BUDGET_GPU_HOURS, SweepKind, arms_of, simulate_run
from scalerl_lab.launch.analysis import analyst
from scalerl_lab.launch.driver import Driver
from scalerl_lab.launch.home import Home
from scalerl_lab.launch.launcher import TrialOver, TrialRequest
from scalerl_lab.launch.run_folder import Progress, RunFolder
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import EvalPoint, ProgressView, fact_to_json
from scalerl_lab.report.bench.decision_cases import question_over
from scalerl_lab.store import Store

SETTLING = 60
"""Turns before it is timed: trials are started, and what is due at first is asked."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Milliseconds of turns, and how many verdicts were put on record meanwhile."""

    settling: tuple[float, ...]
    timed: tuple[float, ...]
    verdicts: int


class Idle:
    """A launcher whose trials are at work elsewhere."""

    def start(self, request: TrialRequest) -> None: ...

    def over(self) -> list[TrialOver]:
        return []

    def stop(self, run_id: str) -> None: ...

    def close(self) -> None: ...


class Silent:
    """A watcher that looks away."""

    def started(self, plan: SweepPlan, headline: list[str]) -> None: ...

    def update(self, view: ProgressView) -> None: ...

    def said(self, sentence: str) -> None: ...


def sweep_at_work(runs: int, points: int) -> Recorded:
    """A leave-one-out sweep of published curves, three seeds of the control and one of each arm."""
    rng = np.random.default_rng(0)
    truths = [arm.truth for arm in arms_of(SweepKind.LEAVE_ONE_OUT)]
    arms = ["control"] * 3 + [f"arm{number}" for number in range(runs - 3)]
    spacing = BUDGET_GPU_HOURS / points
    curves = [
        simulate_run(
            truths[max(place - 2, 0) % len(truths)], rng, name=f"run{place}", spacing_gpu_hours=spacing
        )
        for place in range(runs)
    ]
    sweep = question_over(
        list(dict.fromkeys(arms)),
        kind="leave_one_out",
        budget_gpu_hours=BUDGET_GPU_HOURS,
        fit_start_gpu_hours=FIT_START_GPU_HOURS,
        rule=Rule(),
    )
    return record(sweep, curves, arms, "control")


def time_turns(runs: int, points: int, *, turns: int, news: int, folder: Path) -> Turns:
    """Drive a sweep whose runs are between three quarters and nine tenths of their way.

    Args:
        runs: at work.
        points: of a run at its budget.
        turns: how many are timed.
        news: runs that report a point before each turn.
        folder: an empty one.
    """
    recorded, rng = sweep_at_work(runs, points), np.random.default_rng(1)
    home = Home(folder, f"sqlite:///{folder / 'lab.db'}", "")
    planned = tuple(replace(run.planned, sweep_id="at_work") for run in recorded.runs)
    plan = SweepPlan("at_work", recorded.sweep, read_profile("laptop"), planned)
    store = Store.open(home.database_url)
    store.record_plan(plan)
    to_come: dict[str, list[EvalPoint]] = {}
    for run in recorded.runs:
        where = RunFolder(home.run_folder(run.run_id))
        where.create(run.planned.spec)
        seen = int(len(run.points) * rng.uniform(0.75, 0.9))
        _append(where, run.points[:seen])
        to_come[run.run_id] = list(run.points[seen:])
    with analyst() as fits:
        driver = Driver(
            plan=plan,
            store=store,
            launcher=Idle(),
            analyst=fits,
            home=home,
            watcher=Silent(),
            code_version="timed",
            max_live=runs,
        )
        driver._load()
        gc.collect()
        gc.freeze()
        took = []
        for _ in range(SETTLING + turns):
            for place in rng.choice(runs, size=news, replace=False).tolist():
                run_id = recorded.runs[place].run_id
                if to_come[run_id]:
                    point, where = to_come[run_id].pop(0), RunFolder(home.run_folder(run_id))
                    _append(where, [point])
                    where.write_progress(Progress(1, point.step, point.gpu_hours, 0, 1.0))
            began = time.perf_counter()
            driver._turn()
            took.append(1e3 * (time.perf_counter() - began))
            time.sleep(0.1)
    return Turns(tuple(took[:SETTLING]), tuple(took[SETTLING:]), len(store.decisions(sweep_id="at_work")))


def _append(folder: RunFolder, points: Sequence[EvalPoint]) -> None:
    with folder.facts.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(fact_to_json(point)) + "\n" for point in points)


@click.command()
@click.option("--runs", default=1000, show_default=True)
@click.option("--points", default=200, show_default=True)
@click.option("--turns", default=300, show_default=True)
@click.option("--news", default=20, show_default=True, help="Runs with a new point before each turn.")
def main(runs: int, points: int, turns: int, news: int) -> None:
    """Print how long turns take."""
    with tempfile.TemporaryDirectory() as folder:
        found = time_turns(runs, points, turns=turns, news=news, folder=Path(folder))
    for name, took in (("first", found.settling), ("later", found.timed)):
        middle, late = np.quantile(took, (0.5, 0.99))
        click.echo(
            f"{name} {len(took)} turns: median {middle:.0f} ms, "
            f"99 % within {late:.0f}, slowest {max(took):.0f}"
        )
    click.echo(f"{found.verdicts} verdicts")


if __name__ == "__main__":
    main()
