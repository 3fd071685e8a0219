"""What a sweep may say: a question over recipes, its seeds, its budget and its rule."""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scalerl_lab.config.strict import Name, Strict

Overrides = dict[str, Any]
"""Dotted key path of a recipe -> new value; a mapping with ``type`` replaces a whole choice."""


class Arm(Strict):
    """One variant: what it changes in the sweep's recipe."""

    about: str = ""
    set: Overrides


class LeaveOneOut(Strict):
    """The recipe as control, and one arm per choice reverted.

    Arms are written out, or derived: every choice in which ``baseline`` differs from the recipe
    becomes an arm that takes the baseline's value.
    """

    type: Literal["leave_one_out"] = "leave_one_out"
    arms: dict[Name, Arm] = Field(default_factory=dict)
    baseline: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> LeaveOneOut:
        if bool(self.arms) == bool(self.baseline):
            raise ValueError("give either arms or baseline, not both and not neither")
        return self


class AddOne(Strict):
    """The mirror image: the sweep's recipe as control, and one arm per choice taken from ``target``."""

    type: Literal["add_one"] = "add_one"
    arms: dict[Name, Arm] = Field(default_factory=dict)
    target: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> AddOne:
        if bool(self.arms) == bool(self.target):
            raise ValueError("give either arms or target, not both and not neither")
        return self


class Coupled(Strict):
    """A field that follows the axis.

    ``hold: product`` keeps axis value x field constant, ``hold: ratio`` keeps field / axis value
    constant, ``values`` spells out the field's value at each point.
    """

    path: str
    hold: Literal["product", "ratio"] | None = None
    values: tuple[Any, ...] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Coupled:
        if (self.hold is None) == (self.values is None):
            raise ValueError("give either hold or values")
        return self


class Axis(Strict):
    """One path over values; the point that equals the recipe is the control."""

    type: Literal["axis"] = "axis"
    path: str
    values: tuple[Any, ...] | None = None
    factors: tuple[PositiveFloat, ...] | None = None
    """Values as multiples of the recipe's own, so that one sweep serves every scale."""
    names: tuple[Name, ...] | None = None
    """Names of the points; made from path and value where absent."""
    coupled: tuple[Coupled, ...] = ()
    run_gpu_hours: tuple[PositiveFloat, ...] | None = None
    """Budget per point; the sweep's budget.run_gpu_hours where absent."""

    @model_validator(mode="after")
    def _one_way(self) -> Axis:
        if (self.values is None) == (self.factors is None):
            raise ValueError("give either values or factors")
        points = self.values if self.values is not None else self.factors
        assert points is not None
        if not points:
            raise ValueError("an axis needs at least one point")
        for name, given in [
            ("run_gpu_hours", self.run_gpu_hours),
            ("names", self.names),
            *((f"coupled[{index}].values", each.values) for index, each in enumerate(self.coupled)),
        ]:
            if given is not None and len(given) != len(points):
                raise ValueError(f"{name} has {len(given)} entries for {len(points)} points")
        return self


class Compare(Strict):
    """Several recipes side by side; the first is the control."""

    type: Literal["compare"] = "compare"
    recipes: Annotated[tuple[str, ...], Field(min_length=2)]


MOST_POINTS = 1000


class Grid(Strict):
    """The product of several paths' values; the point that equals the recipe is the control."""

    type: Literal["grid"] = "grid"
    axes: Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _not_too_many(self) -> Grid:
        points = prod(len(values) for values in self.axes.values())
        if points > MOST_POINTS:
            raise ValueError(f"{points} points; a grid has at most {MOST_POINTS}")
        return self


