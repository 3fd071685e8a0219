"""What a plan could see before it is run: simulated sweeps with its seeds and budgets, fitted as it would be.

Half of the arms of a simulated sweep tie with the control, half lie below it by the difference in question;
all follow the law with the published efficiency, midpoint, noise and spread of seeds. An arm is seen to be
worse when the joint posterior gives P(ceiling < the control's) the demanded certainty c. Each design is
simulated as often as the seconds allow, in turn. Counts of a few sweeps say little, so power is computed
from what a few sweeps tell well, the posterior's standard deviation s of a difference: an estimate that
scatters by s about a difference of -d is seen with probability Phi(d / s - Phi^-1(c)), mean over the worse
arms. The counts stand beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.decide.recorded import points_of
from scalerl_lab.fit import SweepRun, ceiling_difference, fit_sweep
from scalerl_lab.fit.published import LEAVE_ONE_OUT
from scalerl_lab.fit.simulate import Arm, Truth, simulate_arms
from scalerl_lab.plan import SweepPlan
from scalerl_lab.report.bench.decision_rows import Mean, mean_over, share_over
from scalerl_lab.report.words import ABSENT, hours, num, percent

MOST_ARMS = 8
"""Simulated beside the control: fits of more runs take longer and tell the same of each."""
_SDS_OF_95 = 1.96
LEAST_SEEN = 0.8
"""A design counts as enough when it sees the difference at least this often."""


@dataclass(frozen=True, slots=True)
class Design:
    """Seeds and budget of a sweep."""

    control_seeds: int
    arm_seeds: int
    run_gpu_hours: float
    num_arms: int
    """Besides the control."""

    @property
    def gpu_hours(self) -> float:
        """Of all runs."""
        return self.run_gpu_hours * (self.control_seeds + self.arm_seeds * self.num_arms)


@dataclass(slots=True)
class Seen:
    """What simulations of one design showed."""

    design: Design
    half_widths: list[float] = field(default_factory=list)
    """Of the 95 % interval of a difference: a mean for each sweep."""
    expected: list[float] = field(default_factory=list)
    """Probability that a worse arm is seen, by the widths: a mean for each sweep."""
    worse: list[tuple[int, int]] = field(default_factory=list)
    """(seen, arms) among those that are worse, for each sweep."""
    tied: list[tuple[int, int]] = field(default_factory=list)
    """(seen, arms) among those that tie."""

    @property
    def power(self) -> Mean | None:
        """Probability that a worse arm is seen, by the widths of the intervals."""
        return mean_over(self.expected) if self.expected else None

    @property
    def counted(self) -> Mean | None:
        """Share of the worse arms that were seen to be."""
        return share_over(self.worse)

    @property
    def false_alarms(self) -> Mean | None:
        """Share of the tied arms that were taken for worse."""
        return share_over(self.tied)

    @property
    def half_width(self) -> Mean | None:
        """Mean half of the 95 % interval of a difference."""
        return mean_over(self.half_widths) if self.half_widths else None


@dataclass(frozen=True, slots=True)
class PowerAsked:
    """What a plan is to see, and how long may be simulated."""

    difference: float = 0.02
    certainty: float = 0.95
    seconds: float = 60.0
    seed: int = 0
    midpoint_gpu_hours: float = LEAVE_ONE_OUT[0].C_mid


def designs_of(plan: SweepPlan) -> list[Design]:
    """The plan's own design, then half and twice its budget, more arm seeds, and more control seeds."""
    control = len(plan.runs_of(plan.control))
    arms = [arm for arm in plan.arms if arm != plan.control]
    seeds = max((len(plan.runs_of(arm)) for arm in arms), default=len(plan.proposal_seeds))
    budget, num_arms = plan.sweep.budget.run_gpu_hours, max(plan.num_arms - 1, 1)
    wanted = [
        (control, seeds, budget),
        (control, seeds, 0.5 * budget),
        (control, seeds + 1, budget),
        (control + 3, seeds, budget),
        (control, seeds, 2.0 * budget),
        (control + 3, seeds + 2, budget),
    ]
    return [Design(c, a, gpu_hours, num_arms) for c, a, gpu_hours in wanted]


def measure_power(
    plan: SweepPlan,
    asked: PowerAsked,
    *,
    designs: Sequence[Design] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Seen]:
    """Simulate the designs in turn until the seconds are over; the first once in any case.

    The n-th simulation of a design is the same whatever the seconds.
    """
    found = [Seen(design) for design in designs or designs_of(plan)]
    end, number, longest = clock() + asked.seconds, 0, 0.0
    while True:
        for place, seen in enumerate(found):
            began = clock()
            # A fit is not begun that would likely outlast the time.
            if (number or place) and began + longest > end:
                return found
            simulate_once(seen, plan, asked, np.random.default_rng([asked.seed, place, number]))
            longest = max(longest, clock() - began)
        number += 1


