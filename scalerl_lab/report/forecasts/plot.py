"""Fits of a file's runs as a picture: points, points held out, median and bands, a panel per run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scalerl_lab.errors import UserError
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.report.forecasts.fitting import FittedRun, interval
from scalerl_lab.report.forecasts.reading import PointFile
from scalerl_lab.report.forecasts.rows import level, run_decimals
from scalerl_lab.report.words import amount, num

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 24
"""So many runs are drawn in one picture."""
FORMATS = ("png", "svg", "pdf")
BLUE, GREY, INK, ORANGE = "#0072b2", "#8a8f98", "#1f2430", "#d55e00"
_NUM_X = 72
_NUM_DRAWN = 6000
"""New points drawn per compute, so that the edges of the outer band are smooth."""
_LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
_SHADES = ((0, "#dceaf5", "95 %"), (1, "#b3d3ea", "80 %"), (2, "#86badd", "50 %"))
"""Place of the lower quantile in ``_LEVELS``, colour, name; a later one covers the earlier."""


def write_plot(path: Path, file: PointFile, fitted: Sequence[FittedRun]) -> str | None:
    """Draw the runs, each in a panel of its own, into a PNG, SVG or PDF file, by its ending.

    Returns:
        A sentence where not all runs are drawn.

    Raises:
        UserError: the ending is another, or the file cannot be written.
    """
    check_format(path)
    from matplotlib.figure import Figure

    drawn = fitted[:MOST_PANELS]
    wide = 1 if len(drawn) == 1 else 2 if len(drawn) <= 4 else 3 if len(drawn) <= 12 else 4
    high = math.ceil(len(drawn) / wide)
    size = (7.6, 4.8) if len(drawn) == 1 else (4.1 * wide, 3.1 * high + 0.5)
    figure = Figure(figsize=size, dpi=150 if len(drawn) <= 4 else 110, layout="constrained")
    logarithmic = _log_helps(drawn)
    for place, run in enumerate(drawn, start=1):
        axes = figure.add_subplot(high, wide, place)
        _panel(axes, run, logarithmic=logarithmic, small=len(drawn) > 1)
    figure.supxlabel(f"{file.columns.x}{' (log scale)' if logarithmic else ''}", fontsize=9, parse_math=False)
    figure.supylabel(file.columns.y, fontsize=9, parse_math=False)
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), 7),
        frameon=False, fontsize=8,
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            # A letter that the font lacks is drawn as a box; that is no news for the terminal.
            warnings.simplefilter("ignore")
            figure.savefig(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    if len(fitted) > len(drawn):
        return f"{path}: the first {len(drawn)} of {num(len(fitted), 'run')} drawn; choose others with --only"
    return None


def check_format(path: Path) -> None:
    """Refuse an ending that says no format.

    Raises:
        UserError: the ending is none of ``FORMATS``.
    """
    if path.suffix.lower().removeprefix(".") not in FORMATS:
        raise UserError(f"cannot draw {path}: the name has to end in .{', .'.join(FORMATS)} (--plot)")


def _log_helps(fitted: Sequence[FittedRun]) -> bool:
    """Whether points and forecasts of most runs are spread more evenly along a log axis."""
    votes = 0
    for run in fitted:
        x = _shown(run)
        if x.size < 2 or x[0] == x[-1]:
            continue
        uneven = [abs(float(np.median((at - at[0]) / (at[-1] - at[0]))) - 0.5) for at in (x, np.log(x))]
        votes += 1 if uneven[1] < uneven[0] else -1
    return votes > 0


def _shown(run: FittedRun) -> Floats:
    """All computes that a panel has to show, in order."""
    parts = [run.earlier.compute, run.curve.compute, run.later.compute, [at.compute for at in run.forecasts]]
    return np.sort(np.concatenate([np.asarray(part, dtype=np.float64) for part in parts]))


def _panel(axes: Axes, run: FittedRun, *, logarithmic: bool, small: bool) -> None:
    x = _shown(run)
    if x.size:
        first, last = float(x[0]), float(x[-1])
        if logarithmic:
            grid = np.geomspace(first, last * 1.05, _NUM_X)
            axes.set_xscale("log")
        else:
            grid = np.linspace(first, last * 1.02, _NUM_X)
        if run.curve.compute.size:
            _bands(axes, run, grid)
        axes.set_xlim(first * 0.93 if logarithmic else first - 0.02 * (last - first), float(grid[-1]))
    size = 3.0 if small else 4.0
    _points(axes, run.earlier, "left out", GREY, size)
    _points(axes, run.curve, "in the fit", INK, size)
    _points(axes, run.later, "held out", ORANGE, size, hollow=True)
    _limits(axes, run)
    axes.xaxis.set_major_formatter(lambda value, _: amount(value))
    if logarithmic:
        axes.xaxis.set_minor_formatter(lambda value, _: amount(value) if f"{value:.0e}"[0] in "25" else "")
    else:
        axes.locator_params(axis="x", nbins=6)
    axes.tick_params(axis="both", which="both", labelsize=7 if small else 8, length=3)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"{run.run}\n{_caption(run)}", loc="left", fontsize=7.5 if small else 9, color=INK, parse_math=False
    )


def _bands(axes: Axes, run: FittedRun, grid: Floats) -> None:
    """Bands of a new point, the curve's median: solid as far as the fit has points, dashed beyond."""
    prediction = run.fit.predict(grid)
    quantiles = np.quantile(prediction.points(_NUM_DRAWN), _LEVELS, axis=0)
    for low, colour, name in _SHADES:
        axes.fill_between(grid, quantiles[low], quantiles[-1 - low], color=colour, linewidth=0, label=name)
    median = prediction.mean_quantiles((0.5,))[0]
    end = float(run.curve.compute[-1])
    cut = int(np.searchsorted(grid, end))
    axes.plot(grid[: cut + 1], median[: cut + 1], color=BLUE, linewidth=1.5, label="fit")
    axes.plot(grid[cut:], median[cut:], color=BLUE, linewidth=1.5, linestyle=(0, (4, 2)), label="forecast")
    axes.axvline(end, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))


def _points(axes: Axes, curve: Curve, label: str, color: str, size: float, *, hollow: bool = False) -> None:
    if curve.compute.size:
        axes.errorbar(
            curve.compute, curve.value, yerr=curve.se, fmt="o", ms=size, color=color,
            mfc="white" if hollow else color, elinewidth=0.7, mew=0.9, alpha=0.85, label=label,
        )  # fmt: skip


def _limits(axes: Axes, run: FittedRun) -> None:
    """Values that hold all points and the 80 % bands; a wide 95 % band must not flatten the curve."""
    parts = [run.earlier.value, run.curve.value, run.later.value]
    ends = [end for at in run.forecasts if at.point is not None for end in (at.point.low80, at.point.high80)]
    values = np.concatenate([*parts, np.asarray(ends, dtype=np.float64)])
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    axes.set_ylim(low - pad, high + pad)


def _caption(run: FittedRun) -> str:
    """What the fit says of the ceiling."""
    ceiling = interval(run.fit.asymptote)
    status = run.fit.status.value.replace("_", " ")
    if ceiling is None or not run.identified:
        return f"{run.fit.method}: {status}"
    digits = run_decimals(run)
    text = f"{run.fit.method}: A = {level(ceiling.median, digits)}"
    if ceiling.low80 == ceiling.high80:
        return text
    return f"{text} [{level(ceiling.low80, digits)}, {level(ceiling.high80, digits)}]"
