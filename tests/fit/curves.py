"""Curves whose law is known, and the published one."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from scalerl_lab.fit import pass_rate
from scalerl_lab.records import EvalPoint

# ScaleRL 8B, 16k GPU-hours: the paper fits the first 22 points and extrapolates to the rest.
GOLDEN = """1027:.4332 1279:.4464 1543:.4584 1795:.4717 2057:.4792 2310:.4851 2580:.5048 2825:.5055
3079:.5261 3325:.5336 3600:.5481 3854:.5518 4109:.5539 4860:.5660 5129:.5657 5642:.5721
5905:.5732 6162:.5765 6673:.5833 7164:.5827 7424:.5792 7692:.5800
9254:.5918 9467:.5935 10016:.5963 11054:.5997 11324:.6018 11569:.5993 12073:.5989
12527:.6040 12870:.6040 16181:.6014"""
GOLDEN_HOURS, GOLDEN_RATES = np.array(
    [[float(part) for part in pair.split(":")] for pair in GOLDEN.split()]
).T
GOLDEN_R0 = 0.400
NUM_FITTED = 22


def point(
    step: int, gpu_hours: float, rate: float, se: float = 0.0027, *, truncated: float = 0.02
) -> EvalPoint:
    """A measurement on 1,000 prompts with 16 samples each."""
    return EvalPoint(
        trial=0,
        at=0.0,
        step=step,
        gpu_hours=gpu_hours,
        pass_rate=rate,
        pass_rate_se=se,
        num_prompts=1000,
        num_samples=16000,
        truncation_rate=truncated,
        mean_tokens=100.0,
        entropy=0.2,
        flops=0,
    )


def points_of(hours: np.ndarray, rates: np.ndarray, se: float = 0.0027) -> tuple[EvalPoint, ...]:
    """Points in order; compute 0 is step 0."""
    return tuple(
        point(i if h else 0, float(h), float(r), se)
        for i, (h, r) in enumerate(zip(hours, rates, strict=True))
    )


def golden_points(num: int = len(GOLDEN_HOURS)) -> tuple[EvalPoint, ...]:
    """The published run's first points, with its recovered R0 as the step-0 point."""
    return points_of(np.append(0.0, GOLDEN_HOURS[:num]), np.append(GOLDEN_R0, GOLDEN_RATES[:num]))


def correlated_noise(rng: np.random.Generator, num: int, sd: float, correlation: float = 0.3) -> np.ndarray:
    """AR(1) residuals."""
    noise = rng.normal(0.0, sd, num)
    fresh = math.sqrt(1.0 - correlation**2)
    for before, now in pairwise(range(num)):
        noise[now] = correlation * noise[before] + fresh * noise[now]
    return noise


def simulate(
    rng: np.random.Generator,
    *,
    A: float = 0.61,
    B: float = 1.92,
    C_mid: float = 2542.0,
    r0: float = 0.4,
    sd: float = 0.0045,
    end: float = 16000.0,
    spacing: float = 257.0,
) -> tuple[EvalPoint, ...]:
    """A run of the published kind: evaluation every 257 GPU-hours from step 0, AR(1) residuals."""
    hours = np.arange(int(end // spacing) + 1) * spacing
    rates = pass_rate(hours, r0, A, B, C_mid) + correlated_noise(rng, hours.size, sd)
    return points_of(hours, np.clip(rates, 0.0, 1.0), se=0.6 * sd)
