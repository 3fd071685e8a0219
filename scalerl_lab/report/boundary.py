"""What training did to the reasoning boundary: pass@k before and after, and whether outputs grew novel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.config.tasks import HELDOUT
from scalerl_lab.fit import Boundary, Regime, boundary, mean_interval, pass_at_k, powers_of_two
from scalerl_lab.records import Interval, Measurement, PassCounts, RunState, to_json
from scalerl_lab.report.words import ABSENT, bare, listed, probability, rate, signed

Floats = npt.NDArray[np.float64]

OVERALL = "overall"
"""Name of all problem sets of a run together; each problem counts once."""
OVERLAP = "ngram_overlap"
DEMANDED = 0.8
"""Probability that a regime needs to be named, where nobody asks for another."""
STYLE = {Regime.DIMINISHING: "yellow", Regime.PLATEAU: "", Regime.SUSTAINED: "green", Regime.OPEN: "dim"}


@dataclass(frozen=True, slots=True)
class PassCurve:
    """pass@k of a set of problems at one step."""

    step: int
    gpu_hours: float
    pass_rates: tuple[Interval, ...]
    """For each k, the mean over problems; its median is the estimate, the interval from the bootstrap."""


@dataclass(frozen=True, slots=True)
class BoundaryRow:
    """One set of problems under one run."""

    run_id: str
    label: str
    problems: str
    """A set, ``set/domain``, or ``overall``."""
    num_problems: int
    samples_per_prompt: int
    ks: tuple[int, ...]
    before: PassCurve
    middle: PassCurve | None
    after: PassCurve
    boundary: Boundary


@dataclass(frozen=True, slots=True)
class NoveltyRow:
    """How a run's held-out completions changed with training."""

    run_id: str
    label: str
    before: Measurement
    after: Measurement
    mean_tokens: tuple[float, float]
    """Before and after, as the next two."""
    entropy: tuple[float, float]
    truncation_rate: tuple[float, float]


@dataclass(frozen=True, slots=True)
class BoundaryReport:
    """The reasoning boundary over the runs of a sweep."""

    sweep_id: str
    name: str
    margin: float
    demanded: float
    rows: tuple[BoundaryRow, ...]
    novelty: tuple[NoveltyRow, ...]
    unmeasured: tuple[str, ...]
    """Runs without pass@k at two steps."""


def boundary_report(
    sweep_id: str,
    name: str,
    states: Sequence[RunState],
    counts: Mapping[str, Sequence[PassCounts]],
    measured: Mapping[str, Sequence[Measurement]],
    *,
    margin: float,
    demanded: float,
) -> BoundaryReport:
    """The boundary of every run, recomputed from how often each problem passed.

    Args:
        sweep_id: of the sweep.
        name: of the sweep.
        states: its runs.
        counts: run id -> counts of passes, by step.
        measured: run id -> named measurements, by step.
        margin: gain of pass@k below which two are taken for equal.
        demanded: probability that a regime needs to be named.
    """
    rows: list[BoundaryRow] = []
    novelty: list[NoveltyRow] = []
    unmeasured = []
    for state in states:
        found = _rows(state, counts.get(state.planned.run_id, ()), margin, demanded)
        rows += found
        novelty += _novelty(state, measured.get(state.planned.run_id, ()))
        if not found:
            unmeasured.append(_label(state))
    return BoundaryReport(sweep_id, name, margin, demanded, tuple(rows), tuple(novelty), tuple(unmeasured))


def _label(state: RunState) -> str:
    return f"{state.planned.arm}:{state.planned.spec.seed}"


@dataclass(frozen=True, slots=True)
class Reached:
    """pass@k of each problem [P, K] by set, at the steps that a regime is judged by."""

    ks: tuple[int, ...]
    samples_per_prompt: int
    hours: Mapping[int, float]
    first: int
    middle: int | None
    last: int
    before: Mapping[str, Floats]
    between: Mapping[str, Floats]
    after: Mapping[str, Floats]

    @property
    def sets(self) -> list[str]:
        """Those measured at both ends."""
        return [name for name, after_PK in self.after.items() if _like(self.before.get(name), after_PK)]


def _like(one: Floats | None, other: Floats) -> bool:
    return one is not None and one.shape == other.shape


