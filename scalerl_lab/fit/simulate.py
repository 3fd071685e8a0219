"""Curves and sweeps whose truth is known: what forecasts, and rules of stopping, are measured on.

A run measures its held-out pass rate every so many GPU-hours from the first evaluation to its budget.
The defaults are the published ones (ScaleRL, arXiv 2510.13786, v0 figures):

- A point scatters about the curve with sd 0.0045 and correlation 0.3 between neighbours; the standard
  error it reports, 0.0027, is the part that sampling 16 answers to 1,000 prompts explains.
- R0 is measured before training, when nothing but sampling moves it: 0.0027, all of it reported. Runs of
  a sweep start from one model, so their true R0 is the same; what they measured is not.
- Seeds of an arm differ: A by 0.0075 (sd), B and C_mid by 3 % each, independently. Three seeds then lie
  within 0.015 of their mean A in 96 of 100 sweeps, as three repeated runs of the paper did; the paper
  says nothing of B and C_mid, whose 3 % is assumed.
- The law holds from compute 0 on. Real runs rise more evenly in their first epoch, which is why fits
  begin at 1,500 GPU-hours; the earlier points are here, as in a real run, and a fit must leave them out.

An arm is given by its ``Truth``, so sweeps of any kind can be made with ``simulate_arms``. The same
generator state gives the same numbers, bit for bit; a larger budget extends the same curves.

Notation: N points of a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats, gain_share, pass_rate
from scalerl_lab.fit.published import BASE_R0, LARGE_SCALE, LEAVE_ONE_OUT, RECIPES, PublishedRun
from scalerl_lab.records import Shape

BUDGET_GPU_HOURS = 16_000.0
"""What each published leave-one-out run was given."""
CONTROL_SEEDS = 3


@dataclass(frozen=True, slots=True)
class Collapse:
    """From a compute on the run falls, ever more slowly, towards a level.

    R(C) = to + (law(at) - to) exp(-(C - at) / over) for C > at.
    """

    at: float
    to: float
    over: float
    """Compute in which the distance to the level shrinks by the factor e."""
    shape: ClassVar[Shape] = Shape.COLLAPSING

    def bend(self, compute: Floats, truth: Truth) -> Floats:
        """The pass rates [N] of a run that follows the truth's law up to the collapse."""
        left = np.exp(-np.maximum(compute - self.at, 0.0) / self.over)
        peak = truth.law(self.at)
        fallen: Floats = np.where(compute > self.at, self.to + (peak - self.to) * left, truth.law(compute))
        return fallen


@dataclass(frozen=True, slots=True)
class LateStart:
    """Nothing is learned before a compute; there the law begins as if from compute 0."""

    at: float
    shape: ClassVar[Shape] = Shape.LATE_BLOOMING

    def bend(self, compute: Floats, truth: Truth) -> Floats:
        """The pass rates [N] of a run whose law begins late."""
        return truth.law(np.maximum(compute - self.at, 0.0))


@dataclass(frozen=True, slots=True)
class SecondRise:
    """A second gain on top of the law: gain / (1 + (C_mid / C)^B)."""

    gain: float
    B: float
    C_mid: float
    shape: ClassVar[Shape] = Shape.TWO_PHASE

    def bend(self, compute: Floats, truth: Truth) -> Floats:
        """The pass rates [N] of a run with two rises."""
        return truth.law(compute) + self.gain * gain_share(compute, self.B, self.C_mid)


@dataclass(frozen=True, slots=True)
class Straight:
    """No bend at all: the line through R0 and the law's midpoint, R0 + (A - R0) C / (2 C_mid)."""

    shape: ClassVar[Shape] = Shape.LINEAR

    def bend(self, compute: Floats, truth: Truth) -> Floats:
        """The pass rates [N] of a run that rises in proportion to compute."""
        return truth.r0 + (truth.A - truth.r0) * compute / (2.0 * truth.C_mid)


