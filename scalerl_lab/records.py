"""What happened and what was concluded, as frozen values that travel between the rooms.

GPU-hours are lab GPU-hours: under a ``flops`` meter, counted operations over the profile's exchange
rate; under a ``wall`` meter, hours held times devices. Pass rates lie in [0, 1]. A number that does
not exist is ``None``, never NaN. Times are seconds since the epoch, UTC.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from scalerl_lab.config.profile import Meter
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.config.strict import Strict

# ---------------------------------------------------------------- what is to be run


@dataclass(frozen=True, slots=True)
class RunSpec:
    """All that decides a run's numbers; its hash is the run's identity."""

    run_id: str
    """Hexadecimal digest of recipe (without its name and prose), seed, meter and results version."""
    recipe: Recipe
    seed: int
    meter: Meter


class Role(StrEnum):
    """What an arm is in its sweep."""

    CONTROL = "control"
    """The untouched recipe."""
    ARM = "arm"
    """A variant of it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One key path in which an arm differs from the control."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run in its place in a sweep."""

    sweep_id: str
    arm: str
    role: Role
    changes: tuple[Change, ...]
    budget_gpu_hours: float
    spec: RunSpec
    order: int
    """Place in the queue; controls come first."""

    @property
    def run_id(self) -> str:
        """Identity of the run."""
        return self.spec.run_id


# ---------------------------------------------------------------- what a worker saw: facts, in its JSONL


class LedgerKind(StrEnum):
    """What GPU-hours were held for."""

    TRAIN = "train"
    """Generation and updates: the x-axis of every curve."""
    EVALUATE = "evaluate"
    CHECKPOINT = "checkpoint"
    WARM_START = "warm_start"
    """The shared supervised start, billed to the run that built it."""
    DIFFICULTY = "difficulty"
    """Trying the training prompts before the first step, to leave out those too easy or too hard."""
    OVERHEAD = "overhead"
    """Loading, building and waiting."""
    LOST = "lost"
    """Training after the last checkpoint of an attempt that died; it was held, but gave no point."""


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """An attempt to execute the run began."""

    trial: int
    at: float
    resumed_step: int
    """Optimiser step of the checkpoint it continues from; 0 for a fresh start."""
    host: str
    pid: int
    code_version: str


@dataclass(frozen=True, slots=True)
class SandboxUsed:
    """How an attempt keeps the code of responses from the machine; absent where it runs none."""

    trial: int
    at: float
    kind: str
    """``bubblewrap``, or ``weak``: resource limits alone, with files and network open."""
    own_user: bool
    """Programs run as a user that nothing else on the machine runs as."""
    seccomp: bool
    """A filter denies system calls that no solution needs."""
    why: str = ""
    """Why it is not bubblewrap."""


@dataclass(frozen=True, slots=True)
class EvalPoint:
    """One held-out measurement at a compute."""

    trial: int
    at: float
    step: int
    gpu_hours: float
    """Training compute so far: generation and updates, without evaluation and checkpoints."""
    pass_rate: float
    pass_rate_se: float
    """Sampling error of the mean over the fixed prompts: sqrt(sum_p p(1-p)/(k-1)) / P style."""
    num_prompts: int
    num_samples: int
    truncation_rate: float
    """Share of the evaluation's completions that ended at the limit without finishing."""
    mean_tokens: float
    entropy: float
    """Mean token entropy of the policy over the evaluation's completions, in nats."""
    flops: int
    """Counted training operations so far."""
    train_reward: float | None = None
    """Mean raw reward (+1/-1) of the training completions since the point before."""
    grad_norm: float | None = None
    ratio_clipped: float | None = None
    """Share of tokens at a bound of the ratio since the point before, over rows that can move the policy:
    under neither a KL nor an entropy bonus, those with an advantage."""
    mismatch: float | None = None
    """Mean |log-probability trainer minus generator| since the point before, over tokens of the same rows."""
    lag: float | None = None
    """Mean age of trained tokens in optimiser steps since the point before."""
    prompts_dropped: float | None = None
    """Share of prompts dropped by the zero-variance filter since the point before."""
    kl: float | None = None
    """Mean log-ratio of policy to reference over trained tokens since the point before; None without a KL."""
    tokens_per_s: float | None = None
    """Response tokens generated and consumed, per second of the steps since the point before."""
    generation_share: float | None = None
    """Share of generation in the wall time of those steps and of this evaluation; all shares add up to 1."""
    update_share: float | None = None
    reward_share: float | None = None
    waiting_share: float | None = None
    """What is in none of the others."""
    trained_tokens_per_s: float | None = None
    """Response tokens in a loss, once an epoch, per second of those steps: without what filters drop."""
    evaluation_share: float | None = None
    """None in older records, whose other shares are of the steps alone."""


