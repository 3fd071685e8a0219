"""The held-out curve of each domain of a mixed run, and how much of its gain is format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.config.tasks import HELDOUT
from scalerl_lab.records import Measurement, RunState, to_json
from scalerl_lab.report.words import ABSENT, bare, listed, rate, signed

_LEVELS = "▁▂▃▄▅▆▇█"
_DRAWN = 24
"""Points that a drawing has at most."""


@dataclass(frozen=True, slots=True)
class DomainPoint:
    """One held-out measurement of one domain."""

    step: int
    gpu_hours: float
    pass_rate: float
    standard_error: float
    tolerant_pass_rate: float | None
    """With the answer found wherever it stands; None where the domain has no second score."""


@dataclass(frozen=True, slots=True)
class DomainCurve:
    """A domain in a run."""

    run_id: str
    arm: str
    seed: int
    domain: str
    num_prompts: int
    points: tuple[DomainPoint, ...]
    """In the order of their steps."""

    @property
    def label(self) -> str:
        """Arm and seed."""
        return f"{self.arm}:{self.seed}"


@dataclass(frozen=True, slots=True)
class Domains:
    """The curves of a sweep's domains."""

    sweep_id: str
    name: str
    curves: tuple[DomainCurve, ...]
    unmeasured: tuple[str, ...]
    """Runs whose held-out prompts are all of one kind, or which have no point yet."""


def domains(
    sweep_id: str, name: str, states: Sequence[RunState], measured: Mapping[str, Sequence[Measurement]]
) -> Domains:
    """Curves of every domain of every run, from the named measurements of its held-out prompts.

    Args:
        sweep_id: of the sweep.
        name: of the sweep.
        states: its runs.
        measured: run id -> named measurements.
    """
    curves: list[DomainCurve] = []
    unmeasured = []
    for state in states:
        found = _curves(state, measured.get(state.planned.run_id, ()))
        curves += found
        if not found:
            unmeasured.append(f"{state.planned.arm}:{state.planned.spec.seed}")
    return Domains(sweep_id, name, tuple(curves), tuple(unmeasured))


def _curves(state: RunState, measured: Sequence[Measurement]) -> list[DomainCurve]:
    of_domains = [each for each in measured if each.problem_set == HELDOUT and each.domain]
    tolerant = {
        (each.domain, each.step): each.value for each in of_domains if each.metric == "tolerant_pass_rate"
    }
    strict = sorted((each for each in of_domains if each.metric == "pass_rate"), key=lambda each: each.step)
    planned = state.planned
    return [
        DomainCurve(
            run_id=planned.run_id,
            arm=planned.arm,
            seed=planned.spec.seed,
            domain=domain,
            num_prompts=[each for each in strict if each.domain == domain][-1].num_prompts,
            points=tuple(
                DomainPoint(
                    step=each.step,
                    gpu_hours=each.gpu_hours,
                    pass_rate=each.value,
                    standard_error=each.standard_error or 0.0,
                    tolerant_pass_rate=tolerant.get((domain, each.step)),
                )
                for each in strict
                if each.domain == domain
            ),
        )
        for domain in sorted({each.domain for each in strict})
    ]


# ---------------------------------------------------------------- text and documents


def domains_table(found: Domains) -> RenderableType:
    """A row for each domain of each run: its curve as a drawing, its ends and its gains."""
    parts: list[RenderableType] = [Text(f"Domains in sweep {found.name} ({found.sweep_id})")]
    if found.curves:
        parts.append(_table(found.curves))
        parts.append(
            Text(
                "Held-out pass rate of each domain, first and last point ± standard error with the problems "
                "fixed; the drawing goes from 0 to 1. Tolerant gain: with the answer found wherever it "
                "stands; what the gain has more is format."
            )
        )
    if found.unmeasured:
        parts.append(
            Text(
                f"Held-out prompts of one domain only, or no point yet: {listed(found.unmeasured)}. "
                "lab report ceilings has their curves."
            )
        )
    return Group(*parts)


def _table(curves: Sequence[DomainCurve]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("run", "domain", "prompts", "curve", "first", "last", "gain", "tolerant gain"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    label = ""
    for curve in curves:
        if label and curve.label != label:
            table.add_section()
        first, last = curve.points[0], curve.points[-1]
        tolerant = ABSENT
        if first.tolerant_pass_rate is not None and last.tolerant_pass_rate is not None:
            tolerant = signed(last.tolerant_pass_rate - first.tolerant_pass_rate)
        table.add_row(
            "" if curve.label == label else curve.label,
            curve.domain,
            str(curve.num_prompts),
            drawn([point.pass_rate for point in curve.points]),
            rate(first.pass_rate),
            f"{rate(last.pass_rate)} ± {bare(last.standard_error)}",
            signed(last.pass_rate - first.pass_rate),
            tolerant,
        )
        label = curve.label
    return table


def drawn(pass_rates: Sequence[float]) -> str:
    """Pass rates as a line of bars, eight levels from 0 to 1; of many points every so-many-th, and the last.

    Worked number: 0, 0.5, 1: the first, the fifth and the last level.
    """
    stride = max(-(-(len(pass_rates) - 1) // (_DRAWN - 1)), 1)
    shown = [*pass_rates[:-1:stride], pass_rates[-1]]
    return "".join(_LEVELS[min(int(value * len(_LEVELS)), len(_LEVELS) - 1)] for value in shown)


def domains_json(found: Domains) -> dict[str, Any]:
    """The report for machines; keys are stable."""
    return {
        "sweep_id": found.sweep_id,
        "name": found.name,
        "curves": to_json(found.curves),
        "unmeasured": list(found.unmeasured),
    }