def simulate_once(seen: Seen, plan: SweepPlan, asked: PowerAsked, rng: np.random.Generator) -> None:
    """One sweep of a design, fitted together; what it shows is added to ``seen``."""
    design = seen.design
    published = LEAVE_ONE_OUT[0]
    control = Truth(published.A, published.B, asked.midpoint_gpu_hours)
    below = Truth(published.A - asked.difference, published.B, asked.midpoint_gpu_hours)
    spacing = min(published.spacing_gpu_hours, design.run_gpu_hours / 20.0)
    num_arms = min(max(design.num_arms, 2), MOST_ARMS)
    arms = [Arm("control", control, spacing, design.control_seeds)]
    for number in range(num_arms):
        name, truth = (f"worse_{number}", below) if number % 2 == 0 else (f"tied_{number}", control)
        arms.append(Arm(name, truth, spacing, design.arm_seeds))
    simulated = simulate_arms(arms, rng, budget_gpu_hours=design.run_gpu_hours)
    runs = [SweepRun(run.curve.name, run.arm.name, points_of(run.curve)) for run in simulated.runs]
    fitted = fit_sweep(runs, fit_start_gpu_hours=plan.sweep.fit_start_gpu_hours, rule=plan.sweep.rule)
    counts = {"worse": [0, 0], "tied": [0, 0]}
    widths: list[float] = []
    expected: list[float] = []
    demanded = NormalDist().inv_cdf(asked.certainty)
    reference = fitted.arms.get("control")
    for name in (arm.name for arm in arms[1:]):
        count = counts[name.partition("_")[0]]
        count[1] += 1
        if reference is None or name not in fitted.arms:
            continue
        difference = ceiling_difference(fitted.arms[name], reference)
        widths.append(0.5 * (difference.interval.high95 - difference.interval.low95))
        count[0] += difference.probability_below(0.0) >= asked.certainty
        if name.startswith("worse"):
            sd = max(widths[-1] / _SDS_OF_95, 1e-9)
            expected.append(NormalDist().cdf(asked.difference / sd - demanded))
    if widths:
        seen.half_widths.append(float(np.mean(widths)))
    if expected:
        seen.expected.append(float(np.mean(expected)))
    seen.worse.append((counts["worse"][0], counts["worse"][1]))
    seen.tied.append((counts["tied"][0], counts["tied"][1]))


def enough(found: Sequence[Seen]) -> Seen | None:
    """The cheapest design that sees the difference often enough."""
    able = [seen for seen in found if seen.power is not None and seen.power.value >= LEAST_SEEN]
    return min(able, key=lambda seen: seen.design.gpu_hours) if able else None


def power_tables(found: Sequence[Seen], asked: PowerAsked, price: float | None) -> RenderableType:
    """A line for each design, the plan's own first, and what follows."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("seeds", "a run", "GPU-hours", "sweeps", "95 % interval", "power", "seen", "false"):
        table.add_column(column, justify="left" if column == "seeds" else "right", no_wrap=True)
    if price is not None:
        table.add_column("money", justify="right")
    for place, seen in enumerate(found):
        design = seen.design
        table.add_row(
            f"control {design.control_seeds}, arm {design.arm_seeds}{' (the plan)' if place == 0 else ''}",
            hours(design.run_gpu_hours),
            hours(design.gpu_hours),
            str(len(seen.worse)),
            ABSENT if seen.half_width is None else f"± {seen.half_width.value:.4f}",
            _share(seen.power),
            _count(seen.worse),
            _count(seen.tied),
            *([] if price is None else [f"{design.gpu_hours * price:,.0f}"]),
        )
    return Group(Text(_title(found, asked)), table, Text(_answer(found, asked)))


def _title(found: Sequence[Seen], asked: PowerAsked) -> str:
    total = sum(len(seen.worse) for seen in found)
    return (
        f"Power: a ceiling lower by {asked.difference:g}, seen with probability {asked.certainty:g}; "
        f"{num(total, 'sweep')} simulated with the published law, noise and spread of seeds "
        f"(midpoint {hours(asked.midpoint_gpu_hours)} GPU-hours)"
    )


def _answer(found: Sequence[Seen], asked: PowerAsked) -> str:
    cheapest, simulated = enough(found), [seen for seen in found if seen.worse]
    few = len(simulated) < len(found)
    more = " Not all designs were simulated: --power-seconds gives them more time." if few else ""
    if cheapest is None:
        wanted = f"a difference of {asked.difference:g} in {percent(LEAST_SEEN)} of its arms"
        return f"No design here sees {wanted}.{more}"
    design, power = cheapest.design, cheapest.power
    assert power is not None
    return (
        f"Enough to see it in {percent(LEAST_SEEN)} of the arms: {hours(design.gpu_hours)} GPU-hours, "
        f"control {design.control_seeds} and arm {design.arm_seeds} seeds of {hours(design.run_gpu_hours)} "
        f"(power {_share(power)}).{more}"
    )


def power_json(found: Sequence[Seen], asked: PowerAsked) -> dict[str, Any]:
    """What was asked, and each design with what its simulations showed."""
    return {
        "difference": asked.difference,
        "certainty": asked.certainty,
        "seconds": asked.seconds,
        "seed": asked.seed,
        "midpoint_gpu_hours": asked.midpoint_gpu_hours,
        "designs": [
            {
                "control_seeds": seen.design.control_seeds,
                "arm_seeds": seen.design.arm_seeds,
                "run_gpu_hours": seen.design.run_gpu_hours,
                "gpu_hours": seen.design.gpu_hours,
                "sweeps": len(seen.worse),
                "interval95_half_width": _mean_json(seen.half_width),
                "power": _mean_json(seen.power),
                "seen": _mean_json(seen.counted),
                "false_alarms": _mean_json(seen.false_alarms),
            }
            for seen in found
        ],
    }


def _mean_json(mean: Mean | None) -> dict[str, float | None] | None:
    return None if mean is None else {"value": mean.value, "se": mean.se}


def _count(counts: Sequence[tuple[int, int]]) -> str:
    return f"{sum(done for done, _ in counts)}/{sum(of for _, of in counts)}"


def _share(mean: Mean | None) -> str:
    if mean is None:
        return ABSENT
    return f"{100 * mean.value:.0f} %" + ("" if mean.se is None else f" ± {100 * mean.se:.0f}")
