"""A file of markers as digitised from the paper's figures: the published control, the others by their law."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np

from scalerl_lab.fit.published import FORWARD, LEAVE_ONE_OUT
from scalerl_lab.report.bench.digitised import FORWARD_FIGURES, LEAVE_ONE_OUT_FIGURES
from tests.fit.curves import GOLDEN_HOURS, GOLDEN_RATES


def draw_points(file: Path) -> Path:
    """Both studies; the control's points are in one, two or three figures each in turn."""
    lines = ["figure_key,figure,run,kind,gpu_hours,pass_rate,match_score"]
    for hours, rate, times in zip(GOLDEN_HOURS, GOLDEN_RATES, cycle((1, 2, 3)), strict=False):
        # Readings of one marker differ by up to 0.3 %, here evenly about the point.
        for figure, off in zip(LEAVE_ONE_OUT_FIGURES, range(1 - times, times, 2), strict=False):
            lines.append(f"{figure},x,ScaleRL,fit,{hours * (1.0 + 0.001 * off):.1f},{rate},0.8")
    for run in LEAVE_ONE_OUT[1:]:
        for hours in np.arange(1000.0, 16_000.0, 500.0):
            lines.append(f"figA_loo_2,x,{run.name},ext,{hours},{float(run.pass_rate(hours)):.4f},0.8")
    for run in FORWARD:
        for hours in np.arange(200.0, 4001.0, 200.0):
            figure = FORWARD_FIGURES[run.table.name]
            lines.append(f"{figure},x,{run.name},fit,{hours},{float(run.pass_rate(hours))},0.8")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
