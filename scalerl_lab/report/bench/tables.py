"""The findings of the measures as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.fit.published import CEILING_MARGIN
from scalerl_lab.fit.score import BANDS
from scalerl_lab.records import FitStatus
from scalerl_lab.report.bench.coverage import NINETY, CoverageRow, Quantity
from scalerl_lab.report.bench.passes import PassTiming
from scalerl_lab.report.bench.pooling import GainRow, worst
from scalerl_lab.report.bench.published import HalfBudget, half_budget_means
from scalerl_lab.report.bench.speed import Speed, Timing, growth
from scalerl_lab.report.words import ABSENT, bare, num, percent, rate, signed

_OF_WORDS = ("worst arm", "study", "identified")
_IDENTIFIED = {
    FitStatus.IDENTIFIED: "yes",
    FitStatus.NOT_IDENTIFIED: "no",
    FitStatus.TOO_FEW_POINTS: "few points",
}
_QUANTITIES = {
    Quantity.CEILING: "ceiling A",
    Quantity.AT_BUDGET: "pass rate at the budget",
    Quantity.DIFFERENCE: "A minus the control's",
    Quantity.ARM_DIFFERENCE: "A of the arm minus the control arm's",
    Quantity.AT_BUDGET_OFF_LAW: "pass rate at the budget, runs off the law",
}


def coverage_tables(rows: Sequence[CoverageRow]) -> RenderableType:
    """A table for each kind of sweep and quantity; a line for each way of fitting and cut."""
    parts: list[RenderableType] = []
    for kind in dict.fromkeys(row.kind for row in rows):
        for quantity in Quantity:
            chosen = [row for row in rows if row.kind is kind and row.quantity is quantity]
            if chosen:
                parts += [Text(f"{kind}: {_QUANTITIES[quantity]}"), _coverage(chosen)]
    parts.append(
        Text(
            "Coverage of central intervals in %; ± is the standard error of the 90 % one. Width of the 90 % "
            "interval and mean absolute error of the median are in pass rate; n.i.: share that the fit calls "
            "not identified; worst arm: its 90 % coverage. Where not all runs count, the fits of the others "
            "say nothing of the quantity."
        )
    )
    return Group(*parts)


def _coverage(rows: Sequence[CoverageRow]) -> Table:
    bands = [f"{100 * band:.0f}" for band in BANDS]
    table = _table("fit", "budget", "runs", *bands, "±", "width", "error", "n.i.", "worst arm")
    for row in rows:
        table.add_row(
            row.pooling.value,
            percent(row.fraction),
            f"{row.runs - row.absent:,}/{row.runs:,}" if row.absent else f"{row.runs:,}",
            *(f"{100 * share:.1f}" for share in row.coverage),
            ABSENT if row.coverage90_se is None else f"{100 * row.coverage90_se:.1f}",
            bare(row.width[NINETY]),
            f"{row.mean_absolute_error:.4f}".removeprefix("0"),
            percent(1.0 - row.identified),
            _cut(f"{100 * row.worst_arm_coverage90:.0f} {row.worst_arm.removeprefix('LOO-')}", 16),
        )
    return table


def gain_tables(rows: Sequence[GainRow]) -> RenderableType:
    """A table for each sweep and kind of siblings, all runs first; the worst arm below it."""
    parts: list[RenderableType] = []
    for sweep, siblings in dict.fromkeys((row.sweep, row.siblings) for row in rows):
        chosen = [row for row in rows if row.sweep == sweep and row.siblings is siblings]
        least = worst(chosen)
        title = f"{sweep}: a run up to 1.5 midpoints, siblings {siblings.value.replace('_', ' ')}"
        parts += [
            Text(title),
            _gains(chosen),
            Text(f"Least helped: {least.arm}, CRPS times {least.ratio:.3f}."),
        ]
    parts.append(Text("CRPS of the later points in thousandths of pass rate; ratio below 1: pooling helps."))
    return Group(*parts)


def _gains(rows: Sequence[GainRow]) -> Table:
    table = _table("arm", "runs", "CRPS alone", "pooled", "ratio", "±", "in 90 % band alone", "pooled")
    for row in rows:
        table.add_row(
            row.arm or "all",
            f"{row.runs:,}",
            f"{1e3 * row.crps_alone:.2f}",
            f"{1e3 * row.crps_pooled:.2f}",
            f"{row.ratio:.3f}",
            ABSENT if row.ratio_se is None else f"{row.ratio_se:.3f}",
            f"{100 * row.coverage90_alone:.1f}",
            f"{100 * row.coverage90_pooled:.1f}",
        )
    return table


def half_budget_tables(found: Sequence[HalfBudget]) -> RenderableType:
    """A line for each run, then the means."""
    runs = _table("run", "study", "points", "A", "off", "error", "in 90 %", "identified")
    for one in found:
        runs.add_row(
            _cut(one.run.removeprefix("LOO-"), 22),
            _cut(one.axis.removeprefix("forward ablation: ") if one.study == "forward" else one.study, 20),
            f"{one.points}+{one.score.points}",
            rate(one.ceiling),
            signed(one.ceiling_error),
            f"{one.score.mae:.4f}",
            f"{100 * one.score.coverage[NINETY]:.0f}",
            _IDENTIFIED[one.status],
        )
    bands = [f"{100 * band:.0f}" for band in BANDS]
    means = _table("mean", "runs", "points", "error", "CRPS", *bands, "90 by point", "ident.", "A off")
    for mean in half_budget_means(found):
        means.add_row(
            mean.study,
            str(mean.runs),
            str(mean.points),
            f"{mean.by_run.mae:.4f}",
            f"{mean.by_run.crps:.4f}",
            *(f"{100 * share:.1f}" for share in mean.by_run.coverage),
            f"{100 * mean.coverage90_by_point:.1f}",
            str(mean.identified),
            str(mean.ceiling_off),
        )
    note = (
        f"Points: fitted + later. Error: mean absolute error of the median at the later points. A off: runs "
        f"that the fit calls identified and whose A is more than {CEILING_MARGIN:g} from the published one."
    )
    return Group(runs, means, Text(note))


def half_budget_json(found: Sequence[HalfBudget], **asked: object) -> dict[str, Any]:
    """What was asked, the runs, and the means over them; coverage and width in the order of ``bands``."""
    return {
        **asked,
        "bands": list(BANDS),
        "runs": [{**asdict(one), "ceiling_error": one.ceiling_error} for one in found],
        "means": [asdict(mean) for mean in half_budget_means(found)],
    }


def speed_tables(speed: Speed, decided: PassTiming) -> RenderableType:
    """The comparison, then growth with points and with runs."""
    posterior, paper = speed.posterior, speed.paper
    lines = [
        f"One curve of {posterior.points} points: posterior with forecasts "
        f"{1e3 * posterior.seconds:.2f} ms, the paper's grid of curve_fit {paper.seconds:.2f} s: "
        f"{speed.times_faster:,.0f} times faster.",
        f"A batch of {num(speed.batch.runs, 'curve')} of {speed.batch.points} points: "
        f"{speed.batch.ms_per_curve:.2f} ms a curve.",
        f"A pooled sweep of {speed.pooled.runs} runs of {speed.pooled.points} points: "
        f"{speed.pooled.seconds:.2f} s.",
        f"A decision pass, verdicts on {decided.due} of {num(decided.runs, 'concurrent run')} of "
        f"{decided.points} points: {decided.seconds:.2f} s.",
    ]
    table = _table("fit", "runs", "points", "seconds", "ms a run", "exponent of growth")
    for name, timings in (
        ("alone, by points", speed.by_points),
        ("alone, by runs", speed.by_runs),
        ("together, by runs", speed.by_runs_together),
    ):
        for place, timing in enumerate(timings):
            exponent = growth(timings[: place + 1])
            table.add_row(
                name,
                f"{timing.runs:,}",
                f"{timing.points:,}",
                f"{timing.seconds:.4g}",
                f"{timing.ms_per_curve:.2f}",
                ABSENT if exponent is None else f"{exponent:.2f}",
            )
    return Group(*(Text(line) for line in lines), table, Text("Exponent 1: seconds grow as fast as size."))


def sweeps_json(coverage: Sequence[CoverageRow], gains: Sequence[GainRow], **asked: object) -> dict[str, Any]:
    """What was asked, then the rows, coverage and width in the order of ``bands``."""
    return {
        **asked,
        "bands": list(BANDS),
        "coverage": [asdict(row) for row in coverage],
        "pooling": [asdict(row) for row in gains],
    }


def speed_json(speed: Speed, decided: PassTiming) -> dict[str, Any]:
    """All timings, each with runs, points, seconds and ms_per_curve; of a pass also how many were due."""
    return {
        "times_faster": speed.times_faster,
        **{name: _timing_json(getattr(speed, name)) for name in ("posterior", "paper", "batch", "pooled")},
        **{
            name: [_timing_json(timing) for timing in getattr(speed, name)]
            for name in ("by_points", "by_runs", "by_runs_together")
        },
        "decision_pass": asdict(decided),
    }


def _timing_json(timing: Timing) -> dict[str, float]:
    return {
        "runs": timing.runs,
        "points": timing.points,
        "seconds": timing.seconds,
        "ms_per_curve": timing.ms_per_curve,
    }


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="left" if column in _OF_WORDS else "right")
    return table


def _cut(text: str, width: int) -> str:
    """A name short enough for its column: where a table is too wide, figures would be cut as well."""
    return text if len(text) <= width else text[: width - 1] + "…"
