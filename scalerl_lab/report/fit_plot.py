"""One run's points, fit and bands as a PNG, for MLflow's artifacts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from scalerl_lab.fit import FittedCurve
from scalerl_lab.records import EvalPoint
from scalerl_lab.report.words import hours, rate, span80

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREY, INK = "#0072b2", "#8a8f98", "#1f2430"


def fit_plot_png(
    fitted: FittedCurve, points: tuple[EvalPoint, ...], up_to_gpu_hours: float, title: str
) -> bytes:
    """Draw pass rate against compute on a log axis, with the fit's median, 80 % and 95 % bands.

    Args:
        fitted: the run's fit; without a posterior only the points are drawn.
        points: all points; those outside the fit's window are hollow.
        up_to_gpu_hours: where the drawing ends.
        title: what stands above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    trained = [p for p in points if p.gpu_hours > 0]
    first = min([p.gpu_hours for p in trained], default=up_to_gpu_hours / 20.0)
    _bands(axes, fitted, first, up_to_gpu_hours)
    window = fitted.fit.first_gpu_hours
    for inside in (True, False):
        chosen = [p for p in trained if (window is not None and p.gpu_hours >= window) is inside]
        axes.errorbar(
            [p.gpu_hours for p in chosen],
            [p.pass_rate for p in chosen],
            yerr=[p.pass_rate_se for p in chosen],
            fmt="o",
            ms=4,
            color=INK,
            mfc=INK if inside else "white",
            elinewidth=0.8,
            label=None if not chosen else ("points in the fit" if inside else "points left out"),
        )
    axes.set_xscale("log")
    axes.set_xlim(first * 0.9, max(up_to_gpu_hours, first) * 1.05)
    axes.xaxis.set_major_formatter(lambda value, _: hours(value))
    axes.xaxis.set_minor_formatter(lambda value, _: hours(value) if f"{value:.0e}"[0] in "25" else "")
    axes.tick_params(axis="both", which="both", labelsize=8, pad=5)
    axes.set_xlabel("GPU-hours")
    axes.set_ylabel("held-out pass rate")
    axes.set_title(f"{title}\n{_caption(fitted)}", loc="left", fontsize=9, color=INK)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _bands(axes: Axes, fitted: FittedCurve, first: float, last: float) -> None:
    x = np.geomspace(first, max(last, first * 1.01), 160)
    bands = fitted.bands(x)
    if bands is None:
        return
    low95, low80, median, high80, high95 = bands
    axes.fill_between(x, low95, high95, color=BLUE, alpha=0.14, linewidth=0, label="95 %")
    axes.fill_between(x, low80, high80, color=BLUE, alpha=0.26, linewidth=0, label="80 %")
    axes.plot(x, median, color=BLUE, linewidth=1.6, label="fit")
    if fitted.fit.ceiling is not None and fitted.identified:
        axes.axhline(fitted.fit.ceiling.median, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))


def _caption(fitted: FittedCurve) -> str:
    fit = fitted.fit
    if fit.ceiling is None or fit.efficiency is None or fit.midpoint is None:
        return fit.why
    state = "" if fitted.identified else ", not identified"
    return (
        f"A = {rate(fit.ceiling.median)} {span80(fit.ceiling)}{state},  B = {fit.efficiency.median:.2f},  "
        f"C_mid = {hours(fit.midpoint.median)} GPU-hours"
    )
