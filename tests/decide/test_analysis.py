"""What a verdict rests on: the joint fit of the whole sweep, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scalerl_lab.decide import AnalysisJob, analyse, analysis, fit_together
from scalerl_lab.fit import SweepRun, fit_sweep
from scalerl_lab.records import Action, Cause, EvalPoint, Role, RunState
from tests.decide.states import run_state, sweep
from tests.fit.curves import point, simulate

LOOK = 39
"""Number of points: up to 9,766 GPU-hours."""


def curve(seed: int, A: float = 0.61) -> tuple[EvalPoint, ...]:
    return simulate(np.random.default_rng(seed), A=A)


def job(num: int, *, own: float = 0.60, role: Role = Role.ARM, **more: SweepRun) -> AnalysisJob:
    """An arm after ``num`` points beside two control seeds."""
    points = curve(9, own)[:num]
    runs = [SweepRun(f"control-{seed}", "control", curve(seed)[:num]) for seed in range(2)]
    state = run_state(points, role=role)
    runs += [SweepRun(state.planned.run_id, state.planned.arm, points), *more.values()]
    return AnalysisJob(sweep(), state, tuple(runs), "control", 0.0)


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each joint fit had, in the order of the fits."""
    found: list[int] = []
    fit = fit_sweep

    def counted(runs: tuple[SweepRun, ...], **how: object) -> object:
        found.append(len(runs))
        return fit(runs, **how)  # type: ignore[arg-type]

    analysis._swept.cache_clear()
    monkeypatch.setattr(analysis, "fit_sweep", counted)
    return found


def test_a_look_is_by_the_fit_of_the_sweep(swept: list[int]) -> None:
    found = analyse(job(LOOK))
    assert swept == [3]
    assert (found.decision.action, found.decision.cause) == (Action.CONTINUE, Cause.WITHIN_MARGIN)
    assert found.decision.evidence.control_ceiling is not None
    together = fit_together(job(LOOK).runs, sweep())
    assert found.fit == together.runs["reverted-0"].fit
    assert found.decision.evidence.control_ceiling == together.arms["control"].interval
    assert [forecast.gpu_hours for forecast in found.forecasts] == [16000.0]
    # The same facts are fitted once.
    assert swept == [3]


def test_a_worse_arm_is_killed_and_a_control_never(swept: list[int]) -> None:
    found = analyse(job(LOOK, own=0.50))
    assert (found.decision.action, found.decision.cause) == (Action.KILL, Cause.CEILING_BELOW)
    assert analyse(job(LOOK, own=0.50, role=Role.CONTROL)).decision.action is Action.CONTINUE
    assert swept == [3]


def test_divergence_needs_no_siblings(swept: list[int]) -> None:
    start = job(LOOK)
    last = start.run.points[-1]
    fallen = tuple(point(last.step + i, last.gpu_hours + i, 0.2) for i in (1, 2))
    state: RunState = replace(start.run, points=(*start.run.points, *fallen))
    found = analyse(replace(start, run=state))
    assert (found.decision.action, found.decision.cause) == (Action.KILL, Cause.COLLAPSED)
    assert swept == []


def test_a_collapsed_seed_does_not_lower_the_bar() -> None:
    high = curve(3)[:LOOK]
    fallen = (*high[:-2], *(replace(p, pass_rate=0.2) for p in high[-2:]))
    with_it = analyse(job(LOOK, fallen=SweepRun("control-9", "control", fallen)))
    assert with_it == analyse(job(LOOK))


def test_the_order_of_runs_and_of_analyses_changes_nothing() -> None:
    first = analyse(job(LOOK))
    analysis._swept.cache_clear()
    analyse(job(LOOK - 3))
    turned = job(LOOK)
    assert analyse(replace(turned, runs=turned.runs[::-1])) == first


def test_what_is_to_come_is_asked_at_a_first_grant_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "to_come", lambda *_: 0.0)
    start = job(LOOK)
    state = replace(start.run, granted_gpu_hours=start.run.gpu_hours)
    asked = sweep(stop_resolved=True, extension={"first_share": 0.6})
    found = analyse(replace(start, sweep=asked, run=state)).decision
    assert (found.action, found.cause) == (Action.FINISH, Cause.RESOLVED), found.reason
