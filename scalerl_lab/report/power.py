"""What a plan could see before it is run: simulated sweeps with its seeds and budgets, fitted as it would be.

Half of the arms of a simulated sweep tie with the reference, half are worse by the difference in question;
all follow the law with the published efficiency, noise and spread of seeds, and each run goes to its
budget. An arm is seen to be worse by the rule's own measure: its quantity against its reference, P(worse by
more than the margin) at least the probability c that an answer needs, and both identified. An arm that is
not identified is not seen. So a difference that is no larger than the margin is hardly ever seen.

Counts of a few sweeps say little. An arm is seen where the c-quantile u of its difference lies below
-margin; over the worse arms u scatters about its mean m with standard deviation s, and power is
i Phi((-margin - m) / s), with i the share of them that is identified. This holds what shrinkage and the
posterior's tails do to the answer. The counts stand beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from scalerl_lab.config.sweep import Ceiling, GpuHours, PassRate, Rule, ToLevel
from scalerl_lab.decide.quantity import Measure
from scalerl_lab.decide.recorded import points_of
from scalerl_lab.errors import UserError
from scalerl_lab.fit import Difference, PooledCeiling, SweepRun, fit_sweep
from scalerl_lab.fit.law import gain_share, hours_to_reach
from scalerl_lab.fit.published import LEAVE_ONE_OUT
from scalerl_lab.fit.simulate import Arm, Truth, simulate_arms
from scalerl_lab.plan import SweepPlan
from scalerl_lab.report.bench.decision_rows import Mean, mean_over, share_over

MOST_ARMS = 8
"""Simulated beside the control: fits of more runs take longer and tell the same of each."""
LEAST_SEEN = 0.8
"""A design counts as enough when it sees the difference at least this often."""
LEAST_SWEEPS = 5
"""Simulated of a design before anything is concluded from it."""
_CONTROL = "control"
_LEAST_SD = 1e-9


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


@dataclass(frozen=True, slots=True)
class PowerAsked:
    """What a plan is to see, and how long may be simulated."""

    rule: Rule
    difference: float
    """In the rule's quantity; of GPU-hours the share of them that a worse arm takes more."""
    seconds: float = 60.0
    seed: int = 0
    midpoint_gpu_hours: float = LEAVE_ONE_OUT[0].C_mid

    @property
    def hardly_visible(self) -> bool:
        """Whether the rule's margin hides the difference, whatever is spent."""
        return self.difference <= self.rule.margin


@dataclass(frozen=True, slots=True)
class SeenOnce:
    """What one simulated sweep showed."""

    half_widths: tuple[float, ...]
    """Of the 95 % intervals of differences, of all arms that have one."""
    reaches: tuple[float, ...]
    """Quantile of each worse arm's difference at the demanded probability, of those that are identified."""
    worse: tuple[int, int]
    """(seen, arms) among those that are worse."""
    tied: tuple[int, int]
    """(seen, arms) among those that tie."""


@dataclass(slots=True)
class Seen:
    """What simulations of one design showed."""

    design: Design
    margin: float
    """In units of the draws."""
    difference: float
    """Between worse arms and the reference, in units of the draws."""
    sweeps: list[SeenOnce] = field(default_factory=list)

    @property
    def power(self) -> Mean | None:
        """Probability that a worse arm is seen; its error by leaving out one sweep at a time."""
        if not self.sweeps:
            return None
        value = _power(self.sweeps, self.margin)
        num = len(self.sweeps)
        if num < 2:
            return Mean(value, None)
        others = [_power(self.sweeps[:k] + self.sweeps[k + 1 :], self.margin) for k in range(num)]
        centre = sum(others) / num
        return Mean(value, math.sqrt((num - 1.0) / num * sum((each - centre) ** 2 for each in others)))

    @property
    def visible(self) -> float | None:
        """About the difference that is seen in ``LEAST_SEEN`` of the arms, in units of the draws; None where
        too few arms are identified for any."""
        known = _reaches(self.sweeps)
        if known is None or known[2] <= LEAST_SEEN:
            return None
        mean, sd, identified = known
        return self.difference + self.margin + mean + sd * NormalDist().inv_cdf(LEAST_SEEN / identified)

    @property
    def counted(self) -> Mean | None:
        """Share of the worse arms that were seen to be."""
        return share_over([one.worse for one in self.sweeps])

    @property
    def false_alarms(self) -> Mean | None:
        """Share of the tied arms that were taken for worse."""
        return share_over([one.tied for one in self.sweeps])

    @property
    def half_width(self) -> Mean | None:
        """Mean half of the 95 % interval of a difference, in units of the draws."""
        means = [float(np.mean(one.half_widths)) for one in self.sweeps if one.half_widths]
        return mean_over(means) if means else None


