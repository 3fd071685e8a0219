"""Policies of stopping for ``replay``: the lab's own, and simple ones that any claim has to be held against.

    forecast        the sweep's rule, by ``analyse``, as the driver asks it
    none            every run goes to its budget
    last_value      stop an arm whose last value lies below the reference's at the same compute by the margin
    paper_point     the same of the ceiling that ScaleRL's grid of least-squares fits gives, as a number
    top_k           every run to its first measurement, the best k to their budgets
                    (Egele et al. 2023, "Is one epoch all you need")

The reference of ``last_value`` and ``paper_point`` is the control's mean, or the best other arm. They judge
when a run passes a multiple of 5 % of its budget, from a share of the budget on (the grace).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from scalerl_lab.decide.analysis import AnalysisJob, analyse
from scalerl_lab.decide.extension import Step, is_rival, next_step
from scalerl_lab.decide.looks import LOOK_FRACTION, is_look_due
from scalerl_lab.decide.recorded import SAME, Recorded
from scalerl_lab.decide.replay import Asked, Move, Order
from scalerl_lab.fit import SweepRun, paper_fit
from scalerl_lab.fit.published import BASE_R0
from scalerl_lab.records import Action, Cause, EvalPoint, Role, RunState

_MOVES = {
    Action.CONTINUE: Move.CONTINUE,
    Action.KILL: Move.KILL,
    Action.EXTEND: Move.EXTEND,
    Action.FINISH: Move.FINISH,
}
_LEAST_POINTS = 6
"""For the grid's three parameters, twice."""


class InTurn:
    """What policies share that neither pause nor choose: free slots go by the queue."""

    promises = False

    @property
    def first_share(self) -> float:
        """All of its budget."""
        return 1.0

    def choose(self, waiting: Sequence[str], paused: Sequence[str]) -> str | None:
        """The first in the queue."""
        return waiting[0] if waiting else None

    def over(self, run_id: str) -> Sequence[Order]:
        """Nothing follows from it."""
        return ()


@dataclass(slots=True)
class NoStop(InTurn):
    """Every run goes to its budget; one starts only if its whole budget is left."""

    recorded: Recorded
    promises: bool = field(default=True, init=False)

    def answer(self, asked: Asked) -> Sequence[Order]:
        """No order."""
        return ()


@dataclass(slots=True)
class Forecast(InTurn):
    """The sweep's own rule: the verdict of ``analyse``, with its reason."""

    recorded: Recorded
    every: float | None = None
    """Share of a run's budget from one look to the next; None: the driver's. With more, a long replay takes
    less time, and kills come later by half of it."""
    promises: bool = field(default=True, init=False)
    _ends: dict[str, float] = field(init=False)
    """Run -> compute at which its record ends."""

    def __post_init__(self) -> None:
        self._ends = {run.run_id: run.points[-1].gpu_hours for run in self.recorded.runs}

    @property
    def first_share(self) -> float:
        """The rule's."""
        return self.recorded.sweep.rule.extension.first_share

    def answer(self, asked: Asked) -> Sequence[Order]:
        """The verdict as an order; nothing at a point that is not asked about."""
        if not is_look_due(asked.run, self.recorded.sweep, self.every) and not asked.at_end:
            return ()
        decision = analyse(self.job(asked)).decision
        return [
            Order(
                run_id=decision.run_id,
                move=_MOVES[decision.action],
                cause=decision.cause.value,
                reason=decision.reason,
                granted_gpu_hours=decision.granted_gpu_hours,
                decision=decision,
            )
        ]

    def job(self, asked: Asked) -> AnalysisJob:
        """What the driver would ask at this moment."""
        free = asked.ledger.free
        return AnalysisJob(
            sweep=self.recorded.sweep,
            run=asked.run,
            runs=tuple(
                SweepRun(run.planned.run_id, run.planned.arm, run.points)
                for run in asked.runs
                if run is asked.run or not _ended_non_finite(run)
            ),
            control=self.recorded.control,
            free_gpu_hours=free,
            rivals=tuple(
                Step(run.planned.run_id, next_step(run, self.recorded.sweep))
                for run in asked.runs
                if run is not asked.run and self._is_rival(run, free)
            ),
        )

    def _is_rival(self, run: RunState, free_gpu_hours: float) -> bool:
        """Whether another run may ask for hours, and its record goes on."""
        goes_on = run.gpu_hours < self._ends[run.planned.run_id] * (1.0 - SAME)
        return goes_on and is_rival(run, self.recorded.sweep, free_gpu_hours)


def _ended_non_finite(run: RunState) -> bool:
    return run.last_decision is not None and run.last_decision.cause is Cause.NON_FINITE


@dataclass(slots=True)
class LastValue(InTurn):
    """Stop an arm whose last value lies below the reference's at the same compute by more than the margin."""

    recorded: Recorded
    margin: float = 0.02
    grace: float = 0.25
    """Share of the budget before which nobody is stopped."""
    best: bool = False
    """Whether the reference is the best other arm; else the control."""

    def answer(self, asked: Asked) -> Sequence[Order]:
        """A kill, or nothing."""
        return _kill_below(self, asked)

    def level(self, run: RunState, gpu_hours: float) -> float | None:
        """The run's last value up to a compute."""
        seen = [p.pass_rate for p in run.points if 0.0 < p.gpu_hours <= gpu_hours * (1.0 + SAME)]
        return seen[-1] if seen else None