Departure = Collapse | LateStart | SecondRise | Straight
"""The ways in which a run does not follow the law."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a run really is: its law and, where it does not keep to it, how it departs."""

    A: float
    B: float
    C_mid: float
    r0: float = BASE_R0
    departure: Departure | None = None

    @classmethod
    def of(cls, run: PublishedRun, r0: float = BASE_R0, departure: Departure | None = None) -> Truth:
        """The truth with a published run's A, B and C_mid, from a model whose pass rate is ``r0``."""
        return cls(run.A, run.B, run.C_mid, r0, departure)

    @property
    def shape(self) -> Shape:
        """What kind of curve it draws, seen to its end."""
        if self.departure is not None:
            return self.departure.shape
        return Shape.FLAT if self.r0 == self.A else Shape.LAW

    def law(self, compute: ArrayLike) -> Floats:
        """The law, whether the run keeps to it or not, at computes in the unit of ``C_mid``."""
        return pass_rate(compute, self.r0, self.A, self.B, self.C_mid)

    def mean(self, compute: ArrayLike) -> Floats:
        """Pass rates [N] without noise, within [0, 1]."""
        hours = np.asarray(compute, dtype=np.float64)
        rates = self.law(hours) if self.departure is None else self.departure.bend(hours, self)
        inside: Floats = np.clip(rates, 0.0, 1.0)
        return inside


@dataclass(frozen=True, slots=True)
class Noise:
    """How measured points scatter about the curve, and what they say of it."""

    sd: float = 0.0045
    correlation: float = 0.3
    """Between neighbouring points; falls by this factor with each further one."""
    reported_se: float | None = 0.0027
    """Standard error reported with each point; None: none is."""
    r0_sd: float = 0.0027
    """Scatter of the measured R0, reported as its standard error; 0: R0 is known exactly."""


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """Standard deviations by which seeds of an arm differ from the arm."""

    ceiling: float = 0.0075
    log_efficiency: float = 0.03
    log_midpoint: float = 0.03

    def seed(self, truth: Truth, rng: np.random.Generator) -> Truth:
        """The truth of one seed; a run that never rises stays as it is."""
        shift_A, shift_B, shift_C = rng.standard_normal(3)
        if truth.shape is Shape.FLAT:
            return truth
        return replace(
            truth,
            A=min(max(truth.A + self.ceiling * float(shift_A), 0.0), 1.0),
            B=truth.B * math.exp(self.log_efficiency * float(shift_B)),
            C_mid=truth.C_mid * math.exp(self.log_midpoint * float(shift_C)),
        )


@dataclass(frozen=True, slots=True)
class Arm:
    """One variant of a simulated sweep."""

    name: str
    truth: Truth
    spacing_gpu_hours: float = 257.0
    """GPU-hours between evaluations."""
    num_seeds: int = 1


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """A run of a simulated sweep and what it really is."""

    arm: Arm
    seed: int
    truth: Truth
    """Of this seed; the arm's is ``arm.truth``."""
    curve: Curve
    """All its points up to the budget; cut it with ``Curve.between``."""


