"""Points read off the paper's figures: ``digitised.csv``, and what was published of their runs.

Source: marker positions on the figures of ScaleRL's ICLR 2026 submission of 2025-09-25 (v0 of arXiv
2510.13786), images in Open-Superintelligence-Lab/Open-Superintelligence-Lab.github.io at 86884d7,
public/content/art-of-scaling-rl/images; exact to 0.3 % in compute and 0.0008 in pass rate. ``kind`` is
``fit`` for markers that the paper says it fits, ``ext`` for those that it extrapolates to.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LEAVE_ONE_OUT = ("figA_loo_1", "figA_loo_2", "figA_loo_3")


@dataclass(frozen=True)
class Published:
    """A row of the leave-one-out table; ``r0`` was recovered from the drawn curve."""

    run: str
    A: float
    r0: float
    B_at_0605: float


TABLE = (
    Published("ScaleRL", 0.610, 0.4000, 2.01),
    Published("LOO-no-fp32-precision-fix", 0.610, 0.3948, 1.97),
    Published("LOO-PPO-off-policy-8", 0.605, 0.4008, 1.89),
    Published("LOO-sample-avg", 0.600, 0.4027, 1.84),
    Published("LOO-dapo", 0.610, 0.3979, 1.83),
    Published("LOO-prompt-lvl-adv-norm", 0.590, 0.3979, 1.82),
    Published("LOO-length-penalty", 0.610, 0.3983, 1.75),
    Published("LOO-batch", 0.595, 0.3973, 1.69),
    Published("LOO-uniform-sampling", 0.605, 0.3983, 1.62),
)


def markers(
    figures: tuple[str, ...], run: str, *, fitted_only: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Computes and pass rates of a run's markers, in order of compute."""
    with (Path(__file__).parent / "digitised.csv").open(encoding="utf-8") as file:
        rows = [
            (float(row["gpu_hours"]), float(row["pass_rate"]))
            for row in csv.DictReader(file)
            if row["figure_key"] in figures
            and row["run"] == run
            and (row["kind"] == "fit" or not fitted_only)
        ]
    hours, rates = np.array(sorted(rows)).T
    return hours, rates


def merged(hours: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Markers of one point in several figures averaged: those closer than 1 % of their compute."""
    starts = np.flatnonzero(np.append(True, np.diff(hours) > 0.01 * hours[1:]))
    sizes = np.diff(np.append(starts, hours.size))
    return np.add.reduceat(hours, starts) / sizes, np.add.reduceat(rates, starts) / sizes