def reached_by(told: Sequence[PassCounts]) -> Reached | None:
    """What the counts of one run come to; None without two steps."""
    hours = {each.step: each.gpu_hours for each in told}
    steps = sorted(hours)
    if len(steps) < 2:
        return None
    first, last, middle = steps[0], steps[-1], _halfway(hours)
    ks = powers_of_two(min(each.max_k for each in told))
    curves = {
        step: _by_problems([each for each in told if each.step == step], ks)
        for step in (first, middle, last)
        if step is not None
    }
    between = {} if middle is None else curves[middle]
    samples = told[0].samples_per_prompt
    return Reached(ks, samples, hours, first, middle, last, curves[first], between, curves[last])


def _rows(state: RunState, told: Sequence[PassCounts], margin: float, demanded: float) -> list[BoundaryRow]:
    reached = reached_by(told)
    if reached is None:
        return []
    rows = []
    for problems in reached.sets:
        before_PK, after_PK = reached.before[problems], reached.after[problems]
        middle, middle_PK = reached.middle, reached.between.get(problems)
        between = None if middle is None or middle_PK is None else _curve(middle, reached.hours, middle_PK)
        rows.append(
            BoundaryRow(
                run_id=state.planned.run_id,
                label=_label(state),
                problems=problems,
                num_problems=len(after_PK),
                samples_per_prompt=reached.samples_per_prompt,
                ks=reached.ks,
                before=_curve(reached.first, reached.hours, before_PK),
                middle=between,
                after=_curve(reached.last, reached.hours, after_PK),
                boundary=boundary(before_PK, middle_PK, after_PK, margin=margin, demanded=demanded),
            )
        )
    return rows


def _halfway(hours: Mapping[int, float]) -> int | None:
    """The step between the first and the last whose compute is nearest to half of the last's."""
    steps = sorted(hours)
    half = (hours[steps[0]] + hours[steps[-1]]) / 2.0
    return min(steps[1:-1], key=lambda step: abs(hours[step] - half), default=None)


def _by_problems(told: Sequence[PassCounts], ks: Sequence[int]) -> dict[str, Floats]:
    """pass@k of each problem [P, K] by set, by domain where a set has several, and of all together."""
    parts = {
        (each.problem_set, each.domain): pass_at_k(each.samples_per_prompt, each.passed, ks) for each in told
    }
    sets = list(dict.fromkeys(each.problem_set for each in told))
    found: dict[str, Floats] = {}
    for name in sets:
        of_set = {domain: value for (problem_set, domain), value in parts.items() if problem_set == name}
        found[name] = np.concatenate(list(of_set.values()))
        if len(of_set) > 1:
            found |= {f"{name}/{domain}": value for domain, value in of_set.items()}
    if len(sets) > 1:
        found[OVERALL] = np.concatenate([found[name] for name in sets])
    return found


def _curve(step: int, hours: Mapping[int, float], value_PK: Floats) -> PassCurve:
    return PassCurve(step, hours[step], means(value_PK))


def means(value_PK: Floats) -> tuple[Interval, ...]:
    """For each k, the mean over problems with its interval by bootstrap."""
    rates = []
    for place in range(value_PK.shape[1]):
        drawn = mean_interval(value_PK[:, place])
        mean = float(value_PK[:, place].mean())
        rates.append(Interval(mean, drawn.low80, drawn.high80, drawn.low95, drawn.high95))
    return tuple(rates)


def _novelty(state: RunState, measured: Sequence[Measurement]) -> list[NoveltyRow]:
    told = [each for each in measured if each.metric == OVERLAP and each.problem_set == HELDOUT]
    points = {point.step: point for point in state.points}
    if len(told) < 2 or told[0].step not in points or told[-1].step not in points:
        return []
    before, after = points[told[0].step], points[told[-1].step]
    return [
        NoveltyRow(
            run_id=state.planned.run_id,
            label=_label(state),
            before=told[0],
            after=told[-1],
            mean_tokens=(before.mean_tokens, after.mean_tokens),
            entropy=(before.entropy, after.entropy),
            truncation_rate=(before.truncation_rate, after.truncation_rate),
        )
    ]


# ---------------------------------------------------------------- text and documents