SPEED_FIELDS = (
    "tokens_per_s",
    "trained_tokens_per_s",
    "generation_share",
    "update_share",
    "reward_share",
    "waiting_share",
    "evaluation_share",
)
"""Fields of a point that tell how fast the machine was: they differ between a run and its repetition."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A named number of a policy at a step, beside the point of that step.

    Names: ``pass_rate``, ``truncation_rate``, ``mean_tokens`` and ``entropy`` as in a point;
    ``pass_at_8`` for pass@8; ``ngram_overlap`` and, for n-grams of one length, ``ngram_overlap_5``.
    """

    trial: int
    at: float
    step: int
    gpu_hours: float
    problem_set: str
    """``heldout``, or the name of a downstream set."""
    domain: str
    """Kind of problem among those of the set; empty for all of them."""
    metric: str
    value: float
    standard_error: float | None
    """Sampling error over the fixed problems for a pass rate, else over a draw of problems; None: unknown."""
    num_prompts: int
    num_samples: int


@dataclass(frozen=True, slots=True)
class PassCounts:
    """How many of the samples of each problem passed: all that pass@k is computed from."""

    trial: int
    at: float
    step: int
    gpu_hours: float
    problem_set: str
    domain: str
    """Kind of the problems that are counted here; empty where the set has one kind."""
    samples_per_prompt: int
    max_k: int
    """Largest k that the recipe asks for."""
    passed: tuple[int, ...]
    """One count a problem, in the order of the set, which is the same at every step."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """GPU-hours held, once: entries of a run never overlap."""

    trial: int
    at: float
    kind: LedgerKind
    gpu_hours: float
    wall_s: float
    flops: int
    from_step: int
    to_step: int


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A complete state from which the run continues as if it had never stopped."""

    trial: int
    at: float
    step: int
    gpu_hours: float
    path: str
    """Relative to the run's folder."""
    digest: str
    num_bytes: int


class EndReason(StrEnum):
    """Why an attempt ended."""

    GRANT_REACHED = "grant_reached"
    """The compute granted so far is used."""
    STOPPED = "stopped"
    """Told to stop by a decision."""
    NON_FINITE = "non_finite"
    """A loss, gradient or weight became infinite or not a number."""
    NO_PROMPTS = "no_prompts"
    """The curriculum retired so many prompts that no batch can be filled."""
    NO_VARIANCE = "no_variance"
    """Too few prompts have completions of differing reward: refilling could not fill a batch."""
    FAILED = "failed"
    """An exception; its text is in ``detail``."""


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """An attempt ended by itself (an attempt that was killed leaves no such fact)."""

    trial: int
    at: float
    step: int
    gpu_hours: float
    reason: EndReason
    detail: str = ""


Fact = (
    TrialStarted
    | SandboxUsed
    | EvalPoint
    | Measurement
    | PassCounts
    | LedgerEntry
    | CheckpointSaved
    | TrialEnded
)


# ---------------------------------------------------------------- what is concluded


