"""Which trials are to stop by their forecasts, and why; pure, and the same for every tool.

A trial stops when the probability that it ends within a margin of the reference falls below a threshold.
The probability is that of one joint posterior of the trial, the reference and their siblings, so that noise
and shape are learned from all of them and equal trials are seen to be equal.

The threshold holds over all looks at a trial, not for each: as evidence comes in, the probability of being
within the margin, "not worse", is a martingale. What it bounds, as far as the posterior is calibrated:

- With any reference, the share of stops that are wrong: P(not worse | stopped) <= threshold, for a trial
  stops when that probability first falls below it (optional stopping).
- With the control as reference, also how often a trial that is not worse is ever stopped, over all looks:
  P(stopped | not worse) <= threshold / (1 - threshold) * P(worse) / P(not worse), for the odds are a
  likelihood ratio times the prior odds (Ville's inequality). There the prior odds of being worse are below 1,
  for a trial may lie on either side of the control. Against the best of many trials, or a high level, most
  trials are worse before anything is seen: the odds exceed 1, and only the first bound stands.

Apart from forecasts, a trial whose values cease to be finite numbers has diverged and stops at once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from scalerl_lab.decide.wording import probability as probability_in_words
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.law_fit import LawFit, fit_posterior
from scalerl_lab.fit.siblings import fit_siblings
from scalerl_lab.records import FitStatus

MOST_SIBLINGS = 24
"""Trials fitted together at most; it bounds what a look costs."""
MOST_DUE = 8
"""Trials judged at once at most."""
MOST_POINTS = 256
"""Of a trial: neighbours of a longer curve are averaged."""
_SUSPECT = 0.3
"""A trial whose own fit gives it more than this is not worth a joint fit."""
_CAUTIOUS = 0.2
"""Quantile of the forecast by which the best trial is chosen: a young trial's wide hopes are no reference."""
NON_FINITE_IN_A_ROW = 2
"""So many values in turn that are no finite numbers are a divergence; a single one may be a slip."""
_REACHED = 0.95
"""Share of the target at which a finished trial has reached it: steps may be counted from 0."""

Reference = Literal["best", "control"] | float
OnNan = Literal["stop", "ignore"]
Points = tuple[tuple[float, ...], tuple[float, ...]]
"""N computes, strictly increasing, and N values, both in the tool's units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRule:
    """When a trial is to stop.

    Raises:
        ValueError: an argument is outside of what is allowed; the message names it.
    """

    margin: float
    """Shortfall from the reference that does not matter, in units of the metric, >= 0."""
    target: float | None = None
    """Compute at which trials are compared; None: their asymptotes."""
    threshold: float = 0.05
    """A trial stops when the probability that it ends within the margin is below this; in (0, 0.5). What it
    bounds is at the top of this file."""
    reference: Reference = "best"
    """What a trial is compared with: the best trial, the control, or a value of the metric."""
    minimise: bool = False
    """Whether a lower metric is better."""
    fit_start: float = 0.0
    """Points before this compute are left out of fits; what is reported at compute 0 is kept as the start."""
    warm_up: float = 0.0
    """No trial stops before this compute."""
    interval: float | None = None
    """Compute from one look at a trial to the next; None: a twentieth of the target, or each point."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest value the metric can take."""
    unit: str = "steps"
    """What compute is counted in, for the sentences."""
    on_nan: OnNan = "stop"
    """Whether a trial with ``NON_FINITE_IN_A_ROW`` values that are no finite numbers stops."""

    def __post_init__(self) -> None:
        for name in ("margin", "fit_start", "warm_up"):
            _demand(getattr(self, name) >= 0.0, name, getattr(self, name), "a number >= 0")
        _demand(0.0 < self.threshold < 0.5, "threshold", self.threshold, "a probability between 0 and 0.5")
        for name in ("target", "interval"):
            value = getattr(self, name)
            _demand(value is None or 0.0 < value < math.inf, name, value, "a number > 0, or None")
        late = self.target is None or max(self.fit_start, self.warm_up) < self.target
        _demand(
            late, "fit_start or warm_up", (self.fit_start, self.warm_up), f"below the target {self.target}"
        )
        known = self.reference in ("best", "control") or (
            not isinstance(self.reference, str) and math.isfinite(self.reference)
        )
        _demand(known, "reference", self.reference, '"best", a control, or a value of the metric')
        _demand(self.on_nan in ("stop", "ignore"), "on_nan", self.on_nan, '"stop" or "ignore"')
        ordered = self.bounds is None or self.bounds[0] < self.bounds[1]
        _demand(ordered, "bounds", self.bounds, "(lowest, highest)")

    @property
    def every(self) -> float:
        """Compute from one look at a trial to the next; 0: every point is a look."""
        if self.interval is not None:
            return self.interval
        return 0.0 if self.target is None else self.target / 20.0

    def is_look(self, compute: float, before: float) -> bool:
        """Whether a trial that got from one compute to another is to be looked at."""
        if compute < self.warm_up or not compute > before:
            return False
        return self.every == 0.0 or math.floor(compute / self.every) > math.floor(before / self.every)

    def signed(self, value: float) -> float:
        """A value of the metric as fits see it, higher is better; and back."""
        return -value if self.minimise else value


