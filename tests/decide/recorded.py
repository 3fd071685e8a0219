"""Small sweeps on record, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from scalerl_lab.config.sweep import Arm, Budget, Extension, LeaveOneOut, Rule, Sweep
from scalerl_lab.decide.policies import InTurn
from scalerl_lab.decide.recorded import Recorded, record
from scalerl_lab.decide.replay import Asked, Move, Order
from scalerl_lab.fit.curve import Curve

BUDGET = 4.0


def sweep_of(
    values: Mapping[str, Sequence[float]], *, budget: float = BUDGET, rule: Rule | None = None
) -> Recorded:
    """Runs ``a``, ``b``, ... of arms of their names, a point at every GPU-hour; the first is the control."""
    sweep = Sweep(
        name="by_hand",
        recipe="small",
        question=LeaveOneOut(arms={"reverted": Arm(set={})}),
        budget=Budget(run_gpu_hours=budget),
        fit_start_gpu_hours=0.0,
        rule=rule or Rule(extension=Extension(max_factor=2.0)),
    )
    curves = [Curve.of(name, range(1, len(each) + 1), each) for name, each in values.items()]
    names = list(values)
    return record(sweep, curves, names, names[0])


def level(*values: float, num: int = 4) -> dict[str, list[float]]:
    """Runs ``a``, ``b``, ... that stay at their values."""
    return {chr(ord("a") + place): [value] * num for place, value in enumerate(values)}


@dataclass
class Scripted(InTurn):
    """Gives the orders of a script, and keeps what it was told."""

    script: Callable[[Asked], Sequence[Order]]
    promises: bool = False
    share: float = 1.0
    at_over: Mapping[str, Sequence[Order]] = field(default_factory=dict)
    told: list[Asked] = field(default_factory=list)

    @property
    def first_share(self) -> float:
        return self.share

    def answer(self, asked: Asked) -> Sequence[Order]:
        self.told.append(asked)
        return self.script(asked)

    def over(self, run_id: str) -> Sequence[Order]:
        return self.at_over.get(run_id, ())


def order(run_id: str, move: Move, granted: float | None = None) -> Order:
    return Order(run_id, move, "script", "As written.", granted)


def at(points: Mapping[tuple[str, float], Move]) -> Callable[[Asked], Sequence[Order]]:
    """Orders on a run at its own point of a compute."""

    def script(asked: Asked) -> Sequence[Order]:
        run_id = asked.run.planned.run_id
        move = points.get((run_id, asked.run.gpu_hours))
        return [] if move is None else [order(run_id, move)]

    return script