class Knob(Strict):
    """A number of the recipe that a search turns."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    step: PositiveFloat | None = None
    """Distance of neighbouring values; any value between the bounds where absent."""

    @model_validator(mode="after")
    def _a_range(self) -> Knob:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must lie below high ({self.high:g})")
        if self.scale == "log" and self.low <= 0.0:
            raise ValueError(f"scale: log needs a low above 0, got {self.low:g}")
        if self.scale == "log" and self.step is not None:
            raise ValueError("scale: log and step exclude each other; drop one of them")
        if self.step is not None:
            steps = (self.high - self.low) / self.step
            if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
                last = self.low + max(int(steps), 1) * self.step
                raise ValueError(f"steps of {self.step:g} from {self.low:g} miss high: {last:g} would be met")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers: low, high and step are."""
        return self.step is not None and all(each.is_integer() for each in (self.low, self.high, self.step))


class Search(Strict):
    """The recipe as control, and arms that a sampler proposes while the sweep runs, from what is known."""

    type: Literal["search"] = "search"
    over: Annotated[dict[str, Knob], Field(min_length=1)]
    """Dotted key path of the recipe -> the range to be searched."""
    arms: Annotated[int, Field(ge=1, le=MOST_POINTS)]
    """Proposals in all; the control is not counted."""
    at_a_time: PositiveInt = 4
    """Proposals under way at most; the more, the less is known when the next is made."""
    startup: PositiveInt = 6
    """So many come at random before the sampler learns."""
    method: Literal["tpe", "gp", "random"] = "tpe"
    """Tree-structured Parzen estimator, Gaussian process, or at random to the end."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


Question = Annotated[LeaveOneOut | AddOne | Axis | Compare | Grid | Search, Field(discriminator="type")]


SeedCount = Annotated[int, Field(ge=1, le=1000)]
SeedList = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


class Seeds(Strict):
    """Replicates: a count (seeds 0, 1, ...) or the seeds themselves."""

    control: SeedCount | SeedList = 3
    arm: SeedCount | SeedList = 1

    @model_validator(mode="after")
    def _seeds_differ(self) -> Seeds:
        for name, given in (("control", self.control), ("arm", self.arm)):
            if not isinstance(given, int) and len(set(given)) < len(given):
                raise ValueError(f"{name} names a seed twice: {list(given)}")
        return self


class Budget(Strict):
    """GPU-hours for each run and for the sweep."""

    run_gpu_hours: PositiveFloat
    sweep_gpu_hours: PositiveFloat | None = None
    """Cap for all runs together, extensions included; the sum of the runs' budgets when absent."""

    @model_validator(mode="after")
    def _one_run_fits(self) -> Budget:
        if self.sweep_gpu_hours is not None and self.sweep_gpu_hours < self.run_gpu_hours:
            raise ValueError(
                f"sweep_gpu_hours ({self.sweep_gpu_hours:g}) does not cover one run ({self.run_gpu_hours:g})"
            )
        return self


class Extension(Strict):
    """When a run that has used its grant may go on: with hours that the sweep's cap leaves."""

    first_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of its budget that each run is granted at first. Below 1 the rest, too, comes by extensions, so
    that under a cap hours go where they say most."""
    step_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.125
    """Each extension adds this share of the run's budget."""
    max_factor: Annotated[float, Field(ge=1.0)] = 1.25
    """A run never gets more than this multiple of its budget."""
    open_probability: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.2
    """The question is open while both answers (below the control by the margin, or not) keep it."""


class Divergence(Strict):
    """When a run is stopped whatever its forecast says."""

    collapse_drop: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.10
    """Fall of the pass rate from its peak that counts as a collapse, seen at two successive points."""
    truncation_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Truncated share of completions above which a run counts as diverged, at two successive points,
    once it has risen by at least 0.1 since the run's first point (ScaleRL A.15: 10 to 15 % destabilises)."""


class Ceiling(Strict):
    """Arms are compared by their asymptote."""

    type: Literal["ceiling"] = "ceiling"


class PassRate(Strict):
    """Arms are compared by the pass rate at a compute."""

    type: Literal["pass_rate"] = "pass_rate"
    gpu_hours: PositiveFloat | None = None
    """At which; the run's budget where absent."""


