"""What is replayed: the runs of a file of curves, or of a sweep in the store, as a sweep on record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.config.problems import nearest
from scalerl_lab.config.sweep import (
    Arm,
    Budget,
    Compare,
    LeaveOneOut,
    PassRate,
    Rule,
    Sweep,
    ToBest,
)
from scalerl_lab.decide.recorded import Recorded, RecordedRun, record
from scalerl_lab.errors import NotFound, UserError
from scalerl_lab.fit.curve import Curve
from scalerl_lab.report.forecasts.reading import PointFile, RunPoints
from scalerl_lab.report.words import listed, num
from scalerl_lab.store import Store

_COUNTED = frozenset(
    {"step", "timestep", "epoch", "iteration", "update", "episode", "frame", "token"}
    | {"second", "minute", "hour", "flop"}
)
"""Words for compute that are counted: 2,000 steps."""


@dataclass(frozen=True, slots=True)
class FileQuestion:
    """How the curves of a file are a sweep."""

    control: str | None
    """Arm that is the control; None: the runs are compared side by side."""
    run_gpu_hours: float | None
    """Budget of each run in the file's unit of compute; None: the longest record."""
    fit_start: float
    """Compute before which points are left out of fits."""
    bounds: tuple[float, float] | None
    """Lowest and highest value there can be; None: 0 and 1."""
    falling: bool
    """Whether lower is better."""
    rule: Rule


def recorded_file(file: PointFile, chosen: Sequence[RunPoints], asked: FileQuestion) -> Recorded:
    """The runs of a file as a sweep; an arm is what its column says, else each run is an arm.

    Runs without a point past compute 0 are left out (``left_out_of_file``).

    Values are put between 0 and 1 by their bounds, turned over where lower is better; a margin is then a
    share of the distance between the bounds.

    Raises:
        UserError: values beyond 0 and 1 and no bounds, no run with a point past compute 0, or a value beyond
            the bounds.
        NotFound: no arm of the control's name.
    """
    usable = [run for run in chosen if _is_trained(run)]
    if not usable:
        raise UserError(f"{file.source}: no run has a point past compute 0")
    low, high = asked.bounds or (0.0, 1.0)
    for run in usable:
        outside = run.value[(run.value < low) | (run.value > high)]
        if outside.size:
            hint = "" if asked.bounds else "; say what the lowest and highest value are: --bounds LO HI"
            raise UserError(
                f"{file.source}: run {run.name} has a value of {outside[0]:g}, "
                f"from {low:g} to {high:g} is expected{hint}"
            )
    arms = [run.arm or run.name for run in usable]
    names = list(dict.fromkeys(arms))
    if asked.control is not None and asked.control not in names:
        raise NotFound(
            f"no arm {asked.control!r} in {file.source}"
            f"{nearest(asked.control, names) or '; there are: ' + listed(names)} (--control)"
        )
    curves = [_unit_curve(run, low, high, falling=asked.falling) for run in usable]
    budget = asked.run_gpu_hours or max(float(curve.compute[-1]) for curve in curves)
    control = asked.control or names[0]
    side_by_side = asked.control is None and len(names) > 1
    sweep = Sweep(
        name="recorded",
        recipe=control,
        question=Compare(recipes=(control, *(name for name in names if name != control)))
        if side_by_side
        else LeaveOneOut(arms={"recorded": Arm(set={})}),
        budget=Budget(run_gpu_hours=budget),
        fit_start_gpu_hours=asked.fit_start,
        rule=asked.rule.model_copy(update={"quantity": PassRate(), "reference": ToBest()})
        if side_by_side
        else asked.rule,
    )
    return record(sweep, curves, arms, control)


def left_out_of_file(chosen: Sequence[RunPoints]) -> str | None:
    """A sentence on runs of a file that ``recorded_file`` leaves out, where there are any."""
    names = [run.name for run in chosen if not _is_trained(run)]
    if not names:
        return None
    return f"{num(len(names), 'run')} without a point past compute 0 left out: {listed(names)}"


def _is_trained(run: RunPoints) -> bool:
    return bool((run.compute > 0.0).any())


def unit_of(file: PointFile) -> str:
    """What a file's compute is counted in, by the name of its column."""
    words = re.split(r"[\W_]+", file.columns.x.strip())
    if [word.lower() for word in words] in (["gpu", "hour"], ["gpu", "hours"]):
        return "GPU-hours"
    plural = "s" if words[-1].lower() in _COUNTED else ""
    return " ".join(words).strip() + plural


def _unit_curve(run: RunPoints, low: float, high: float, *, falling: bool) -> Curve:
    width = high - low
    value = (high - run.value if falling else run.value - low) / width
    se = None if run.se is None else run.se / width
    return Curve.of(run.name, run.compute, value, se=se, bounds=(0.0, 1.0))


def recorded_sweep(store: Store, sweep_id: str, rule: Rule | None = None) -> Recorded:
    """A sweep of the store as far as it was run, to be decided on anew.

    Points that extensions brought are there for extensions. What a killed run would have done afterwards
    nobody knows: its record ends there, and so does its replay.

    Args:
        store: where it is on record.
        sweep_id: which.
        rule: instead of its own.

    Raises:
        UserError: none of its runs has a point.
    """
    plan = store.plan(sweep_id)
    runs = []
    for state in store.run_states(sweep_id):
        points = tuple(sorted(state.points, key=lambda point: point.gpu_hours))
        if any(point.gpu_hours > 0.0 for point in points):
            runs.append(RecordedRun(state.planned, points))
    if not runs:
        raise UserError(f"no run of sweep {sweep_id} has a point yet; there is nothing to replay")
    sweep = plan.sweep if rule is None else plan.sweep.model_copy(update={"rule": rule})
    return Recorded(sweep, tuple(runs), plan.control)


def left_out(store: Store, sweep_id: str, recorded: Recorded) -> str | None:
    """A sentence on runs without points, where there are any."""
    missing = len(store.run_states(sweep_id)) - len(recorded.runs)
    return f"{num(missing, 'run')} without a point left out" if missing else None


def with_seed(recorded: Recorded, seed: int) -> Recorded:
    """The queue in an order drawn from a seed, controls first; 0: as it is."""
    if seed == 0:
        return recorded
    order = np.random.default_rng(seed).permutation(len(recorded.runs))
    return recorded.queued([int(place) for place in order])