@dataclass(frozen=True, slots=True)
class History:
    """What a trial has shown."""

    name: str
    points: Points
    runs: bool = True
    """Whether it still gets compute."""
    lost: bool = False
    """Whether it failed, was stopped, or seems dead: it informs the fits, and is never the best trial."""
    control: bool = False
    diverged: bool = False
    """Whether its newest values are no finite numbers: it is no reference, not even as a control."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a trial, with the numbers that say so."""

    stop: bool
    compute: float
    """Of the last point that it rests on."""
    reason: str
    probability: float | None = None
    """That the trial ends within the margin of the reference; None where nothing can be said."""
    reference: str | None = None
    """Name of the trial it was compared with."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A trial's forecast: K equally probable values at the target, higher is better."""

    history: History
    draws: Floats | None
    why_not: str
    """Why nothing is decided on it; empty where it may be."""


def siblings_of(
    due: Collection[str], summaries: Mapping[str, tuple[float, float]], rule: ForecastRule
) -> list[str]:
    """The trials that a look needs besides those that are looked at: the longest, and the best so far.

    Args:
        due: names of trials that are looked at.
        summaries: by name, the last compute and a trial's last value, of all trials with points.
        rule: says which value is better.

    Returns:
        At most ``MOST_SIBLINGS - len(due)`` names.
    """
    others = [name for name in summaries if name not in due]
    longest = sorted(others, key=lambda name: (-summaries[name][0], name))
    best = sorted(others, key=lambda name: (-rule.signed(summaries[name][1]), name))
    in_turn = dict.fromkeys(name for pair in zip(best, longest, strict=True) for name in pair)
    return list(in_turn)[: max(MOST_SIBLINGS - len(due), 0)]


def judge(histories: Sequence[History], due: Sequence[str], rule: ForecastRule) -> dict[str, Verdict]:
    """Look at some trials among their siblings; pure.

    A look costs a fit of each trial that is not known yet and, where one of them seems to lose by its own
    fit, one joint fit.

    Args:
        histories: of the trials that are looked at, the control's, and siblings.
        due: names of those that are looked at, at most ``MOST_DUE``.
        rule: when a trial is to stop.

    Returns:
        A verdict for every name in ``due``.
    """
    alone = {history.name: _alone(history, rule) for history in histories}
    verdicts = {name: _compared(alone[name], list(alone.values()), rule, joint=False) for name in due}
    suspects = [name for name in due if verdicts[name].stop]
    if not suspects:
        return verdicts
    others = [seen.history for name, seen in alone.items() if name not in suspects]
    others.sort(key=lambda history: not history.control)
    together = [alone[name].history for name in suspects] + others
    joint = _together(together[: max(MOST_SIBLINGS, len(suspects) + 1)], rule)
    for name in suspects:
        verdicts[name] = _compared(joint[name], list(joint.values()), rule, joint=True)
    return verdicts


