"""What a reader must know before resting anything on a report."""

from __future__ import annotations

from scalerl_lab.records import Role, RunStatus
from scalerl_lab.report.ceilings import Ceilings
from scalerl_lab.report.view import SweepView
from scalerl_lab.report.words import flops, num, rate


def caveats(view: SweepView, found: Ceilings) -> list[tuple[str, str]]:
    """Each caveat that applies to this sweep, as a heading and a sentence or two."""
    return [pair for pair in _all(view, found) if pair is not None]


def _all(view: SweepView, found: Ceilings) -> list[tuple[str, str] | None]:
    return [
        _stand_in(view, found),
        _seeds(view, found),
        _extrapolation(view),
        (
            "Everything else is held fixed",
            "What the sweep does not vary (learning rate, batch, lengths, model, tasks) stays at the "
            "control's value. An arm might do better with its own; these verdicts hold at these settings.",
        ),
        _efficiency(found),
        (
            "The law is assumed",
            "Ceilings are asymptotes of one sigmoid in compute. A late rise, a second phase or a slow "
            "decline after the last point is outside it.",
        ),
        _evaluation(view),
        _sandbox(view),
        _reused(found),
    ]


def _stand_in(view: SweepView, found: Ceilings) -> tuple[str, str] | None:
    if found.flops_per_gpu_hour is None:
        return None
    recipe = view.plan.stand_in
    what = (
        f"Recipe {recipe} stands in for {view.plan.sweep.recipe}" if recipe else "A small model was trained"
    )
    return (
        f"Profile {found.profile_name} is a stand-in",
        f"{what}: the same question, arms, rule and fractions of budget on a tiny scale. A GPU-hour here is "
        f"{flops(found.flops_per_gpu_hour)} counted floating-point operations. Which choice matters at this "
        "scale need not be the one that matters at full scale.",
    )


def _seeds(view: SweepView, found: Ceilings) -> tuple[str, str] | None:
    single = [row for row in found.arms if row.role is Role.ARM and len(row.seeds) == 1]
    if not single:
        return None
    return (
        f"{num(len(single), 'arm')} with a single seed",
        f"Their spread from seed to seed is taken from the control's {num(len(view.control), 'seed')} and a "
        "prior, not measured.",
    )


def _extrapolation(view: SweepView) -> tuple[str, str] | None:
    short = [run for run in view.runs if run.state.status is RunStatus.KILLED]
    text = "A forecast is the law drawn on past the last point, dashed in the drawings."
    if short:
        text += f" {num(len(short), 'run')} ended before the budget: what lies beyond was never measured."
    return "Forecasts are extrapolation", text


def _efficiency(found: Ceilings) -> tuple[str, str] | None:
    if found.pooled_ceiling is None:
        return None
    own = [row.arm for row in found.arms if row.own_ceiling and row.efficiency is not None]
    text = (
        f"B and midpoint trade off against the ceiling, so B is refitted at the pooled "
        f"{rate(found.pooled_ceiling)}. "
        "Speed is judged by GPU-hours to the common level, not by B."
    )
    if own:
        text += f" At its own ceiling, and not comparable with the others: {', '.join(own)}."
    return "B cannot be compared across ceilings", text


def _evaluation(view: SweepView) -> tuple[str, str] | None:
    points = [point for run in view.runs for point in run.points]
    if not points:
        return None
    last = points[-1]
    return (
        "One held-out set",
        f"Pass rates are means over {last.num_prompts:,} fixed prompts, {last.num_samples:,} samples a "
        "point, of the distribution that was trained on, under each arm's own length control. Other tasks "
        "may rank the arms differently.",
    )


def _sandbox(view: SweepView) -> tuple[str, str] | None:
    weak = {
        run.label: trial.sandbox
        for run in view.runs
        for trial in run.trials
        if trial.sandbox is not None and trial.sandbox.kind == "weak"
    }
    if not weak:
        return None
    return (
        f"Code of {num(len(weak), 'run')} ran weakly isolated",
        "Their programs could read files, those of the tests among them, and reach the network: a pass need "
        f"not be a solution. Why: {next(iter(weak.values())).why}.",
    )


def _reused(found: Ceilings) -> tuple[str, str] | None:
    if not found.totals.reused_runs:
        return None
    return (
        f"{num(found.totals.reused_runs, 'run')} reused",
        "Their points were on record already, from runs of the same identity; the bill includes what they "
        "cost then.",
    )
