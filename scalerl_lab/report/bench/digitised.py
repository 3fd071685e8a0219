"""The points of the paper's figures as curves.

The file has a row per marker: ``figure_key``, ``run``, ``gpu_hours``, ``pass_rate``. A run that is drawn
in several figures has a marker in each; they are merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scalerl_lab.errors import DataError
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law import Floats
from scalerl_lab.fit.published import FORWARD, LEAVE_ONE_OUT, PublishedRun
from scalerl_lab.report.forecasts.columns import Asked
from scalerl_lab.report.forecasts.reading import RunPoints, read_points

LEAVE_ONE_OUT_FIGURES = ("figA_loo_1", "figA_loo_2", "figA_loo_3")
FORWARD_FIGURES = {
    f"forward ablation: {axis}": figure
    for axis, figure in (
        ("off-policy", "fig_offpol"),
        ("max off-policyness", "fig_maxoff"),
        ("loss", "fig_loss"),
        ("FP32 head", "fig_fp32"),
        ("loss aggregation", "fig_agg"),
        ("advantage normalisation", "fig_adv"),
        ("zero-variance filter", "fig_zv"),
        ("curriculum", "fig_npr"),
    )
}
"""The figure of each forward ablation's table."""
SAME_POINT = 0.01
"""Markers closer than this share of their compute are the same point."""


@dataclass(frozen=True, slots=True)
class PublishedCurve:
    """A published run, and its points as drawn."""

    run: PublishedRun
    curve: Curve


def leave_one_out_curves(path: str) -> tuple[PublishedCurve, ...]:
    """The nine curves of the leave-one-out study, in the order of its table, R0 as recovered there.

    Args:
        path: file of the digitised points.

    Raises:
        NotFound: there is no such file.
        DataError: it cannot be read, or lacks a run of the study.
    """
    return _curves(
        path, {(figure, run.name): run for run in LEAVE_ONE_OUT for figure in LEAVE_ONE_OUT_FIGURES}
    )


def forward_curves(path: str) -> tuple[PublishedCurve, ...]:
    """The curves of the forward ablations, in the order of ``FORWARD``, R0 as recovered there.

    One run, the baseline, is drawn in seven of the figures under different names.

    Raises:
        NotFound: there is no such file.
        DataError: it cannot be read, or lacks a run.
    """
    return _curves(path, {(FORWARD_FIGURES[run.table.name], run.name): run for run in FORWARD})


def _curves(path: str, wanted: Mapping[tuple[str, str], PublishedRun]) -> tuple[PublishedCurve, ...]:
    """The curve of each wanted run, from all the figures that it is wanted of."""
    asked = Asked(run=("figure_key", "run"), x="gpu_hours", y="pass_rate", se="none")
    drawn: dict[PublishedRun, list[RunPoints]] = {run: [] for run in wanted.values()}
    for series in read_points(path, asked).runs:
        figure, _, name = series.name.partition(":")
        run = wanted.get((figure, name))
        if run is not None:
            drawn[run].append(series)
    missing = [run.name for run, series in drawn.items() if not series]
    if missing:
        figures = ", ".join(sorted({figure for figure, _ in wanted}))
        raise DataError(f"{path} has no points of {', '.join(missing)}; all runs of {figures} are needed")
    curves = []
    for run, found in drawn.items():
        compute, value = merge_points(
            np.concatenate([series.compute for series in found]),
            np.concatenate([series.value for series in found]),
        )
        curve = Curve.of(run.name, compute, value, r0=run.r0, bounds=(0.0, 1.0))
        curves.append(PublishedCurve(run, curve))
    return tuple(curves)


def merge_points(compute: Floats, value: Floats) -> tuple[Floats, Floats]:
    """One point for each group of markers of the same point: mean compute and mean value.

    Sorted by compute, a new group begins where the gap to the marker before exceeds 1 % of the compute.
    """
    order = np.argsort(compute, kind="stable")
    hours, rates = compute[order], value[order]
    begins = np.flatnonzero(np.append(True, np.diff(hours) > SAME_POINT * hours[1:]))
    count = np.diff(np.append(begins, hours.size))
    return np.add.reduceat(hours, begins) / count, np.add.reduceat(rates, begins) / count
