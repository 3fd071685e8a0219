"""What simulations of a plan's power say: a line for each design, what follows, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.config.sweep import GpuHours
from scalerl_lab.report.bench.decision_rows import Mean
from scalerl_lab.report.held_against import quantity_words, reference_words
from scalerl_lab.report.power import LEAST_SEEN, LEAST_SWEEPS, PowerAsked, Seen, enough
from scalerl_lab.report.words import ABSENT, hours, num, percent


def power_tables(found: Sequence[Seen], asked: PowerAsked, price: float | None) -> RenderableType:
    """A line for each design, the plan's own first, and what follows."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    seen_at = f"{percent(LEAST_SEEN)} see"
    columns = ("seeds", "a run", "GPU-hours", "sweeps", "95 %", "power", "seen", "false", seen_at)
    for column in columns:
        table.add_column(column, justify="left" if column == "seeds" else "right", no_wrap=True)
    if price is not None:
        table.add_column("money", justify="right")
    for place, seen in enumerate(found):
        design, few = seen.design, len(seen.sweeps) < LEAST_SWEEPS
        table.add_row(
            f"{design.control_seeds} + {design.arm_seeds}{' (the plan)' if place == 0 else ''}",
            hours(design.run_gpu_hours),
            hours(design.gpu_hours),
            str(len(seen.sweeps)),
            ABSENT if seen.half_width is None else f"± {seen.half_width.value:.3f}",
            _share(seen.power),
            _count([one.worse for one in seen.sweeps]),
            _count([one.tied for one in seen.sweeps]),
            ABSENT if few or _visible(seen, asked) is None else f"{_visible(seen, asked):.3f}",
            *([] if price is None else [f"{design.gpu_hours * price:,.0f}"]),
        )
    notes = [*_notes(found, asked), answer(found, asked)]
    return Group(Text(_title(asked)), table, *(Text(line) for line in notes))


def _title(asked: PowerAsked) -> str:
    margin, needed = asked.rule.margin, asked.rule.answer_probability
    return (
        f"Power: how often an arm whose {quantity_words(asked.rule)} {_worse(asked, asked.difference)} is "
        f"seen to be worse, that is by more than the margin of {margin:g} with probability {needed:g} "
        f"(against the {reference_words(asked.rule)})"
    )


def _worse(asked: PowerAsked, difference: float) -> str:
    if isinstance(asked.rule.quantity, GpuHours):
        return f"are {percent(difference)} more"
    return f"is lower by {difference:g}"


def _notes(found: Sequence[Seen], asked: PowerAsked) -> list[str]:
    total = sum(len(seen.sweeps) for seen in found)
    return [
        f"{num(total, 'sweep')} simulated. Noise, efficiency, spread of seeds and midpoint "
        f"({hours(asked.midpoint_gpu_hours)} GPU-hours; --midpoint sets it) are those that ScaleRL published "
        "of an 8B model, whatever the profile. Every run goes to its budget: early stops and extensions are "
        "not simulated.",
        f"seeds: of the control + of each arm; 95 %: interval of a difference; power: by how the verdicts "
        f"scatter; seen, false: of the worse arms, and of the tied ones; {percent(LEAST_SEEN)} see: about "
        "the difference that would be seen in so many arms.",
    ]


def answer(found: Sequence[Seen], asked: PowerAsked) -> str:
    """What follows, in a sentence or two."""
    if asked.hardly_visible:
        return _hidden(found, asked)
    wanted = f"a difference of {asked.difference:g} in {percent(LEAST_SEEN)} of the arms"
    cheapest = enough(found)
    if cheapest is not None:
        design = cheapest.design
        return (
            f"Enough to see {wanted}: {hours(design.gpu_hours)} GPU-hours, control {design.control_seeds} "
            f"and arm {design.arm_seeds} seeds of {hours(design.run_gpu_hours)} "
            f"(power {_share(cheapest.power)})."
        )
    if any(len(seen.sweeps) < LEAST_SWEEPS for seen in found):
        said = [
            f"{hours(seen.design.gpu_hours)} GPU-hours ({seen.design.control_seeds} and "
            f"{seen.design.arm_seeds} seeds, power {_share(seen.power)})"
            for seen in found
            if len(seen.sweeps) >= LEAST_SWEEPS and seen.power is not None and seen.power.value < LEAST_SEEN
        ]
        others = "the other designs" if said else "the designs"
        return (
            (f"Not enough to see {wanted}: {'; '.join(said)}. " if said else "")
            + f"Of {others} fewer than {LEAST_SWEEPS} sweeps were simulated, too few to say what is enough: "
            "--power-seconds gives them more time."
        )
    return f"No design here sees {wanted}."


def _hidden(found: Sequence[Seen], asked: PowerAsked) -> str:
    margin, by_chance = asked.rule.margin, f"{100 * (1.0 - asked.rule.answer_probability):.0f} %"
    own = found[0]
    visible = _visible(own, asked) if len(own.sweeps) >= LEAST_SWEEPS else None
    ask = 2.0 * margin if visible is None else math.ceil(visible * 100.0) / 100.0
    about = (
        "" if visible is None else f", which the plan would see in about {percent(LEAST_SEEN)} of the arms"
    )
    return (
        f"The rule's margin of {margin:g} hides a difference of {asked.difference:g}: at the margin itself "
        f"power is about {by_chance}, below it less, whatever is spent. Ask for more than the margin, such "
        f"as --difference {ask:g}{about}, or give the sweep a rule.margin below {asked.difference:g}, such "
        f"as {0.5 * asked.difference:g}."
    )


def _visible(seen: Seen, asked: PowerAsked) -> float | None:
    """As people read it: of pass rates, or a share of GPU-hours."""
    if seen.visible is None:
        return None
    return math.expm1(seen.visible) if isinstance(asked.rule.quantity, GpuHours) else seen.visible


def power_json(found: Sequence[Seen], asked: PowerAsked) -> dict[str, Any]:
    """What was asked, and each design with what its simulations showed."""
    cheapest = None if asked.hardly_visible else enough(found)
    return {
        "difference": asked.difference,
        "margin": asked.rule.margin,
        "certainty": asked.rule.answer_probability,
        "quantity": quantity_words(asked.rule),
        "reference": reference_words(asked.rule),
        "seconds": asked.seconds,
        "seed": asked.seed,
        "midpoint_gpu_hours": asked.midpoint_gpu_hours,
        "enough_gpu_hours": None if cheapest is None else cheapest.design.gpu_hours,
        "answer": answer(found, asked),
        "designs": [
            {
                "control_seeds": seen.design.control_seeds,
                "arm_seeds": seen.design.arm_seeds,
                "run_gpu_hours": seen.design.run_gpu_hours,
                "gpu_hours": seen.design.gpu_hours,
                "sweeps": len(seen.sweeps),
                "interval95_half_width": _mean_json(seen.half_width),
                "power": _mean_json(seen.power),
                "seen": _mean_json(seen.counted),
                "false_alarms": _mean_json(seen.false_alarms),
                "visible_difference": _visible(seen, asked),
            }
            for seen in found
        ],
    }


def _mean_json(mean: Mean | None) -> dict[str, float | None] | None:
    return None if mean is None else {"value": mean.value, "se": mean.se}


def _count(counts: Sequence[tuple[int, int]]) -> str:
    return f"{sum(done for done, _ in counts)}/{sum(of for _, of in counts)}"


def _share(mean: Mean | None) -> str:
    if mean is None:
        return ABSENT
    return f"{100 * mean.value:.0f} %" + ("" if mean.se is None else f" ± {100 * mean.se:.0f}")