class RunStatus(StrEnum):
    """Where a run stands in its sweep."""

    PLANNED = "planned"
    RUNNING = "running"
    FINISHED = "finished"
    """Reached all compute it was granted."""
    KILLED = "killed"
    """Stopped by a decision; it can be revived from its checkpoint."""
    FAILED = "failed"
    """Its worker failed more often than the profile allows."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Posterior median with its central 80 % and 95 % intervals."""

    median: float
    low80: float
    high80: float
    low95: float
    high95: float


class FitStatus(StrEnum):
    """What a fit can say about the ceiling."""

    IDENTIFIED = "identified"
    NOT_IDENTIFIED = "not_identified"
    """Points enough, but many ceilings fit them alike."""
    TOO_FEW_POINTS = "too_few_points"


class Shape(StrEnum):
    """What kind of curve a run's points draw."""

    LAW = "law"
    """The sigmoid law describes them."""
    FLAT = "flat"
    """No rise beyond noise."""
    LINEAR = "linear"
    """Still rising without a bend: where it will end cannot be seen yet."""
    TWO_PHASE = "two_phase"
    """A rise, a rest, and a second rise: the law would take the first plateau for the last."""
    COLLAPSING = "collapsing"
    """A rise, then a sustained fall from the peak."""
    LATE_BLOOMING = "late_blooming"
    """Flat for most of the window, rising at its end."""
    WANDERING = "wandering"
    """None of these: the residuals from the law are no noise."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The sigmoid law's posterior given a run's points, in summary."""

    run_id: str
    status: FitStatus
    why: str
    """One sentence: what makes the ceiling identified, or what is missing."""
    num_points: int
    first_gpu_hours: float | None
    last_gpu_hours: float | None
    r0: float | None
    ceiling: Interval | None
    efficiency: Interval | None
    midpoint: Interval | None
    residual_sd: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a fit says of the pass rate at one compute not yet spent."""

    gpu_hours: float
    pass_rate: Interval


class Action(StrEnum):
    """What is to become of a run."""

    CONTINUE = "continue"
    KILL = "kill"
    EXTEND = "extend"
    FINISH = "finish"
    """The budget is reached and the question needs no more of this run."""
    REVIVE = "revive"
    """It was over and goes on from its checkpoint, to the compute granted to it."""


class Cause(StrEnum):
    """Which rule a decision rests on."""

    NOT_IDENTIFIED = "not_identified"
    """The ceiling cannot be told yet."""
    WITHIN_MARGIN = "within_margin"
    """Nothing speaks against the run with the demanded probability."""
    IS_CONTROL = "is_control"
    """The control is never killed for its ceiling."""
    CEILING_BELOW = "ceiling_below"
    """The projected ceiling lies below the control's by more than the margin."""
    NON_FINITE = "non_finite"
    COLLAPSED = "collapsed"
    """The pass rate fell from its peak."""
    TRUNCATED = "truncated"
    """Too many completions end at the limit."""
    QUESTION_OPEN = "question_open"
    """The grant is used, but the answer is still open and hours are left."""
    STILL_RISING = "still_rising"
    """The budget is reached, but hours are left and the forecast promises more than the margin for them."""
    BUDGET_REACHED = "budget_reached"
    """The budget is reached, and what it was given for is known."""
    NO_HOURS = "no_hours"
    """The grant is used and the answer is open, but the sweep has no hours for this run."""
    RESOLVED = "resolved"
    """The answer is known to within the margin; more compute would not change it."""
    PROMPTS_EXHAUSTED = "prompts_exhausted"
    """The curriculum retired so many prompts that the run cannot go on."""
    NO_FIT = "no_fit"
    """Its points could not be fitted: the fit failed, and the reason says how."""
    ORDERED = "ordered"
    """A person ordered it; the reason says who and why."""
    PINNED = "pinned"
    """A person pinned the run, so that the rule does not stop it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The numbers a decision rests on."""

    fit: Fit | None
    forecast: Forecast | None
    control_ceiling: Interval | None
    """The rule's quantity of the reference: by default the control's ceiling."""
    difference: Interval | None
    """Ceiling of this run's arm minus the control's."""
    probability_below: float | None
    """P(ceiling of the arm < ceiling of the control - margin)."""
    margin: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Continue, kill, extend or finish a run, with the reason as a sentence with its numbers."""

    run_id: str
    step: int
    gpu_hours: float
    action: Action
    cause: Cause
    reason: str
    granted_gpu_hours: float
    """Compute the run may use after this decision."""
    evidence: Evidence


# ---------------------------------------------------------------- what a search proposes


@dataclass(frozen=True, slots=True)
class Proposal:
    """An arm of a search: which values were chosen, when, and from how much knowledge."""

    sweep_id: str
    number: int
    """From 0, in the order in which they were made."""
    arm: str
    """The arm that holds its runs: its own, or one of the same values; empty where they are refused."""
    values: dict[str, float]
    """Key path of the recipe -> value, as it is run."""
    method: str
    num_known: int
    """Outcomes that were known then, the control's included."""
    history: str
    """Digest of those outcomes: the same ones, and the same number, give the same values."""
    at: float