class GpuHours(Strict):
    """Arms are compared by the GPU-hours that they take to a pass rate."""

    type: Literal["gpu_hours"] = "gpu_hours"
    pass_rate: Annotated[float, Field(gt=0.0, lt=1.0)]


Quantity = Annotated[Ceiling | PassRate | GpuHours, Field(discriminator="type")]


class ToControl(Strict):
    """The control's arm, which is never killed for its forecast."""

    type: Literal["control"] = "control"


class ToBest(Strict):
    """The best of the other arms, whichever it is."""

    type: Literal["best"] = "best"


class ToLevel(Strict):
    """A value of the quantity: a pass rate, or GPU-hours."""

    type: Literal["level"] = "level"
    value: PositiveFloat


Reference = Annotated[ToControl | ToBest | ToLevel, Field(discriminator="type")]


class Rule(Strict):
    """When to kill and when to extend: by the probability that an arm ends below the reference."""

    quantity: Quantity = Ceiling()
    reference: Reference = ToControl()
    margin: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.02
    """Difference that counts (ScaleRL A.5: three replicates lay within 0.015, hence 0.02); of GPU-hours it is
    a share of the reference's."""
    kill_probability: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """A run is killed once its arm lies below the reference by more than the margin with this probability.

    As far as the posterior is calibrated, 1 less it bounds the share of kills that are false, over the whole
    run and however often one looks. It also bounds how often an arm that is not worse is killed where being
    worse was not likely at first, as against a control: for such an arm the odds of being worse are a
    martingale, so they ever reach k with a probability of at most 1/k times the odds it began with (Ville's
    inequality). Against the best of many arms, or a high level, those odds exceed 1, and more of the arms
    within the margin are killed."""
    answer_probability: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """With which an answer counts as known in reports."""
    stop_resolved: bool = False
    """Whether a run ends once its difference to the reference is known to a margin to either side (80 %) and
    the rest of its budget is expected to change it by at most an eighth of one."""
    min_points: PositiveInt = 6
    min_window_midpoints: PositiveFloat = 2.0
    """A ceiling is not identified until the window reaches this many midpoints (half of the gain)."""
    max_ceiling_width: Annotated[float, Field(gt=0.0, le=1.0)] = 0.12
    """Nor while its 80 % interval is wider than this."""
    extension: Extension = Extension()
    divergence: Divergence = Divergence()


class Sweep(Strict):
    """A question over recipes."""

    name: Name
    about: str = ""
    recipe: str
    """Name or file of the recipe that the question is about; under ``compare`` the first of its recipes."""
    question: Question
    seeds: Seeds = Seeds()
    budget: Budget
    fit_start_gpu_hours: Annotated[float, Field(ge=0.0)] = 1500.0
    """Points before it are left out of every fit (ScaleRL A.6)."""
    rule: Rule = Rule()
    price_per_gpu_hour: PositiveFloat | None = None
    profiles: dict[str, Overrides] = Field(default_factory=dict)
    """Profile name -> dotted key path of this sweep -> value that holds under that profile."""

    @model_validator(mode="after")
    def _level_is_of_the_quantity(self) -> Sweep:
        reference, hours = self.rule.reference, isinstance(self.rule.quantity, GpuHours)
        if isinstance(reference, ToLevel) and not hours and reference.value > 1.0:
            raise ValueError(f"rule.reference.value is a pass rate, at most 1, got {reference.value:g}")
        return self

    @model_validator(mode="after")
    def _compare_starts_with_the_recipe(self) -> Sweep:
        if isinstance(self.question, Compare) and self.question.recipes[0] != self.recipe:
            raise ValueError(
                f"the first recipe compared is the control, so recipe must be {self.question.recipes[0]!r}, "
                f"got {self.recipe!r}"
            )
        return self
