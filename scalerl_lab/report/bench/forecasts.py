"""Methods of forecasting on real curves: the early points given, the later ones forecast and scored.

At a cut of 0.25 a method is given the points up to a quarter of the curve's last compute, at least one, and
forecasts all others. Curves of one point have nothing to forecast. Nothing is left out for how it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from scalerl_lab.config.problems import nearest
from scalerl_lab.errors import NotFound
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.methods import METHODS, fit_with
from scalerl_lab.fit.score import Score, Scored, group_score, score_fit
from scalerl_lab.report.bench.fitting import for_each
from scalerl_lab.report.bench.folder import RealCurve

CUTS = (0.25, 0.5, 0.75)
NOT_BASELINES = ("posterior",)
"""What the baselines are compared with."""
_CHUNK = 8


@dataclass(frozen=True, slots=True)
class MethodRow:
    """A method's score on a group at a cut."""

    group: str | None
    """None: the mean over groups."""
    cut: float | None
    """None: the mean over cuts."""
    method: str
    score: Score
    ratio: float | None
    """CRPS over that of the best other baseline; None where there is no other."""


@dataclass(frozen=True, slots=True)
class ForecastBench:
    """All scores, and their means."""

    methods: tuple[str, ...]
    cuts: tuple[float, ...]
    num_curves: int
    scored: tuple[Scored, ...]
    """One for each curve, cut and method."""
    rows: tuple[MethodRow, ...]
    """Groups in their order, then all together; in each the cuts, then their mean."""


def known_methods(names: Sequence[str]) -> tuple[str, ...]:
    """The methods of these names, in the order of the table; all for none.

    Raises:
        NotFound: there is no such method.
    """
    for name in names:
        if name not in METHODS:
            raise NotFound(f"no method {name!r}{nearest(name, METHODS)}; there are: {', '.join(METHODS)}")
    return tuple(name for name in METHODS if not names or name in names)


def cut_at(curve: Curve, share: float) -> tuple[Curve, Curve]:
    """The points up to a share of the last compute, at least one, and the others.

    Args:
        curve: at least two points.
        share: between 0 and 1.
    """
    until = max(share * float(curve.compute[-1]), float(curve.compute[0]))
    return curve.between(None, until), curve.between(float(np.nextafter(until, np.inf)), None)


def measure_forecasts(
    curves: Sequence[RealCurve],
    methods: Sequence[str],
    *,
    cuts: Sequence[float] = CUTS,
    jobs: int = 1,
    done: Callable[[int, int], None] | None = None,
) -> ForecastBench:
    """Scores of methods on curves; the numbers do not depend on ``jobs``.

    Args:
        curves: whole curves.
        methods: names of ``METHODS``.
        cuts: shares of each curve's last compute.
        jobs: processes.
        done: called with the number of curves done, about every eighth, and of all.
    """
    usable = [one for one in curves if one.curve.compute.size > 1]
    chunks = [usable[first : first + _CHUNK] for first in range(0, len(usable), _CHUNK)]
    told = None if done is None else (lambda chunk: done(min(chunk * _CHUNK, len(usable)), len(usable)))
    measure = partial(_score_chunk, tuple(methods), tuple(cuts))
    scored = tuple(one for found in for_each(measure, chunks, jobs, told) for one in found)
    return ForecastBench(tuple(methods), tuple(cuts), len(usable), scored, _rows(scored, methods, cuts))


def _score_chunk(
    methods: tuple[str, ...], cuts: tuple[float, ...], chunk: Sequence[RealCurve]
) -> list[Scored]:
    found = []
    for one in chunk:
        for cut in cuts:
            given, held_out = cut_at(one.curve, cut)
            for method in methods:
                score = score_fit(fit_with(method, given), held_out, one.scale)
                found.append(Scored(one.group, one.source, one.curve.name, cut, method, score))
    return found


def _rows(scored: Sequence[Scored], methods: Sequence[str], cuts: Sequence[float]) -> tuple[MethodRow, ...]:
    by_key: dict[tuple[str, float, str], list[Scored]] = {}
    for one in scored:
        by_key.setdefault((one.group, one.cut, one.method), []).append(one)
    groups = list(dict.fromkeys(one.group for one in scored))
    places: list[str | None] = [*groups, None] if len(groups) > 1 else [*groups]
    moments: list[float | None] = [*cuts, None] if len(cuts) > 1 else [*cuts]
    rows = []
    for group in places:
        for cut in moments:
            scores = {
                method: group_score(
                    [
                        one
                        for g in (groups if group is None else [group])
                        for c in (cuts if cut is None else [cut])
                        for one in by_key[g, c, method]
                    ]
                )
                for method in methods
            }
            rows += [
                MethodRow(group, cut, method, score, _ratio(method, scores))
                for method, score in scores.items()
            ]
    return tuple(rows)


def _ratio(method: str, scores: dict[str, Score]) -> float | None:
    others = [s.crps for name, s in scores.items() if name != method and name not in NOT_BASELINES]
    least = min(others, default=0.0)
    return scores[method].crps / least if least > 0.0 else None