def boundary_table(report: BoundaryReport) -> RenderableType:
    """pass@k and regimes of each set, then how outputs changed, then what it rests on."""
    parts: list[RenderableType] = [Text(f"Reasoning boundary of sweep {report.name} ({report.sweep_id})")]
    if report.rows:
        parts.append(_regimes(report))
    if report.novelty:
        parts.append(_outputs(report))
    return Group(*parts, *(Text(line) for line in boundary_notes(report)))


def boundary_notes(report: BoundaryReport) -> list[str]:
    """The rule, the tally, and which runs have nothing to show."""
    lines = []
    if report.rows:
        tally = Counter(row.boundary.regime for row in _smallest(report.rows))
        told = ", ".join(f"{tally[kind]} {kind.value}" for kind in Regime)
        m, p = f"{report.margin:g}", f"{report.demanded:g}"
        lines += [
            f"Sets of problems by regime: {told}.",
            "Rule: G is the gain of pass@K from the first measurement to the last, L from the one halfway, K "
            f"the largest k. Diminishing: G <= {m}; plateau: G > {m}, L <= {m}; sustained: both above {m}. A "
            f"regime is named when its probability, by bootstrap over problems, is at least {p}; else open, "
            "as is a rise without a third measurement between. Intervals are 80 %.",
        ]
    if report.novelty:
        lines.append(
            "n-gram overlap: share of words of held-out completions inside an n-gram of the corpus, mean "
            "over n; what is left is novel."
        )
    if report.unmeasured:
        lines.append(
            f"No pass@k at two steps: {listed(report.unmeasured)}. A recipe asks for it with "
            "evaluation.boundary."
        )
    return lines


def _smallest(rows: Sequence[BoundaryRow]) -> list[BoundaryRow]:
    """Rows whose problems no other row divides further, so that each problem is told of once."""
    divided = {(row.label, row.problems.partition("/")[0]) for row in rows if "/" in row.problems}
    return [row for row in rows if row.problems != OVERALL and (row.label, row.problems) not in divided]


def _regimes(report: BoundaryReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run and problems", no_wrap=True, overflow="ellipsis", max_width=28)
    for column in ("pass@1", "pass@K", "K", "gain of pass@K", "regime"):
        table.add_column(column, no_wrap=True)
    shown = ""
    for row in report.rows:
        if row.label != shown:
            table.add_row(row.label, style="bold")
            shown = row.label
        before, after, found = row.before.pass_rates, row.after.pass_rates, row.boundary
        share = getattr(found, found.regime.value) if found.regime is not Regime.OPEN else None
        told = found.regime.value if share is None else f"{found.regime.value} {probability(share)}"
        table.add_row(
            f"  {row.problems}",
            f"{bare(before[0].median)} to {bare(after[0].median)}",
            f"{bare(before[-1].median)} to {bare(after[-1].median)}",
            str(row.ks[-1]),
            gain_text(found.last_gain),
            Text(told, style=STYLE[found.regime]),
        )
    return table


def gain_text(gain: Interval) -> str:
    """A gain of pass rate with its 80 % interval."""
    return f"{signed(gain.median)} [{bare(gain.low80, sign=True)}, {bare(gain.high80, sign=True)}]"


def _outputs(report: BoundaryReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True, overflow="ellipsis", max_width=20)
    for column in ("n-gram overlap", "tokens", "entropy", "truncated"):
        table.add_column(column, no_wrap=True)
    for row in report.novelty:
        ends = [f"{rate(m.value)} ± {error(m.standard_error)}" for m in (row.before, row.after)]
        table.add_row(
            row.label,
            " to ".join(ends),
            f"{row.mean_tokens[0]:.1f} to {row.mean_tokens[1]:.1f}",
            f"{row.entropy[0]:.3f} to {row.entropy[1]:.3f}",
            f"{rate(row.truncation_rate[0])} to {rate(row.truncation_rate[1])}",
        )
    return table


def error(standard_error: float | None) -> str:
    """A standard error without the zero before the point."""
    return ABSENT if standard_error is None else bare(standard_error)


def boundary_json(report: BoundaryReport) -> dict[str, Any]:
    """The report for machines; keys are stable."""
    document: dict[str, Any] = to_json(report)
    return document