# ---------------------------------------------------------------- what people order


class OrderKind(StrEnum):
    """What a person may order while a sweep runs."""

    KILL = "kill"
    EXTEND = "extend"
    """Grant a run compute up to a total, pinned; one that is over goes on from its checkpoint."""
    REVIVE = "revive"
    """A run that is over goes on from its checkpoint, pinned."""
    PIN = "pin"
    """The rule stops the run no more; numbers that are not finite still do."""
    UNPIN = "unpin"
    PAUSE = "pause"
    """Nothing of the sweep is started, and what is at work goes down to a checkpoint."""
    RESUME = "resume"
    CANCEL = "cancel"
    """Kill every run of the sweep that is not over, start nothing more, propose nothing more."""
    RAISE_CAP = "raise_cap"
    """Let all runs together use more."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a person wants of a run, or of a sweep as a whole."""

    sweep_id: str
    run_id: str | None
    """None for an order to the sweep."""
    kind: OrderKind
    to_gpu_hours: float | None
    """The new grant of a run, or the new cap of a sweep; None for other kinds."""
    by: str
    """Who: user@host."""
    why: str
    at: float
    raise_cap: bool = False
    """Whether the sweep's cap rises by what an extension or a revival lacks."""


# ---------------------------------------------------------------- what is read back


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as the store knows it, for a driver or a report."""

    planned: PlannedRun
    status: RunStatus
    granted_gpu_hours: float
    points: tuple[EvalPoint, ...]
    trials: int
    failures: int
    last_decision: Decision | None
    reused: bool
    """Whether the sweep found this run's points already there."""

    @property
    def gpu_hours(self) -> float:
        """Training compute used so far."""
        return self.points[-1].gpu_hours if self.points else 0.0


# ---------------------------------------------------------------- records as JSON, exactly

_Record = TypeVar("_Record")
_FACTS: dict[str, type[Fact]] = {
    kind.__name__: kind
    for kind in (
        TrialStarted,
        SandboxUsed,
        EvalPoint,
        Measurement,
        PassCounts,
        LedgerEntry,
        CheckpointSaved,
        TrialEnded,
    )
}


def to_json(value: object) -> Any:
    """A record, or what records are made of, as plain JSON values; floats keep every bit.

    Raises:
        ValueError: a number is NaN or infinite; a number that does not exist is ``None``.
        TypeError: the value is neither a record nor made of what records are made of.
    """
    if isinstance(value, StrEnum):
        return value.value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a record holds {value}; a number that does not exist must be None")
        return float(value)
    if isinstance(value, Strict):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no place in a record: {value!r}")