def has_diverged(newest: Sequence[float]) -> bool:
    """Whether a trial has diverged, by its newest values that are no finite numbers."""
    return len(newest) >= NON_FINITE_IN_A_ROW


def diverged(computes: Iterable[float], newest: Sequence[float], rule: ForecastRule) -> Verdict:
    """The verdict on a trial that has diverged.

    Args:
        computes: of its newest values.
        newest: the newest values in turn that are no finite numbers, at least one.
        rule: says what compute is counted in.
    """
    computes = list(computes)
    kinds = ", ".join(dict.fromkeys(f"{value:g}" for value in newest))
    reason = (
        f"Diverged: the last {len(newest)} values are no finite numbers ({kinds}), "
        f"since {_number(computes[0])} {rule.unit}, after {_number(computes[-1])} {rule.unit}."
    )
    return Verdict(True, computes[-1], reason)


def thinned(compute: Floats, value: Floats) -> Points:
    """A curve of at most ``MOST_POINTS`` points, each the mean of as many neighbours.

    Args:
        compute: N computes.
        value: N values.
    """
    if compute.size > MOST_POINTS:
        first = np.unique(np.linspace(0, compute.size, MOST_POINTS, endpoint=False).astype(int))
        count = np.diff(np.append(first, compute.size))
        compute, value = (np.add.reduceat(column, first) / count for column in (compute, value))
    return tuple(compute.tolist()), tuple(value.tolist())


def _alone(history: History, rule: ForecastRule) -> _Seen:
    draws, why_not = _own_draws(history.points, rule)
    return _Seen(history, draws, why_not)


@lru_cache(maxsize=1024)
def _own_draws(points: Points, rule: ForecastRule) -> tuple[Floats | None, str]:
    return _draws(fit_posterior(_curve("", points, rule)), rule)


def _together(histories: Sequence[History], rule: ForecastRule) -> dict[str, _Seen]:
    """The joint fit; the order of trials changes nothing."""
    histories = sorted(histories, key=lambda history: history.name)
    curves = [_curve(history.name, history.points, rule) for history in histories]
    arms = ["the control" if history.control else history.name for history in histories]
    fits = fit_siblings(curves, arms).fits
    return {
        history.name: _Seen(history, *_draws(fit, rule)) for history, fit in zip(histories, fits, strict=True)
    }


def _curve(name: str, points: Points, rule: ForecastRule) -> Curve:
    bounds = rule.bounds
    if bounds is not None and rule.minimise:
        bounds = (-bounds[1], -bounds[0])
    value = [rule.signed(value) for value in points[1]]
    return Curve.of(name, points[0], value, bounds=bounds).between(rule.fit_start, None)


def _draws(fit: LawFit, rule: ForecastRule) -> tuple[Floats | None, str]:
    """(K values at the target, why nothing is decided on them)."""
    if fit.draws is None or fit.status is FitStatus.TOO_FEW_POINTS:
        return None, fit.why
    if rule.target is not None:
        return fit.predict([rule.target]).mean[:, 0], ""
    return fit.draws.A, "" if fit.status is FitStatus.IDENTIFIED else fit.why


