"""What training did to the reasoning boundary arm by arm: the seeds of an arm together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scalerl_lab.fit import Boundary, boundary
from scalerl_lab.records import Interval, PassCounts, RunState
from scalerl_lab.report.boundary import DEMANDED, Reached, means, reached_by


@dataclass(frozen=True, slots=True)
class ArmBoundary:
    """One set of problems under one arm: pass@k of each problem is its mean over the seeds."""

    arm: str
    seeds: tuple[int, ...]
    """Those measured at two steps, as the first of them; each counts from its own first to its own last."""
    problems: str
    num_problems: int
    samples_per_prompt: int
    """Of each problem at each step, under each seed."""
    ks: tuple[int, ...]
    gpu_hours: float
    """Of the last measurement, mean over the seeds."""
    before: tuple[Interval, ...]
    """For each k."""
    middle: tuple[Interval, ...] | None
    """None where a seed has no measurement between."""
    after: tuple[Interval, ...]
    boundary: Boundary


def arm_boundaries(
    states: Sequence[RunState],
    counts: Mapping[str, Sequence[PassCounts]],
    *,
    margin: float,
    demanded: float = DEMANDED,
) -> tuple[ArmBoundary, ...]:
    """The boundary of every arm, in the order of the states; an arm without two measurements is absent.

    Args:
        states: runs of the sweep.
        counts: run id -> counts of passes, by step.
        margin: gain of pass@k below which two are taken for equal.
        demanded: probability that a regime needs to be named.

    Worked number: a problem that passes 1 of 4 times under one seed and 3 of 4 under the other has pass@1
    of 1/2 under the arm.
    """
    of_arm: dict[str, list[tuple[int, Reached]]] = {}
    for state in states:
        reached = reached_by(counts.get(state.planned.run_id, ()))
        if reached is not None:
            of_arm.setdefault(state.planned.arm, []).append((state.planned.spec.seed, reached))
    return tuple(row for arm, seeds in of_arm.items() for row in _arm_rows(arm, seeds, margin, demanded))


def _arm_rows(
    arm: str, reached: Sequence[tuple[int, Reached]], margin: float, demanded: float
) -> list[ArmBoundary]:
    rows = []
    for problems in dict.fromkeys(name for _, each in reached for name in each.sets):
        # A mean over seeds is one problem by problem: a seed that was measured on another number of problems,
        # as after a change of a data file, cannot be averaged with the first.
        having = [(seed, each) for seed, each in reached if problems in each.sets]
        shape = having[0][1].after[problems].shape
        seeds = [(seed, each) for seed, each in having if each.after[problems].shape == shape]
        before_PK = np.mean([each.before[problems] for _, each in seeds], axis=0)
        after_PK = np.mean([each.after[problems] for _, each in seeds], axis=0)
        between = [
            each.between[problems]
            for _, each in seeds
            if problems in each.between and each.between[problems].shape == shape
        ]
        middle_PK = np.mean(between, axis=0) if len(between) == len(seeds) else None
        rows.append(
            ArmBoundary(
                arm=arm,
                seeds=tuple(seed for seed, _ in seeds),
                problems=problems,
                num_problems=len(after_PK),
                samples_per_prompt=seeds[0][1].samples_per_prompt,
                ks=seeds[0][1].ks,
                gpu_hours=sum(each.hours[each.last] for _, each in seeds) / len(seeds),
                before=means(before_PK),
                middle=None if middle_PK is None else means(middle_PK),
                after=means(after_PK),
                boundary=boundary(before_PK, middle_PK, after_PK, margin=margin, demanded=demanded),
            )
        )
    return rows