def from_json(kind: type[_Record], value: Any) -> _Record:
    """The record that ``to_json`` wrote.

    Args:
        kind: the record's class.
        value: what ``json.loads`` gives.

    Raises:
        ValueError: a field is unknown, missing or of another type; the message names it.
    """
    record: _Record = _decode(kind, value, kind.__name__)
    return record


def fact_to_json(fact: Fact) -> dict[str, Any]:
    """A fact with its kind, as one line of a run's file."""
    written: dict[str, Any] = {"fact": type(fact).__name__}
    written.update(to_json(fact))
    return written


def fact_from_json(value: dict[str, Any]) -> Fact:
    """The fact that ``fact_to_json`` wrote.

    Raises:
        ValueError: the kind is unknown, or a field is unknown, missing or of another type.
    """
    kind = _FACTS.get(value.get("fact", ""))
    if kind is None:
        raise ValueError(f"unknown kind of fact {value.get('fact')!r}; known: {', '.join(_FACTS)}")
    return from_json(kind, {name: item for name, item in value.items() if name != "fact"})


@cache
def _fields_of(kind: type) -> dict[str, tuple[Any, bool]]:
    """Name -> (type, whether it must be given)."""
    hints = get_type_hints(kind)
    return {field.name: (hints[field.name], field.default is MISSING) for field in fields(kind)}


def _decode(kind: Any, value: Any, path: str) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        return _decode(get_args(kind)[0], value, path)
    if origin in (Union, UnionType):
        return _decode_union(get_args(kind), value, path)
    if origin is tuple:
        item = get_args(kind)[0]
        if not isinstance(value, list):
            raise _mismatch(path, "a list", value)
        return tuple(_decode(item, each, f"{path}[{place}]") for place, each in enumerate(value))
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _mismatch(path, "a finite number", value)
        return float(value)
    if kind in (bool, int, str):
        if type(value) is not kind:
            raise _mismatch(path, kind.__name__, value)
        return value
    if issubclass(kind, StrEnum):
        return kind(value)
    if issubclass(kind, Strict):
        return kind.model_validate(value)
    return _decode_record(kind, value, path)


def _decode_record(kind: type, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _mismatch(path, "an object", value)
    known = _fields_of(kind)
    unknown = sorted(set(value) - set(known))
    missing = sorted(name for name, (_, needed) in known.items() if needed and name not in value)
    if unknown or missing:
        raise ValueError(f"{path}: unknown fields {unknown}, missing fields {missing}")
    return kind(**{name: _decode(known[name][0], item, f"{path}.{name}") for name, item in value.items()})


def _decode_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and NoneType in options:
        return None
    rest = [option for option in options if option is not NoneType]
    if len(rest) == 1:
        return _decode(rest[0], value, path)
    for option in rest:
        if isinstance(value, dict) and option.model_fields["type"].default == value.get("type"):
            return _decode(option, value, path)
    raise _mismatch(path, " or ".join(option.__name__ for option in rest), value)


def _mismatch(path: str, wanted: str, value: object) -> ValueError:
    return ValueError(f"{path}: expected {wanted}, got {value!r}")


# ---------------------------------------------------------------- what is shown while a sweep runs


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """Where one run stands, for people who watch."""

    run_id: str
    arm: str
    seed: int
    role: Role
    status: RunStatus
    gpu_hours: float
    granted_gpu_hours: float
    pass_rate: float | None
    """Held-out pass rate at the newest point."""
    ceiling: Interval | None
    """Forecast of the ceiling; None before there is a fit."""
    identified: bool
    """Whether that ceiling is identified."""
    last_decision: Decision | None


@dataclass(frozen=True, slots=True)
class ProgressView:
    """Where a sweep stands, for people who watch; rows in the order of the plan."""

    sweep_id: str
    sweep_name: str
    profile_name: str
    rows: tuple[ProgressRow, ...]
    used_gpu_hours: float
    budget_gpu_hours: float
    wall_s: float
    """Seconds since this driver started."""
    wall_left_s: float | None
    """Estimate; None until something can be estimated."""