def _compared(seen: _Seen, fleet: Sequence[_Seen], rule: ForecastRule, *, joint: bool) -> Verdict:
    """A trial against the reference.

    Args:
        seen: the trial.
        fleet: all trials of the same fits, the trial included.
        rule: says what the reference is.
        joint: whether draws belong together; else they are those of fits apart, and a trial that may lose
            is marked to be looked at closer.
    """
    compute = seen.history.points[0][-1] if seen.history.points[0] else 0.0
    after = f"after {_number(compute)} {rule.unit}"

    def goes_on(why: str, chance: float | None = None, reference: str | None = None) -> Verdict:
        return Verdict(False, compute, f"{why[:1].upper()}{why[1:].rstrip('.')}, {after}.", chance, reference)

    if seen.history.control:
        return goes_on("The control is never stopped")
    if seen.draws is None or seen.why_not:
        return goes_on(seen.why_not)
    if rule.target is not None and compute >= rule.target:
        return goes_on(f"The target of {_number(rule.target)} {rule.unit} is reached")
    reference = _reference(fleet, rule)
    if reference is None:
        what = "the control" if rule.reference == "control" else "any trial"
        return goes_on(f"There is no forecast of {what} to compare with yet")
    name, words, level = reference
    own = _interval(seen.draws, rule)
    at = f"At {_number(rule.target)} {rule.unit}" if rule.target is not None else "At its asymptote"
    if name == seen.history.name:
        return goes_on(f"{at} it is forecast at {own}, the best of all", 1.0, name)
    chance = _chance(seen.draws, level - rule.margin, joint=joint)
    stop = chance < (rule.threshold if joint else max(_SUSPECT, rule.threshold))
    versus = (
        f"{at} it is forecast at {own}, {words} {_interval(level, rule)}: within "
        f"{_number(rule.margin)} of that with probability {probability_in_words(chance)}"
    )
    if stop:
        return Verdict(True, compute, f"{versus}, less than {rule.threshold:g}, {after}.", chance, name)
    return goes_on(f"{versus} (to stop: {rule.threshold:g})", chance, name)


def _reference(fleet: Sequence[_Seen], rule: ForecastRule) -> tuple[str | None, str, Floats] | None:
    """(name of a trial, words, draws) of what trials are compared with; None while there is nothing."""
    if not isinstance(rule.reference, str):
        return None, "the level is", np.array([rule.signed(rule.reference)])
    known = [
        seen for seen in fleet if seen.draws is not None and not seen.why_not and not seen.history.diverged
    ]
    if rule.reference == "control":
        controls = [seen for seen in known if seen.history.control]
        if not controls:
            return None
        draws: Floats = np.mean([_of(seen) for seen in controls], axis=0)
        return controls[0].history.name, "the control at", draws
    able = [seen for seen in known if not seen.history.lost and _may_arrive(seen.history, rule)]
    if not able:
        return None
    best = max(able, key=lambda seen: (float(np.quantile(_of(seen), _CAUTIOUS)), seen.history.name))
    return best.history.name, f"the best trial, {best.history.name}, at", _of(best)


def _may_arrive(history: History, rule: ForecastRule) -> bool:
    """Whether a trial reaches the target: what ended on the way holds no value there."""
    return history.runs or rule.target is None or history.points[0][-1] >= _REACHED * rule.target


def _of(seen: _Seen) -> Floats:
    assert seen.draws is not None
    return seen.draws


def _chance(own: Floats, bound: Floats, *, joint: bool) -> float:
    """P(own > bound), for draws that belong together, or for each of one with each of the other."""
    if joint or bound.size == 1:
        from scalerl_lab.fit.differences import probability_below

        return 1.0 - probability_below(own - bound, 0.0)
    return float(np.searchsorted(np.sort(bound), own, side="left").mean() / bound.size)


def _interval(draws: Floats, rule: ForecastRule) -> str:
    """Median with 80 % interval in the metric's own sign."""
    if draws.size == 1:
        return _number(rule.signed(float(draws[0])))
    low, middle, high = sorted(rule.signed(float(q)) for q in np.quantile(draws, (0.1, 0.5, 0.9)))
    return f"{_number(middle)} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """Four digits that matter; whole numbers in full."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _demand(holds: bool, name: str, given: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {given!r}; allowed is {allowed}")
