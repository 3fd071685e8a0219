"""Published curves of ScaleRL as parameters of the law: what forecasts and simulations are tested on.

The paper (arXiv 2510.13786) exists in three versions that differ: v0 is the ICLR submission of
2025-09-25, v1 the arXiv version of 2025-10-15, CR the camera-ready. Each table below says which version
its numbers are from and how they are known. Four things hold for all of them:

- R0 is printed nowhere: it is recovered from the drawn, noise-free curves (typical residual 1e-4).
- Table 1 and the leave-one-out table print C_mid; elsewhere it is recovered in the same way.
- Two printed midpoints, Scout's 4242 and 32gen's 2936, are not those of the drawn curves. These two runs
  are given here as drawn: 6897 and 2623, with B of the figure's legend (printed 1.65 and 2.07).
- B is not comparable between runs with different A, and variants without a drawn curve (the bounds of
  CISPO, the clip scales of GSPO, the refits of v1) have no C_mid: they are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from scalerl_lab.fit.law import Floats, pass_rate

FIT_START_GPU_HOURS = 1500.0
"""Fits use the points from here on (stated: v1 section 2.1, A.7)."""
COMMON_CEILING = 0.605
"""The A at which B of the leave-one-out runs is compared: the mean of the nine (stated: v1 figure 7)."""
BASE_R0 = 0.40
"""Pass rate of the 8B model before training, common to its runs: recovered values lie in 0.395 to 0.405."""
CEILING_MARGIN = 0.02
"""Ceilings closer than this do not differ; three repeated runs lay within 0.015 (stated: v1 A.5)."""


class Mark(StrEnum):
    """How a number is known."""

    STATED = "stated"
    """Printed in the text or a table."""
    READ_OFF_FIGURE = "read off figure"
    """Printed in, or measured on, an image of a figure."""
    DERIVED = "derived"
    """Computed from printed or measured numbers."""
    ASSUMED = "assumed"
    """Not in the paper: set here."""


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """Where the runs of a table are printed, and how their numbers are known."""

    name: str
    version: str
    A_and_B: Mark
    C_mid: Mark
    r0: Mark = Mark.DERIVED


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """One published run: its parameters of the law, R0 as recovered from its own drawn curve."""

    name: str
    table: PublishedTable
    A: float
    B: float
    C_mid: float
    """GPU-hours."""
    r0: float
    spacing_gpu_hours: float = 257.0
    """GPU-hours between evaluations, 100 steps apart: the smallest usual distance of the drawn points."""
    spacing: Mark = Mark.DERIVED
    B_at_common_ceiling: float | None = None
    """B refitted with A held at ``COMMON_CEILING``, where it is printed."""

    def pass_rate(self, gpu_hours: float | Floats) -> Floats:
        """The drawn curve at a compute."""
        return pass_rate(np.asarray(gpu_hours, dtype=np.float64), self.r0, self.A, self.B, self.C_mid)


TABLE_1 = PublishedTable("Table 1", "v1 = CR", Mark.STATED, Mark.STATED)
DRAWN_TABLE_1 = PublishedTable("Table 1, as drawn", "v0", Mark.READ_OFF_FIGURE, Mark.DERIVED)
LEAVE_ONE_OUT_TABLE = PublishedTable(
    "leave-one-out table (v1 figure 7, CR figure 5)", "v0", Mark.READ_OFF_FIGURE, Mark.READ_OFF_FIGURE
)
LEAVE_ONE_OUT_LEGEND = PublishedTable(
    "leave-one-out appendix, legend", "v0", Mark.READ_OFF_FIGURE, Mark.DERIVED
)
FIGURE_2 = PublishedTable("figure 2", "v0", Mark.READ_OFF_FIGURE, Mark.DERIVED)


def _forward(axis: str) -> PublishedTable:
    return PublishedTable(f"forward ablation: {axis}", "v0", Mark.READ_OFF_FIGURE, Mark.DERIVED)


LARGE_SCALE: tuple[PublishedRun, ...] = (
    PublishedRun("ScaleRL", TABLE_1, 0.610, 1.92, 2542.0, 0.4000),
    PublishedRun("ScaleRL-32k", TABLE_1, 0.645, 1.89, 11272.0, 0.3960, 1065.0),
    PublishedRun("ScaleRL-8gen", TABLE_1, 0.585, 2.44, 2542.0, 0.3975, 257.0, Mark.ASSUMED),
    PublishedRun("ScaleRL-24gen", TABLE_1, 0.590, 2.22, 3054.0, 0.4010, 257.0, Mark.ASSUMED),
    PublishedRun("ScaleRL-32gen", DRAWN_TABLE_1, 0.595, 2.06, 2623.0, 0.4000, 257.0, Mark.ASSUMED),
    PublishedRun("ScaleRL-Scout", DRAWN_TABLE_1, 0.710, 1.66, 6897.0, 0.5115, 618.0),
    # Two thirds of the hours of a batch of 768.
    PublishedRun("ScaleRL-bs512", TABLE_1, 0.605, 1.77, 2818.0, 0.4040, 171.0, Mark.ASSUMED),
    PublishedRun("ScaleRL-bs2048", TABLE_1, 0.645, 1.70, 10909.0, 0.4017, 1330.0),
    PublishedRun("ScaleRL-math+code (math)", TABLE_1, 0.595, 2.05, 2896.0, 0.4015, 257.0, Mark.ASSUMED),
    PublishedRun("ScaleRL-math+code (code)", TABLE_1, 0.615, 1.09, 1675.0, 0.3979, 257.0, Mark.ASSUMED),
)
"""Table 1 (v1 A.13): the runs of 16,000 to 100,000 GPU-hours. Total batch is the same for 8 to 32 gen."""


def _left_out(
    name: str, A: float, B: float, C_mid: float, r0: float, fixed: float, spacing_gpu_hours: float = 257.0
) -> PublishedRun:
    return PublishedRun(
        name, LEAVE_ONE_OUT_TABLE, A, B, C_mid, r0, spacing_gpu_hours, B_at_common_ceiling=fixed
    )


LEAVE_ONE_OUT: tuple[PublishedRun, ...] = (
    _left_out("ScaleRL", 0.610, 1.92, 2542.0, 0.4000, 2.01),
    _left_out("LOO-no-fp32-precision-fix", 0.610, 1.88, 2857.0, 0.3948, 1.97),
    _left_out("LOO-PPO-off-policy-8", 0.605, 1.89, 3409.0, 0.4008, 1.89, 312.0),
    _left_out("LOO-sample-avg", 0.600, 1.93, 2621.0, 0.4027, 1.84),
    _left_out("LOO-dapo", 0.610, 1.77, 3093.0, 0.3979, 1.83),
    _left_out("LOO-prompt-lvl-adv-norm", 0.590, 2.09, 2463.0, 0.3979, 1.82),
    _left_out("LOO-length-penalty", 0.610, 1.68, 2660.0, 0.3983, 1.75),
    _left_out("LOO-batch", 0.595, 1.84, 2503.0, 0.3973, 1.69),
    _left_out("LOO-uniform-sampling", 0.605, 1.62, 2621.0, 0.3983, 1.62),
)
"""The nine runs of the leave-one-out study, 16,000 GPU-hours each; the first is the control."""

OFF_POLICY_8_LEGEND = PublishedRun("LOO-PPO-off-policy-8", LEAVE_ONE_OUT_LEGEND, 0.610, 1.83, 3488.0, 0.3997)
"""The second fit that the paper prints of one run: A, B and C_mid move along a ridge together."""

RECIPES: tuple[PublishedRun, ...] = (
    PublishedRun("ScaleRL", FIGURE_2, 0.610, 1.97, 2557.0, 0.4001),
    # Batches of 1,280: 5/3 of the hours of a batch of 768.
    PublishedRun("MiniMax-M1", FIGURE_2, 0.610, 1.77, 4137.0, 0.3980, 428.0, Mark.ASSUMED),
    PublishedRun("Magistral", FIGURE_2, 0.535, 1.44, 2140.0, 0.3993, 257.0, Mark.ASSUMED),
    PublishedRun("Qwen2.5 (DAPO)", FIGURE_2, 0.515, 1.85, 2866.0, 0.3948, 428.0, Mark.ASSUMED),
    PublishedRun("DeepSeek (GRPO)", FIGURE_2, 0.490, 1.17, 1735.0, 0.3998, 257.0, Mark.ASSUMED),
)
"""Five recipes on one model and data, figure 2. GRPO leaves its law after 6,000 GPU-hours and falls."""


def _ablated(
    axis: str, name: str, A: float, B: float, C_mid: float, r0: float, spacing_gpu_hours: float = 144.0
) -> PublishedRun:
    return PublishedRun(name, _forward(axis), A, B, C_mid, r0, spacing_gpu_hours)


FORWARD: tuple[PublishedRun, ...] = (
    _ablated("off-policy", "PPO-off-policy-1", 0.520, 2.15, 2993.0, 0.3990, 515.0),
    _ablated("off-policy", "PPO-off-policy-8", 0.520, 2.65, 2274.0, 0.4000, 241.0),
    _ablated("off-policy", "PipelineRL-8", 0.520, 4.54, 1380.0, 0.4000),
    _ablated("max off-policyness", "PipelineRL-4", 0.520, 4.17, 1465.0, 0.4006, 179.0),
    _ablated("max off-policyness", "PipelineRL-8", 0.520, 4.55, 1380.0, 0.4000),
    _ablated("max off-policyness", "PipelineRL-12", 0.490, 4.97, 1299.0, 0.3990, 164.0),
    _ablated("loss", "CISPO", 0.590, 2.35, 1789.0, 0.4000, 190.0),
    _ablated("loss", "GSPO", 0.590, 1.81, 1478.0, 0.4010, 192.0),
    _ablated("loss", "DAPO", 0.520, 4.55, 1384.0, 0.4009),
    _ablated("FP32 head", "fp32-fix", 0.610, 1.79, 2350.0, 0.3994, 207.0),
    _ablated("FP32 head", "default", 0.520, 4.55, 1386.0, 0.4016),
    _ablated("loss aggregation", "prompt-avg", 0.535, 2.98, 1464.0, 0.4000, 138.0),
    _ablated("loss aggregation", "sample-avg", 0.520, 4.55, 1381.0, 0.4000),
    _ablated("loss aggregation", "token-avg", 0.550, 1.62, 1518.0, 0.3964, 136.0),
    _ablated("advantage normalisation", "no-norm", 0.525, 3.65, 1471.0, 0.4017, 156.0),
    _ablated("advantage normalisation", "batch-lvl-norm", 0.530, 3.15, 1382.0, 0.3996, 137.0),
    _ablated("advantage normalisation", "prompt-lvl-norm", 0.520, 4.55, 1383.0, 0.4004),
    _ablated("zero-variance filter", "batch", 0.520, 4.55, 1382.0, 0.3999),
    _ablated("zero-variance filter", "effective-batch", 0.540, 2.68, 1316.0, 0.4018),
    _ablated("curriculum", "No-Positive-Resampling", 0.535, 3.84, 1541.0, 0.4000, 162.0),
    _ablated("curriculum", "Uniform-Sampling", 0.520, 4.55, 1381.0, 0.4000),
)
"""Forward ablations, 3,500 to 4,000 GPU-hours or longer where stable, each a change to one baseline."""
