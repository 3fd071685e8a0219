"""A table of arms written by hand, so that what is printed of it can be read beside it."""

from __future__ import annotations

from dataclasses import replace

from scalerl_lab.fit import BetweenSeeds
from scalerl_lab.records import Change, Interval, Role
from scalerl_lab.report.ceilings import ArmRow, BudgetRate, Ceilings, Totals
from scalerl_lab.report.speed import Hours
from scalerl_lab.report.verdict import Verdict


def around(median: float, half80: float) -> Interval:
    """A symmetric interval; the 95 % half width is 1.5 times the 80 % one."""
    return Interval(median, median - half80, median + half80, median - 1.5 * half80, median + 1.5 * half80)


CONTROL = ArmRow(
    arm="control",
    role=Role.CONTROL,
    about="",
    changes=(),
    seeds=(0, 1, 2),
    run_ids=("c0", "c1", "c2"),
    status="3 finished",
    identified=True,
    ceiling=around(0.602, 0.009),
    difference=None,
    probability_below=None,
    probability_above=None,
    efficiency=around(1.83, 0.06),
    efficiency_ceiling=0.6,
    own_ceiling=False,
    midpoint=around(2596.0, 100.0),
    at_budget=BudgetRate(0.590, 0.584, 0.596, True),
    to_level=Hours(9165.0, 8812.0, 9577.0),
    budget_gpu_hours=48000.0,
    used_gpu_hours=48000.0,
    saved_gpu_hours=0.0,
    extended_gpu_hours=0.0,
    verdict=Verdict.CONTROL,
    detail="",
)
KILLED = replace(
    CONTROL,
    arm="dapo_loss",
    role=Role.ARM,
    about="DAPO's bounds",
    changes=(Change("loss.type", "cispo", "ppo_clip"),),
    seeds=(0,),
    run_ids=("d0",),
    status="killed",
    ceiling=around(0.484, 0.03),
    difference=around(-0.118, 0.032),
    probability_below=0.993,
    probability_above=0.0001,
    own_ceiling=True,
    at_budget=BudgetRate(0.477, 0.459, 0.506, False),
    to_level=Hours(None, None, None),
    budget_gpu_hours=16000.0,
    used_gpu_hours=7200.0,
    saved_gpu_hours=8800.0,
    verdict=Verdict.LOWERS,
    detail="Killed at 7,200 GPU-hours. Lower by more than 0.02 with probability >0.99.",
)
OPEN = replace(
    CONTROL,
    arm="uniform_sampling_with_a_long_name",
    role=Role.ARM,
    changes=(Change("curriculum.type", "no_positive_resampling", "uniform"),),
    seeds=(0,),
    run_ids=("u0",),
    status="running",
    identified=False,
    ceiling=around(0.7, 0.2),
    difference=around(0.098, 0.2),
    probability_below=0.25,
    probability_above=0.61,
    efficiency=None,
    efficiency_ceiling=None,
    at_budget=BudgetRate(0.46, 0.43, 0.5, False),
    to_level=None,
    budget_gpu_hours=16000.0,
    used_gpu_hours=12000.0,
    verdict=Verdict.NOT_IDENTIFIED,
    detail="What is open: its own ceiling. At the budget 0.460, the control 0.590.",
)
UNSTARTED = replace(
    OPEN,
    arm="length_penalty",
    run_ids=("l0",),
    status="planned",
    ceiling=None,
    difference=None,
    probability_below=None,
    probability_above=None,
    midpoint=None,
    at_budget=None,
    used_gpu_hours=0.0,
    detail="What is open: its own ceiling.",
)
FOUND = Ceilings(
    sweep_id="loo-5feeb001",
    name="loo",
    profile_name="laptop",
    meter="flops",
    flops_per_gpu_hour=4.4e7,
    fit_start_gpu_hours=1500.0,
    margin=0.02,
    demanded=0.95,
    pooled_ceiling=0.602,
    common_level=0.565,
    arms=(CONTROL, KILLED, OPEN, UNSTARTED),
    totals=Totals(6, 96000.0, 96000.0, 67200.0, 80000.0, 120.0, 8800.0, 0.0, 1),
    between_seeds=BetweenSeeds(0.0043, 2, 3, 1),
)
