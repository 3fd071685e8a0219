"""Does the gain on held-out prompts carry over to downstream sets: run by run, and over the arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.config.tasks import HELDOUT
from scalerl_lab.fit import rank_correlation, rank_correlation_interval
from scalerl_lab.records import Interval, Measurement, RunState, to_json
from scalerl_lab.report.words import ABSENT, bare, listed, probability, rate, signed

MEAN = "mean of sets"
"""Name of the mean over all downstream sets; each set counts once."""


@dataclass(frozen=True, slots=True)
class Gain:
    """A pass rate before and after training."""

    before: float
    after: float
    standard_error: float
    """Sampling error of the difference, problems fixed."""
    num_prompts: int
    num_samples: int
    """Of the later measurement."""

    @property
    def gain(self) -> float:
        """After minus before."""
        return self.after - self.before

    @property
    def probability_positive(self) -> float:
        """Probability that the gain is above zero, its error taken for normal."""
        if self.standard_error == 0.0:
            return 0.5 if self.gain == 0.0 else float(self.gain > 0.0)
        return 0.5 * (1.0 + math.erf(self.gain / self.standard_error / math.sqrt(2.0)))


@dataclass(frozen=True, slots=True)
class TransferRow:
    """One run."""

    run_id: str
    arm: str
    seed: int
    from_step: int
    to_step: int
    gpu_hours: float
    validation: Gain
    downstream: dict[str, Gain]
    """By name of the set; with several sets also their mean."""

    @property
    def label(self) -> str:
        """Arm and seed."""
        return f"{self.arm}:{self.seed}"


@dataclass(frozen=True, slots=True)
class ArmGains:
    """One arm: gains are means over its seeds."""

    arm: str
    num_seeds: int
    validation: Gain
    downstream: dict[str, Gain]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether arms that gain more on held-out prompts gain more on a set."""

    problem_set: str
    num_arms: int
    correlation: float | None
    """Spearman's rank correlation of the arms' mean gains; None where it does not exist."""
    interval: Interval | None
    """None for fewer than three arms."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What carried over in a sweep."""

    sweep_id: str
    name: str
    rows: tuple[TransferRow, ...]
    agreements: tuple[Agreement, ...]
    unmeasured: tuple[str, ...]
    """Runs without downstream pass rates at two steps."""


def transfer(
    sweep_id: str, name: str, states: Sequence[RunState], measured: Mapping[str, Sequence[Measurement]]
) -> Transfer:
    """Gains of every run, and their rank correlation over arms.

    Both gains are from the first to the last step at which the downstream sets were measured. An arm's
    gain is the mean over its seeds.

    Args:
        sweep_id: of the sweep.
        name: of the sweep.
        states: its runs, with their points.
        measured: run id -> named measurements, by step.
    """
    rows, unmeasured = [], []
    for state in states:
        row = _row(state, measured.get(state.planned.run_id, ()))
        if row is None:
            unmeasured.append(f"{state.planned.arm}:{state.planned.spec.seed}")
        else:
            rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row.downstream)
    agreements = tuple(_agreement(name, rows) for name in names)
    return Transfer(sweep_id, name, tuple(rows), agreements, tuple(unmeasured))


def _row(state: RunState, measured: Sequence[Measurement]) -> TransferRow | None:
    points = {point.step: point for point in state.points}
    rates = {
        (each.problem_set, each.step): each
        for each in measured
        if each.metric == "pass_rate" and each.domain == "" and each.problem_set != HELDOUT
    }
    steps = sorted({step for _, step in rates} & points.keys())
    if len(steps) < 2:
        return None
    first, last = steps[0], steps[-1]
    downstream = {
        name: _gain(rates[name, first], rates[name, last])
        for name in dict.fromkeys(name for name, _ in rates)
        if (name, first) in rates and (name, last) in rates
    }
    if len(downstream) > 1:
        each = list(downstream.values())
        downstream[MEAN] = _mean(each, sum(gain.num_prompts for gain in each))
    before, after = points[first], points[last]
    error = math.hypot(before.pass_rate_se, after.pass_rate_se)
    return TransferRow(
        run_id=state.planned.run_id,
        arm=state.planned.arm,
        seed=state.planned.spec.seed,
        from_step=first,
        to_step=last,
        gpu_hours=after.gpu_hours,
        validation=Gain(before.pass_rate, after.pass_rate, error, after.num_prompts, after.num_samples),
        downstream=downstream,
    )


def _gain(before: Measurement, after: Measurement) -> Gain:
    errors = (before.standard_error or 0.0, after.standard_error or 0.0)
    return Gain(before.value, after.value, math.hypot(*errors), after.num_prompts, after.num_samples)


def _mean(gains: Sequence[Gain], num_prompts: int) -> Gain:
    num = len(gains)
    return Gain(
        before=sum(each.before for each in gains) / num,
        after=sum(each.after for each in gains) / num,
        standard_error=math.hypot(*(each.standard_error for each in gains)) / num,
        num_prompts=num_prompts,
        num_samples=sum(each.num_samples for each in gains),
    )


