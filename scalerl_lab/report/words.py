"""Numbers and statuses as people read them: the same everywhere in tables, pages and lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scalerl_lab.records import Interval

MINUS = "−"
ABSENT = "–"


def hours(gpu_hours: float | None) -> str:
    """GPU-hours: ``16,000``, ``842``, ``9.6``, ``0.42``."""
    if gpu_hours is None:
        return ABSENT
    size = abs(gpu_hours)
    if size >= 99.5 or size == 0.0:
        return signed_zero(f"{gpu_hours:,.0f}")
    return f"{gpu_hours:.1f}" if size >= 9.95 else f"{gpu_hours:.2f}"


def rate(pass_rate: float | None) -> str:
    """A pass rate with three decimals."""
    return ABSENT if pass_rate is None else f"{pass_rate:.3f}"


def signed(difference: float | None) -> str:
    """A difference of pass rates with its sign: ``+0.012``, ``−0.034``."""
    if difference is None:
        return ABSENT
    return signed_zero(f"{difference:+.3f}").replace("-", MINUS)


def signed_zero(text: str) -> str:
    """Drop the sign of a number that was rounded to zero."""
    return text.lstrip("+-") if not text.strip("+-0.,") else text


def probability(value: float | None) -> str:
    """A probability that never claims certainty: ``<0.01``, ``0.83``, ``>0.99``."""
    if value is None:
        return ABSENT
    if value < 0.01:
        return "<0.01"
    return ">0.99" if value > 0.99 else f"{value:.2f}"


def flops(operations: float) -> str:
    """A count of operations in three digits: ``4.4e7``."""
    mantissa, exponent = f"{operations:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def percent(share: float) -> str:
    """A share in whole per cent; one decimal below 10 %."""
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def span80(interval: Interval | None) -> str:
    """The central 80 % interval of pass rates: ``[.595, .625]``."""
    return "" if interval is None else f"[{bare(interval.low80)}, {bare(interval.high80)}]"


def bare(value: float, *, sign: bool = False) -> str:
    """Three decimals without the zero before the point, for the inside of brackets."""
    text = signed(value) if sign else rate(value).replace("-", MINUS)
    return text.replace("0.", ".", 1) if text.lstrip(f"+{MINUS}").startswith("0.") else text


def short_hours(gpu_hours: float) -> str:
    """GPU-hours in three digits: ``14.1k``, ``842``."""
    return f"{gpu_hours / 1000:.1f}k" if gpu_hours >= 9950 else hours(gpu_hours)


def clock(seconds: float | None) -> str:
    """A duration: ``42 s``, ``7:05``, ``3:07:05``."""
    if seconds is None:
        return ABSENT
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, s = divmod(whole, 60)
    h, m = divmod(minutes, 60)
    return f"{h}:{m:02d}:{s:02d}" if h else f"{m}:{s:02d}"


def num(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: ``1 run``, ``3 runs``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def amount(compute: float | None) -> str:
    """A compute in any unit: as ``hours`` where that has its digits, else ``3.2e+21``, ``0.0042``."""
    if compute is None:
        return ABSENT
    size = abs(compute)
    return hours(compute) if size == 0.0 or 0.095 <= size < 1e8 else f"{compute:.2g}"


def decimals(span: float) -> int:
    """Decimals that tell a hundredth of a span apart: 3 for pass rates, 0 for returns in the thousands."""
    return min(12, max(0, 2 - math.floor(math.log10(span)))) if 0.0 < span < math.inf else 3


def level(value: float | None, digits: int) -> str:
    """A value in any unit, with so many decimals."""
    if value is None:
        return ABSENT
    if abs(value) >= 1e8:
        return f"{value:.3g}".replace("-", MINUS)
    return signed_zero(f"{value:,.{digits}f}").replace("-", MINUS)
