"""Numbers as parts of a sentence."""

from __future__ import annotations

from scalerl_lab.records import Interval


def hours(gpu_hours: float) -> str:
    """Compute without its unit: 9,850 or 0.37."""
    return f"{gpu_hours:,.0f}" if gpu_hours >= 100.0 else f"{gpu_hours:.3g}"


def spent(gpu_hours: float, budget_gpu_hours: float) -> str:
    """Compute used out of what was granted: 9,850 of 16,000 GPU-hours."""
    return f"{hours(gpu_hours)} of {hours(budget_gpu_hours)} GPU-hours"


def with_range(interval: Interval, digits: int = 3) -> str:
    """A median with its 80 % interval: 0.710 [0.690, 0.730]."""
    return f"{interval.median:.{digits}f} [{interval.low80:.{digits}f}, {interval.high80:.{digits}f}]"


def probability(value: float) -> str:
    """A probability that never rounds to certainty: 0.947, > 0.999, < 0.001."""
    if value > 0.999:
        return "> 0.999"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def midpoints(gpu_hours: float, midpoint: Interval | None) -> str:
    """Compute in midpoints: 3.1 midpoints; empty where there is no midpoint."""
    if midpoint is None or midpoint.median <= 0.0:
        return ""
    return f"{gpu_hours / midpoint.median:.1f} midpoints"