@dataclass(frozen=True, slots=True)
class SimulatedSweep:
    """The runs of a sweep, the control's seeds first."""

    runs: tuple[SimulatedRun, ...]
    budget_gpu_hours: float
    control: str
    """Name of the control's arm."""

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The runs' curves, in their order."""
        return tuple(run.curve for run in self.runs)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arm of each run, in their order."""
        return tuple(run.arm.name for run in self.runs)


class SweepKind(StrEnum):
    """Sweeps with published parameters."""

    LEAVE_ONE_OUT = "leave_one_out"
    """The nine arms of the leave-one-out study, the control with three seeds."""
    COMPARE = "compare"
    """The five recipes of figure 2; GRPO collapses after 6,500 GPU-hours, as it did."""
    AXIS = "axis"
    """The runs of Table 1 without its second metric (code), evaluated as often as their batch and context
    allow; the Scout model starts higher. Midpoints reach 11,300 GPU-hours: a larger budget tells more."""
    MISFITS = "misfits"
    """The control, and a run of each kind that does not follow the law."""


NOISE = Noise()
SPREAD = SeedSpread()

GRPO_COLLAPSE = Collapse(at=6500.0, to=BASE_R0, over=7000.0)
"""0.474 at 6,500 GPU-hours, 0.460 at 8,000, 0.445 at 10,100: as read off figure 2."""


def simulate_run(
    truth: Truth,
    rng: np.random.Generator,
    *,
    name: str = "run",
    budget_gpu_hours: float = BUDGET_GPU_HOURS,
    spacing_gpu_hours: float = 257.0,
    noise: Noise = NOISE,
) -> Curve:
    """The measured curve of one run.

    Args:
        truth: what the run really is; no seed spread is added.
        rng: a generator; R0 is drawn from it first, then the points in their order.
        name: of the curve.
        budget_gpu_hours: the last point lies at or below it.
        spacing_gpu_hours: the first point, and the distance of the others.
        noise: about the curve.

    Returns:
        Points at spacing, 2 spacing, ... with R0 as measured.
    """
    r0 = truth.r0 + noise.r0_sd * float(rng.standard_normal())
    num = int(budget_gpu_hours / spacing_gpu_hours + 1e-9)
    hours = spacing_gpu_hours * np.arange(1, num + 1)
    measured = truth.mean(hours) + correlated_noise(rng, num, noise.sd, noise.correlation)
    return Curve.of(
        name,
        hours,
        np.clip(measured, 0.0, 1.0),
        se=None if noise.reported_se is None else np.full(num, noise.reported_se),
        r0=min(max(r0, 0.0), 1.0),
        r0_se=noise.r0_sd,
        bounds=(0.0, 1.0),
    )


def correlated_noise(rng: np.random.Generator, num: int, sd: float, correlation: float) -> Floats:
    """[num] stationary AR(1) residuals of the given standard deviation; the first n do not depend on num."""
    fresh = rng.standard_normal(num)
    fresh[1:] *= math.sqrt(1.0 - correlation**2)
    residuals = np.empty(num)
    before = 0.0
    for index, value in enumerate(fresh):
        before = correlation * before + float(value)
        residuals[index] = before
    return sd * residuals


def simulate_arms(
    arms: Sequence[Arm],
    rng: np.random.Generator,
    *,
    budget_gpu_hours: float = BUDGET_GPU_HOURS,
    noise: Noise = NOISE,
    spread: SeedSpread = SPREAD,
) -> SimulatedSweep:
    """A sweep over arms, the first of which is the control.

    Each run draws from a generator of its own, so no run depends on the others' length or number.
    Runs are named ``arm:seed``.

    Raises:
        ValueError: there is no arm.
    """
    if not arms:
        raise ValueError("a sweep needs at least one arm")
    planned = [(arm, seed) for arm in arms for seed in range(arm.num_seeds)]
    runs = []
    for (arm, seed), own in zip(planned, rng.spawn(len(planned)), strict=True):
        truth = spread.seed(arm.truth, own)
        curve = simulate_run(
            truth,
            own,
            name=f"{arm.name}:{seed}",
            budget_gpu_hours=budget_gpu_hours,
            spacing_gpu_hours=arm.spacing_gpu_hours,
            noise=noise,
        )
        runs.append(SimulatedRun(arm, seed, truth, curve))
    return SimulatedSweep(tuple(runs), budget_gpu_hours, arms[0].name)


def simulate_sweep(
    kind: SweepKind,
    rng: np.random.Generator,
    *,
    budget_gpu_hours: float = BUDGET_GPU_HOURS,
    noise: Noise = NOISE,
    spread: SeedSpread = SPREAD,
) -> SimulatedSweep:
    """A sweep with published parameters; see ``SweepKind``."""
    return simulate_arms(arms_of(kind), rng, budget_gpu_hours=budget_gpu_hours, noise=noise, spread=spread)


def arms_of(kind: SweepKind) -> tuple[Arm, ...]:
    """The arms of a sweep with published parameters, the control first."""
    match kind:
        case SweepKind.LEAVE_ONE_OUT:
            control, *others = (_published(run) for run in LEAVE_ONE_OUT)
            return (replace(control, num_seeds=CONTROL_SEEDS), *others)
        case SweepKind.COMPARE:
            *lawful, grpo = RECIPES
            collapsing = Arm(grpo.name, Truth.of(grpo, departure=GRPO_COLLAPSE), grpo.spacing_gpu_hours)
            return (*(_published(run) for run in lawful), collapsing)
        case SweepKind.AXIS:
            return tuple(
                _published(run, run.r0 if run.name == "ScaleRL-Scout" else BASE_R0)
                for run in LARGE_SCALE
                if not run.name.endswith("(code)")
            )
        case SweepKind.MISFITS:
            return _misfits()


def _published(run: PublishedRun, r0: float = BASE_R0) -> Arm:
    return Arm(run.name, Truth.of(run, r0), run.spacing_gpu_hours)


def _misfits() -> tuple[Arm, ...]:
    control = LEAVE_ONE_OUT[0]
    return (
        _published(control),
        Arm("collapsing", Truth.of(RECIPES[-1], departure=GRPO_COLLAPSE)),
        Arm("late_blooming", Truth.of(control, departure=LateStart(6000.0))),
        Arm("two_phase", Truth(0.50, 2.5, 1400.0, departure=SecondRise(0.10, 6.0, 9000.0))),
        Arm("linear", Truth(0.60, 1.0, 12_000.0, departure=Straight())),
        Arm("flat", Truth(BASE_R0, 1.0, 1000.0)),
    )
