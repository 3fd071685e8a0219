"""Sweeps on record: runs whose points are known to the end, as a replay wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scalerl_lab.config.evaluation import Evaluation
from scalerl_lab.config.profile import FlopsMeter
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.config.sweep import Sweep
from scalerl_lab.config.tasks import ChainArithmetic
from scalerl_lab.fit.curve import Curve
from scalerl_lab.records import EvalPoint, PlannedRun, Role, RunSpec

SAME = 1e-9
"""Computes, or moments, closer than this share are one."""
_UNKNOWN = Recipe(
    name="recorded", model=LlamaModel(), tasks=ChainArithmetic(), evaluation=Evaluation(num_prompts=256)
)
"""A curve on record does not say by what recipe it was made, and no verdict asks."""
_UNKNOWN_SE = 1e-6
"""Where a curve reports no errors: all scatter is left for the fit to find."""
_METER = FlopsMeter(flops_per_gpu_hour=1.0)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run and all that it would report; points past its budget are what an extension would bring."""

    planned: PlannedRun
    points: tuple[EvalPoint, ...]
    """By compute; a point at compute 0 is there from the start."""

    @property
    def run_id(self) -> str:
        """Identity of the run."""
        return self.planned.run_id

    def reached(self, gpu_hours: float) -> float:
        """The grant that the record can serve: the last point at or below it, at least the first trained."""
        trained = [point.gpu_hours for point in self.points if point.gpu_hours > 0.0]
        inside = [hours for hours in trained if hours <= gpu_hours * (1.0 + SAME)]
        return inside[-1] if inside else trained[0]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A sweep whose runs are on record."""

    sweep: Sweep
    runs: tuple[RecordedRun, ...]
    """In the order of the queue, the control's first; each has at least one trained point."""
    control: str
    """Name of the control's arm."""

    @property
    def full_gpu_hours(self) -> float:
        """What all runs together use up to their budgets."""
        return sum(run.reached(run.planned.budget_gpu_hours) for run in self.runs)

    def under(self, sweep: Sweep) -> Recorded:
        """The same runs under another question, budget or rule."""
        budget = sweep.budget.run_gpu_hours
        runs = tuple(replace(r, planned=replace(r.planned, budget_gpu_hours=budget)) for r in self.runs)
        return Recorded(sweep, runs, self.control)

    def queued(self, order: Sequence[int]) -> Recorded:
        """The same runs in another order, the control's still first; ``order`` is a permutation."""
        mixed = [self.runs[place] for place in order]
        control_first = sorted(mixed, key=lambda run: run.planned.role is not Role.CONTROL)
        runs = tuple(
            replace(run, planned=replace(run.planned, order=place)) for place, run in enumerate(control_first)
        )
        return Recorded(self.sweep, runs, self.control)


def record(sweep: Sweep, curves: Sequence[Curve], arms: Sequence[str], control: str) -> Recorded:
    """Curves as a sweep on record.

    Args:
        sweep: the question, budget and rule.
        curves: one for each run, named apart, values within [0, 1], higher is better; their start is what was
            measured before training.
        arms: the arm of each; runs of one arm are its seeds, in order.
        control: which of the arms is the control; its runs are put first.

    Raises:
        ValueError: lengths or names do not fit, a curve is empty, a value lies outside [0, 1], or no curve is
            of the control.
    """
    if len(curves) != len(arms):
        raise ValueError(f"{len(curves)} curves and {len(arms)} arms; one arm for each is needed")
    if control not in arms:
        raise ValueError(
            f"no curve is of the control {control!r}; there are: {', '.join(dict.fromkeys(arms))}"
        )
    if len({curve.name for curve in curves}) < len(curves):
        raise ValueError("two curves have the same name")
    seeds = [list(arms[:place]).count(arm) for place, arm in enumerate(arms)]
    runs = []
    places = sorted(range(len(curves)), key=lambda place: arms[place] != control)
    for order, place in enumerate(places):
        curve, role = curves[place], Role.CONTROL if arms[place] == control else Role.ARM
        planned = PlannedRun(
            sweep_id="recorded",
            arm=arms[place],
            role=role,
            changes=(),
            budget_gpu_hours=sweep.budget.run_gpu_hours,
            spec=RunSpec(curve.name, _UNKNOWN, seeds[place], _METER),
            order=order,
        )
        runs.append(RecordedRun(planned, points_of(curve)))
    return Recorded(sweep, tuple(runs), control)


def points_of(curve: Curve) -> tuple[EvalPoint, ...]:
    """The points of a curve as a run reports them, with the start at compute 0 where it is known.

    Raises:
        ValueError: there is no point, or a value lies outside [0, 1].
    """
    if curve.compute.size == 0:
        raise ValueError(f"{curve.name}: no point past compute 0")
    errors = [_UNKNOWN_SE] * curve.compute.size if curve.se is None else curve.se.tolist()
    found = list(zip(curve.compute.tolist(), curve.value.tolist(), errors, strict=True))
    if curve.r0 is not None:
        found.insert(0, (0.0, curve.r0, curve.r0_se / 2.0**0.5 if curve.r0_se else _UNKNOWN_SE))
    outside = [value for _, value, _ in found if not 0.0 <= value <= 1.0]
    if outside:
        raise ValueError(f"{curve.name}: found {outside[0]:g}, values from 0 to 1 are expected")
    first = int(curve.r0 is None)
    return tuple(
        EvalPoint(
            trial=1,
            at=0.0,
            step=first + place,
            gpu_hours=hours,
            pass_rate=value,
            pass_rate_se=error,
            num_prompts=0,
            num_samples=0,
            truncation_rate=0.0,
            mean_tokens=0.0,
            entropy=0.0,
            flops=0,
        )
        for place, (hours, value, error) in enumerate(found)
    )
