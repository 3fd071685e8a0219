"""Scores of forecasts on real curves, as text, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.fit.score import BANDS, Score
from scalerl_lab.report.bench.forecasts import ForecastBench, MethodRow
from scalerl_lab.report.words import ABSENT, bare, num, percent, signed

_PERCENT = [round(100 * band) for band in BANDS]


def forecast_tables(bench: ForecastBench) -> RenderableType:
    """A table for each group and one for all, with a block of methods for each cut."""
    parts: list[RenderableType] = []
    for group in dict.fromkeys(row.group for row in bench.rows):
        rows = [row for row in bench.rows if row.group == group]
        parts += [Text(_title(bench, group)), _table(rows)]
    parts.append(
        Text(
            "Of values not yet seen, in units of a curve's scale: CRPS (ratio: over the best other "
            "baseline), mean absolute error of the median, log score in nats (higher is better), coverage "
            "of central bands in %, their widths; n.i.: share of curves whose ceiling is not identified. "
            "Means over points of a curve, curves of a source, sources of a group, groups."
        )
    )
    return Group(*parts)


def forecast_json(bench: ForecastBench, **asked: object) -> dict[str, Any]:
    """What was asked, then a row for each group, cut and method."""
    return {
        **asked,
        "methods": list(bench.methods),
        "cuts": list(bench.cuts),
        "curves": bench.num_curves,
        "rows": [
            {"group": row.group, "cut": row.cut, "method": row.method, "crps_ratio": row.ratio}
            | _score_json(row.score)
            for row in bench.rows
        ],
    }


def forecast_csv(bench: ForecastBench) -> str:
    """One line for each curve, cut and method."""
    lines = [
        {"group": one.group, "source": one.source, "run": one.curve, "cut": one.cut, "method": one.method}
        | _score_json(one.score)
        for one in bench.scored
    ]
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return text.getvalue()


def _score_json(score: Score) -> dict[str, float]:
    return {
        "forecasts": score.forecasts,
        "points": score.points,
        "mae": score.mae,
        "crps": score.crps,
        "log_score": score.log_score,
        **{f"coverage{band}": share for band, share in zip(_PERCENT, score.coverage, strict=True)},
        **{f"width{band}": width for band, width in zip(_PERCENT, score.width, strict=True)},
        "not_identified": score.not_identified,
    }


def _title(bench: ForecastBench, group: str | None) -> str:
    if group is None:
        return f"all groups ({num(bench.num_curves, 'curve')})"
    own = {(one.source, one.curve) for one in bench.scored if one.group == group}
    sources = {source for source, _ in own}
    return f"{group} ({num(len(own), 'curve')}, {num(len(sources), 'source')})"


def _table(rows: Sequence[MethodRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("cut", "method"):
        table.add_column(column, no_wrap=True)
    bands = [str(band) for band in _PERCENT]
    for column in ("CRPS", "ratio", "MAE", "log", *bands, *(f"w{band}" for band in bands), "n.i."):
        table.add_column(column, no_wrap=True, justify="right")
    least = {row.cut: min(r.score.crps for r in rows if r.cut == row.cut) for row in rows}
    cut_before: float | str | None = ""
    for row in rows:
        score = row.score
        if row.cut != cut_before and cut_before != "":
            table.add_section()
        table.add_row(
            "" if row.cut == cut_before else ("mean" if row.cut is None else percent(row.cut)),
            row.method,
            f"{score.crps:.4f}",
            ABSENT if row.ratio is None else f"{row.ratio:.2f}",
            f"{score.mae:.4f}",
            signed(score.log_score).removeprefix("+"),
            *(f"{100 * share:.0f}" for share in score.coverage),
            *(bare(width) if width < 1.0 else f"{width:.2f}" for width in score.width),
            f"{100 * score.not_identified:.0f}",
            style="bold" if score.crps <= least[row.cut] else "",
        )
        cut_before = row.cut
    return table