def _reaches(sweeps: Sequence[SeenOnce]) -> tuple[float, float, float] | None:
    """(mean, standard deviation, share identified) over the worse arms; None where fewer than two are."""
    every = [reach for one in sweeps for reach in one.reaches]
    if len(every) < 2:
        return None
    arms = sum(one.worse[1] for one in sweeps)
    return float(np.mean(every)), max(float(np.std(every, ddof=1)), _LEAST_SD), len(every) / arms


def _power(sweeps: Sequence[SeenOnce], margin: float) -> float:
    known = _reaches(sweeps)
    if known is None:
        return 0.0
    mean, sd, identified = known
    return identified * NormalDist().cdf((-margin - mean) / sd)


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
    done: Callable[[int, int], None] | None = None,
) -> list[Seen]:
    """Simulate the designs until the seconds are over; the first once in any case.

    The n-th simulation of a design is the same whatever the seconds.

    Args:
        plan: the sweep.
        asked: the difference, the rule and the seconds.
        designs: other ones than ``designs_of``.
        clock: seconds.
        done: told how many of the seconds are over, each second once.

    Raises:
        UserError: no arm can be worse by the difference, or the rule's level lies off the simulated curves.
    """
    found = []
    for design in designs or designs_of(plan):
        tied, worse = truths(asked, design.run_gpu_hours)
        measure = Measure(asked.rule, design.run_gpu_hours)
        found.append(Seen(design, measure.margin, _true(measure, tied) - _true(measure, worse)))
    start = clock()
    end, longest, total, told = start + asked.seconds, 0.0, 0, 0
    while True:
        place = _next(found)
        began = clock()
        # A fit is not begun that would likely outlast the time.
        if total and began + longest > end:
            return found
        rng = np.random.default_rng([asked.seed, place, len(found[place].sweeps)])
        found[place].sweeps.append(simulate_once(found[place].design, plan, asked, rng))
        now = clock()
        longest, total = max(longest, now - began), total + 1
        while done is not None and told < min(int(now - start), int(asked.seconds)):
            told += 1
            done(told, int(asked.seconds))


def _next(found: Sequence[Seen]) -> int:
    """Which design to simulate: the plan's own and then the cheapest of which there are too few, then each in
    turn; none that costs more than one that is enough."""
    able = enough(found)
    open_ones = [
        place
        for place, seen in enumerate(found)
        if place == 0 or able is None or seen.design.gpu_hours <= able.design.gpu_hours
    ]
    few = [place for place in open_ones if len(found[place].sweeps) < LEAST_SWEEPS]
    if few:
        return min(few, key=lambda place: (place > 0, found[place].design.gpu_hours))
    return min(open_ones, key=lambda place: (len(found[place].sweeps), found[place].design.gpu_hours))


def simulate_once(design: Design, plan: SweepPlan, asked: PowerAsked, rng: np.random.Generator) -> SeenOnce:
    """One sweep of a design, fitted together, and what the rule says of it."""
    rule = asked.rule
    tied, worse = truths(asked, design.run_gpu_hours)
    spacing = min(LEAVE_ONE_OUT[0].spacing_gpu_hours, design.run_gpu_hours / 20.0)
    arms = [Arm(_CONTROL, tied, spacing, design.control_seeds)]
    for number in range(min(max(design.num_arms, 2), MOST_ARMS)):
        name, truth = (f"worse_{number}", worse) if number % 2 == 0 else (f"tied_{number}", tied)
        arms.append(Arm(name, truth, spacing, design.arm_seeds))
    simulated = simulate_arms(arms, rng, budget_gpu_hours=design.run_gpu_hours)
    runs = [SweepRun(run.curve.name, run.arm.name, points_of(run.curve)) for run in simulated.runs]
    fitted = fit_sweep(runs, fit_start_gpu_hours=plan.sweep.fit_start_gpu_hours, rule=rule)
    return verdicts(fitted.arms, Measure(rule, design.run_gpu_hours), [arm.name for arm in arms[1:]])


