"""A curve as numbers: what every method of fitting is given, in any unit of compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from scalerl_lab.fit.law import Floats


@dataclass(frozen=True, slots=True)
class Curve:
    """N points of one run, ordered by compute, and what is known of its start.

    Compute may be in any unit and scale; values are higher-is-better. Build it with ``Curve.of``.
    """

    name: str
    compute: Floats
    """[N] > 0, strictly increasing."""
    value: Floats
    """[N] finite."""
    se: Floats | None
    """[N] standard errors > 0 of the values, or None where they are not known."""
    r0: float | None
    """The value before training where it is known."""
    r0_se: float | None
    """Standard error of ``r0``; None: taken from the points. 0: held exactly."""
    bounds: tuple[float, float] | None
    """The lowest and highest value there can be; None: unbounded."""

    @classmethod
    def of(
        cls,
        name: str,
        compute: ArrayLike,
        value: ArrayLike,
        *,
        se: ArrayLike | None = None,
        r0: float | None = None,
        r0_se: float | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> Curve:
        """A curve from points in any order.

        Points that are not finite are left out. Points at the same compute are averaged. Points at
        compute 0 are the start: their mean is ``r0`` unless ``r0`` is given.

        Args:
            name: of the run.
            compute: N computes.
            value: N values.
            se: N standard errors; those that are not finite or not above 0 are replaced by the median
                of the others.
            r0: the value before training.
            r0_se: its standard error.
            bounds: lowest and highest possible value; values beyond them widen them.

        Raises:
            ValueError: lengths differ, a compute is negative, or the bounds are not in order.
        """
        hours = np.asarray(compute, dtype=np.float64).ravel()
        values = np.asarray(value, dtype=np.float64).ravel()
        errors = None if se is None else np.asarray(se, dtype=np.float64).ravel()
        if hours.size != values.size or (errors is not None and errors.size != hours.size):
            raise ValueError("compute, value and se must have the same length")
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"the lower bound {bounds[0]} is not below the upper one {bounds[1]}")
        finite = np.isfinite(hours) & np.isfinite(values)
        hours, values = hours[finite], values[finite]
        if np.any(hours < 0.0):
            raise ValueError("compute must not be negative")
        errors = _clean_errors(None if errors is None else errors[finite])
        if r0 is not None and not np.isfinite(r0):
            r0 = None
        if r0 is None and np.any(hours == 0.0):
            at_start = hours == 0.0
            r0 = float(values[at_start].mean())
            if r0_se is None and errors is not None:
                r0_se = float(np.sqrt(np.mean(errors[at_start] ** 2) / at_start.sum()))
        trained = hours > 0.0
        hours, values = hours[trained], values[trained]
        errors = None if errors is None else errors[trained]
        order = np.lexsort((values, hours))
        hours, values = hours[order], values[order]
        errors = None if errors is None else errors[order]
        unique, first, count = np.unique(hours, return_index=True, return_counts=True)
        if unique.size < hours.size:
            values = np.add.reduceat(values, first) / count
            if errors is not None:
                errors = np.sqrt(np.add.reduceat(errors**2, first)) / count
        if bounds is not None:
            seen = values if r0 is None else np.append(values, r0)
            bounds = (
                float(min(bounds[0], seen.min(initial=bounds[0]))),
                float(max(bounds[1], seen.max(initial=bounds[1]))),
            )
        return cls(name, unique, values, errors, r0, r0_se, bounds)

    def between(self, low: float | None, high: float | None) -> Curve:
        """The curve of the points with low <= compute <= high; the start stays."""
        kept = np.ones(self.compute.size, dtype=bool)
        if low is not None:
            kept &= self.compute >= low
        if high is not None:
            kept &= self.compute <= high
        return replace(
            self,
            compute=self.compute[kept],
            value=self.value[kept],
            se=None if self.se is None else self.se[kept],
        )


def natural_bounds(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """0 and 1 where all values of all curves lie there, else None."""
    values = [v for curve in curves for v in (curve.value, [] if curve.r0 is None else [curve.r0])]
    inside = all(np.all((np.asarray(v) >= 0.0) & (np.asarray(v) <= 1.0)) for v in values)
    return (0.0, 1.0) if inside else None


def _clean_errors(errors: Floats | None) -> Floats | None:
    """Errors with the unusable ones replaced; None where none is usable."""
    if errors is None:
        return None
    usable = np.isfinite(errors) & (errors > 0.0)
    if not usable.any():
        return None
    cleaned: Floats = np.where(usable, errors, np.median(errors[usable]))
    return cleaned
