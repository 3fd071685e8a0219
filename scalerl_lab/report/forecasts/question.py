"""What is asked of the runs of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scalerl_lab.config.problems import nearest
from scalerl_lab.errors import NotFound, NotSupported, UserError
from scalerl_lab.fit.curve import Curve
from scalerl_lab.report.words import listed

POOLED, PAPER = "posterior", "paper"
"""The method whose fits can share what runs have in common, and that of the ScaleRL paper."""
AHEAD = 2.0
"""Without being told, forecast this many times the compute of the last point of the fit."""


@dataclass(frozen=True, slots=True)
class At:
    """A compute to forecast: in the file's unit, or in multiples of the last compute in the fit."""

    number: float
    relative: bool = False

    def of(self, curve: Curve) -> float | None:
        """The compute for one curve; None where that has no points to multiply the compute of."""
        if not self.relative:
            return self.number
        return self.number * float(curve.compute[-1]) if curve.compute.size else None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the runs of a file."""

    method: str = POOLED
    first: float | None = None
    """Points at a smaller compute are left out; the start stays."""
    last: float | None = None
    """Points at a larger compute are held out."""
    at: tuple[At, ...] = ()
    """Where to forecast; nothing: the last held-out point, and twice the compute of the last point."""
    r0: float | None = None
    """The value before training; None: from points at compute 0, else unknown."""
    r0_first: bool = False
    """Whether the run's first point is its start."""
    r0_se: float = 0.0
    """Standard error of ``r0``; 0 holds it exactly."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest value there can be; None: 0 and 1 where all values lie there."""
    unbounded: bool = False
    """Whether there are no bounds even then."""
    pool: bool = False
    """Whether the runs are siblings of one sweep."""
    versus: str | None = None
    """The run that all others are compared with."""
    level: float | None = None
    """The value that the compute to reach is asked for."""


def check_question(question: Question, names: Sequence[str]) -> None:
    """Whether what is asked can be answered for runs of these names.

    Raises:
        NotSupported: the method cannot pool, or knows no compute to a level.
        UserError: runs are to be compared that were not fitted together.
        NotFound: there is no such run to compare with.
    """
    method, versus = question.method, question.versus
    if question.pool and method != POOLED:
        raise NotSupported(f"--pool works with --method {POOLED}, not with {method}")
    if question.level is not None and method != POOLED:
        raise NotSupported(f"--level works with --method {POOLED}, not with {method}")
    if versus is None:
        return
    if method not in (POOLED, PAPER):
        raise NotSupported(f"--versus works with --method {POOLED} or {PAPER}, not with {method}")
    if method == POOLED and not question.pool:
        raise UserError(
            "--versus compares runs by their joint posterior; give --pool too, if they share model and data"
        )
    if versus not in names:
        raise NotFound(
            f"no run {versus!r} (--versus){nearest(versus, names) or '; there are: ' + listed(names)}"
        )
    if len(names) < 2:
        raise UserError(f"--versus {versus}: there is no other run to compare with it")