def verdicts(arms: Mapping[str, PooledCeiling], measure: Measure, names: Sequence[str]) -> SeenOnce:
    """What the rule says of a fitted sweep.

    Args:
        arms: by name, those that have a fit; the control's is named so.
        measure: the rule with the runs' budget.
        names: of the others; they begin with ``worse`` or ``tied``. One that has no fit, or whose ceiling or
            reference is not identified, counts as not seen.
    """
    counts = {"worse": [0, 0], "tied": [0, 0]}
    widths, reaches = [], []
    demanded = measure.rule.answer_probability
    for name in names:
        kind = name.partition("_")[0]
        counts[kind][1] += 1
        reference = measure.reference(name, arms, _CONTROL)
        if name not in arms or reference is None:
            continue
        difference = Difference(measure.draws(arms[name]) - reference)
        interval = difference.interval
        widths.append(0.5 * (interval.high95 - interval.low95))
        if not (arms[name].identified and measure.reference_known(name, arms, _CONTROL)):
            continue
        counts[kind][0] += difference.probability_below(-measure.margin) >= demanded
        if kind == "worse":
            reaches.append(float(np.quantile(difference.draws, demanded)))
    of_worse, of_tied = counts["worse"], counts["tied"]
    return SeenOnce(tuple(widths), tuple(reaches), (of_worse[0], of_worse[1]), (of_tied[0], of_tied[1]))


def truths(asked: PowerAsked, budget_gpu_hours: float) -> tuple[Truth, Truth]:
    """(an arm that ties with the reference, one that is worse by the difference), as published otherwise.

    A pass rate at a compute C is lower by d where A is lower by d / g, with g the share of the gain that is
    reached at C; GPU-hours to a level are longer by a share d where C_mid is.

    Raises:
        UserError: such an arm would not rise at all, or the rule's level lies off the simulated curves.
    """
    rule, published = asked.rule, LEAVE_ONE_OUT[0]
    A, B, C_mid = published.A, published.B, asked.midpoint_gpu_hours
    r0 = Truth(A, B, C_mid).r0
    level = rule.reference.value if isinstance(rule.reference, ToLevel) else None
    match rule.quantity:
        case GpuHours(pass_rate=aim):
            if not r0 < aim < A:
                raise UserError(
                    f"--power: simulated curves rise from {r0:g} to {A:g}, so GPU-hours to {aim:g} cannot be "
                    f"simulated; allowed is a rule.quantity.pass_rate between the two"
                )
            if level is not None:
                C_mid = level / float(hours_to_reach(aim, r0, A, B, 1.0))
            return Truth(A, B, C_mid), Truth(A, B, C_mid * (1.0 + asked.difference))
        case PassRate(gpu_hours=at):
            share = float(gain_share(budget_gpu_hours if at is None else at, B, C_mid))
        case Ceiling():
            share = 1.0
    if level is not None:
        A = r0 + (level - r0) / share
        if not r0 < A <= 1.0:
            raise UserError(
                f"--power: simulated curves start at {r0:g}; a rule.reference of {level:g} at most 1 and "
                f"above {r0:g} is needed, found one that takes a ceiling of {A:.3g}"
            )
    most = (A - r0) * share
    if asked.difference >= most:
        raise UserError(
            f"--difference {asked.difference:g}: simulated arms rise from {r0:g} to {r0 + most:.3g}, and one "
            f"that is worse by so much would not rise at all; ask for less than {most:.3g}"
        )
    return Truth(A, B, C_mid), Truth(A - asked.difference / share, B, C_mid)


def _true(measure: Measure, truth: Truth) -> float:
    """The quantity of a truth, in units of the draws."""
    match measure.rule.quantity:
        case Ceiling():
            return truth.A
        case PassRate():
            return float(truth.law(measure.gpu_hours))
        case GpuHours(pass_rate=aim):
            return -math.log(float(hours_to_reach(aim, truth.r0, truth.A, truth.B, truth.C_mid)))


def enough(found: Sequence[Seen]) -> Seen | None:
    """The cheapest design that sees the difference often enough; None while it, or a cheaper one, was
    simulated too few times to say."""
    for seen in sorted(found, key=lambda seen: seen.design.gpu_hours):
        if len(seen.sweeps) < LEAST_SWEEPS:
            return None
        power = seen.power
        if power is not None and power.value >= LEAST_SEEN:
            return seen
    return None