def arm_gains(rows: Sequence[TransferRow]) -> tuple[ArmGains, ...]:
    """Gains of every arm; a set counts only the seeds that were measured on it.

    Worked number: seeds with gains of 0.12 and 0.10, each ± 0.004, make 0.11 ± 0.004 / sqrt(2).
    """
    found = []
    for arm in dict.fromkeys(row.arm for row in rows):
        seeds = [row for row in rows if row.arm == arm]
        names = dict.fromkeys(name for row in seeds for name in row.downstream)
        found.append(
            ArmGains(
                arm=arm,
                num_seeds=len(seeds),
                validation=_over_seeds([row.validation for row in seeds]),
                downstream={
                    name: _over_seeds([row.downstream[name] for row in seeds if name in row.downstream])
                    for name in names
                },
            )
        )
    return tuple(found)


def _over_seeds(gains: Sequence[Gain]) -> Gain:
    """Seeds have the same prompts, so that those are counted once."""
    return _mean(gains, gains[0].num_prompts)


def _agreement(problem_set: str, rows: Sequence[TransferRow]) -> Agreement:
    arms = arm_gains([row for row in rows if problem_set in row.downstream])
    validation = [each.validation.gain for each in arms]
    downstream = [each.downstream[problem_set].gain for each in arms]
    correlation = rank_correlation(validation, downstream)
    interval = None if correlation is None else rank_correlation_interval(correlation, len(arms))
    return Agreement(problem_set, len(arms), correlation, interval)


# ---------------------------------------------------------------- text and documents


def transfer_table(found: Transfer) -> RenderableType:
    """Gains run by run, then the agreement over arms."""
    parts: list[RenderableType] = [Text(f"Transfer in sweep {found.name} ({found.sweep_id})")]
    if found.rows:
        parts += [_gains(found), _agreements(found)]
    return Group(*parts, *(Text(line) for line in transfer_notes(found)))


def transfer_notes(found: Transfer) -> list[str]:
    """What the columns mean, and which runs have nothing to show."""
    lines = []
    if found.rows:
        lines.append(
            "Gains of pass rate from the first to the last downstream measurement, ± standard error with the "
            "problems fixed. P>0: probability that the downstream gain is above zero. Rank correlation "
            "(Spearman) of the arms' mean gains, with the interval that a bivariate normal of as many arms "
            "gives."
        )
    if found.unmeasured:
        lines.append(
            f"No downstream pass rate at two steps: {listed(found.unmeasured)}. A recipe asks for it with "
            "tasks.downstream and evaluation.downstream."
        )
    return lines


def _gains(found: Transfer) -> Table:
    table = _table("run", "validation gain", "set", "before", "after", "gain", "P>0")
    for row in found.rows:
        if table.row_count:
            table.add_section()
        label, validation = row.label, _signed(row.validation)
        for name, gain in row.downstream.items():
            table.add_row(
                label,
                validation,
                name,
                rate(gain.before),
                rate(gain.after),
                _signed(gain),
                probability(gain.probability_positive),
            )
            label = validation = ""
    return table


def _agreements(found: Transfer) -> Table:
    table = _table("set", "arms", "rank correlation", "80 %", "95 %")
    for each in found.agreements:
        span80 = span95 = ABSENT
        if each.interval is not None:
            span80 = _span(each.interval.low80, each.interval.high80)
            span95 = _span(each.interval.low95, each.interval.high95)
        shown = ABSENT if each.correlation is None else _two(each.correlation)
        table.add_row(each.problem_set, str(each.num_arms), shown, span80, span95)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=24)
    return table


def _signed(gain: Gain) -> str:
    return f"{signed(gain.gain)} ± {bare(gain.standard_error)}"


def _two(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _span(low: float, high: float) -> str:
    return f"[{_two(low)}, {_two(high)}]"


def transfer_json(found: Transfer) -> dict[str, Any]:
    """The report for machines; keys are stable."""
    return {
        "sweep_id": found.sweep_id,
        "name": found.name,
        "runs": [
            {
                "run_id": row.run_id,
                "arm": row.arm,
                "seed": row.seed,
                "from_step": row.from_step,
                "to_step": row.to_step,
                "gpu_hours": row.gpu_hours,
                "validation": _gain_json(row.validation),
                "downstream": {name: _gain_json(gain) for name, gain in row.downstream.items()},
            }
            for row in found.rows
        ],
        "agreements": to_json(found.agreements),
        "unmeasured": list(found.unmeasured),
    }


def _gain_json(gain: Gain) -> dict[str, float]:
    return {
        "before": gain.before,
        "after": gain.after,
        "gain": gain.gain,
        "standard_error": gain.standard_error,
        "probability_positive": gain.probability_positive,
    }