@dataclass(slots=True)
class PaperPoint(InTurn):
    """Stop an arm whose ceiling, by the paper's fit up to the same compute, lies below the reference's."""

    recorded: Recorded
    margin: float = 0.02
    grace: float = 0.25
    best: bool = False

    def answer(self, asked: Asked) -> Sequence[Order]:
        """A kill, or nothing."""
        return _kill_below(self, asked)

    def level(self, run: RunState, gpu_hours: float) -> float | None:
        """The ceiling of the fit; None with fewer than six points or at an edge of the grid."""
        seen = tuple(p for p in run.points if p.gpu_hours <= gpu_hours * (1.0 + SAME))
        return _paper_ceiling(seen, self.recorded.sweep.fit_start_gpu_hours)


def forget_ceilings() -> None:
    """Forget the least-squares fits made so far; as ``analysis.forget_fits``."""
    _paper_ceiling.cache_clear()


@lru_cache(maxsize=4096)
def _paper_ceiling(points: tuple[EvalPoint, ...], fit_start_gpu_hours: float) -> float | None:
    start = [p.pass_rate for p in points if p.gpu_hours <= 0.0]
    fitted = [p for p in points if p.gpu_hours > 0.0 and p.gpu_hours >= fit_start_gpu_hours]
    if len(fitted) < _LEAST_POINTS:
        return None
    r0 = start[0] if start else BASE_R0
    found = paper_fit([p.gpu_hours for p in fitted], [p.pass_rate for p in fitted], r0)
    return None if found.at_edge else found.A


def _kill_below(policy: LastValue | PaperPoint, asked: Asked) -> Sequence[Order]:
    """A kill where the run's level lies below the reference's by more than the policy's margin."""
    run, budget = asked.run, asked.run.planned.budget_gpu_hours
    if run.planned.role is Role.CONTROL and not policy.best:
        return ()
    if asked.at_end or run.gpu_hours < policy.grace * budget or not passes(run, LOOK_FRACTION):
        return ()
    others = [
        other
        for other in asked.runs
        if (other.planned.arm != run.planned.arm if policy.best else other.planned.role is Role.CONTROL)
        and other.gpu_hours >= run.gpu_hours * (1.0 - SAME)
    ]
    levels = [level for other in others if (level := policy.level(other, run.gpu_hours)) is not None]
    own = policy.level(run, run.gpu_hours)
    if own is None or not levels:
        return ()
    reference = max(levels) if policy.best else sum(levels) / len(levels)
    if own >= reference - policy.margin:
        return ()
    reason = f"{own:.3f} lies below the reference's {reference:.3f} by more than {policy.margin:g}."
    return [Order(run.planned.run_id, Move.KILL, "below", reason)]


def passes(run: RunState, share: float) -> bool:
    """Whether a run's last point is the first past a multiple of a share of its budget."""
    step = share * run.planned.budget_gpu_hours
    before = run.points[-2].gpu_hours if len(run.points) > 1 else 0.0
    return int(run.gpu_hours / step * (1.0 + SAME)) > int(before / step * (1.0 + SAME))


@dataclass(slots=True)
class TopK(InTurn):
    """Every run to its first measurement after the start; then the best ``k`` of them to their budgets."""

    recorded: Recorded
    k: int = 1
    grace: float = 0.0
    """Share of the budget from which on they are measured; 0: at the first point."""
    _measured: dict[str, float | None] = field(default_factory=dict, init=False)
    """Run -> its value; None for one that ended before it had any."""
    _chosen: bool = field(default=False, init=False)

    def answer(self, asked: Asked) -> Sequence[Order]:
        """A pause at the first measurement; with the last of them the verdict on all."""
        run = asked.run
        least = self.grace * run.planned.budget_gpu_hours * (1.0 - SAME)
        if run.planned.run_id in self._measured or run.gpu_hours < least:
            return ()
        self._measured[run.planned.run_id] = run.points[-1].pass_rate
        if len(self._measured) < len(self.recorded.runs):
            return [
                Order(run.planned.run_id, Move.PAUSE, "waits", "Waits for the others' first measurement.")
            ]
        return self._choose_best()

    def over(self, run_id: str) -> Sequence[Order]:
        """A run that ends unmeasured is not waited for."""
        if self._chosen or run_id in self._measured:
            return ()
        self._measured[run_id] = None
        return self._choose_best() if len(self._measured) == len(self.recorded.runs) else ()

    def _choose_best(self) -> Sequence[Order]:
        self._chosen = True
        place = {run.run_id: number for number, run in enumerate(self.recorded.runs)}
        known = {name: value for name, value in self._measured.items() if value is not None}
        ranked = sorted(known, key=lambda name: (-known[name], place[name]))
        return [
            Order(name, Move.CONTINUE, "top_k", f"Among the best {self.k} at the first measurement.")
            if rank < self.k
            else Order(name, Move.KILL, "top_k", f"Not among the best {self.k} at the first measurement.")
            for rank, name in enumerate(ranked)
        ]
