"""The decisions of a sweep in the order of time: a line for each that changed something, and its hours."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.config.sweep import Rule
from scalerl_lab.errors import UserError
from scalerl_lab.records import Action, RunState, RunStatus
from scalerl_lab.report.held_against import cause_text, reference_words
from scalerl_lab.report.status import when
from scalerl_lab.report.story import (
    Effect,
    changes_something,
    effects,
    label_of,
    order_text,
    untold_orders,
)
from scalerl_lab.report.why import ACTION_STYLE, decision_json, order_json
from scalerl_lab.report.words import ABSENT, hours, num, probability
from scalerl_lab.store import OrderRow, Store

RUN_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Listed:
    """One decision with its run."""

    state: RunState
    effect: Effect


@dataclass(frozen=True, slots=True)
class DecisionList:
    """The decisions of a sweep that were asked for, oldest first."""

    sweep_id: str
    rule: Rule
    states: tuple[RunState, ...]
    rows: tuple[Listed, ...]
    num_recorded: int
    """All decisions of the sweep, those that were not asked for included."""
    orders: tuple[OrderRow, ...]
    """What people ordered that no decision tells of."""
    chosen: bool
    """Whether all, or those of some run or action, were asked for: --all then has nothing to add."""

    @property
    def saved_gpu_hours(self) -> float:
        """Granted compute not spent because of the decisions listed."""
        return sum(row.effect.saved_gpu_hours for row in self.rows)

    @property
    def given_gpu_hours(self) -> float:
        """Compute granted by them."""
        return sum(row.effect.given_gpu_hours for row in self.rows)


def decision_list(
    store: Store, sweep_id: str, *, every: bool = False, run: str | None = None, action: str | None = None
) -> DecisionList:
    """Decisions of a sweep.

    Args:
        store: where they are on record.
        sweep_id: the sweep.
        every: those that let a run go on, too; they also come where ``action`` names them.
        run: only of this run: an id, the start of one, or arm:seed.
        action: only those that do this.

    Raises:
        NotFound: the sweep has no such run; the message names the nearest.
        UserError: there is no such action; the message lists all.
    """
    wanted = known_action(action) if action is not None else None
    run_ids = set(store.find_run(run, sweep_id)) if run is not None else None
    states = tuple(store.run_states(sweep_id))
    recorded = store.decisions(sweep_id=sweep_id)
    rule = store.plan(sweep_id).sweep.rule
    found = []
    for state in states:
        run_id = state.planned.run_id
        if run_ids is not None and run_id not in run_ids:
            continue
        for effect in effects(rule, state, [row for row in recorded if row.decision.run_id == run_id]):
            decision = effect.row.decision
            if decision.action is wanted or (wanted is None and (every or changes_something(decision))):
                found.append(Listed(state, effect))
    found.sort(key=lambda row: (row.effect.row.at, row.effect.row.decision_id))
    ordered = untold_orders(store.orders(sweep_id)) if wanted is None else []
    orders = tuple(row for row in ordered if run_ids is None or row.order.run_id in {None, *run_ids})
    chosen = every or run is not None or wanted is not None
    return DecisionList(sweep_id, rule, states, tuple(found), len(recorded), orders, chosen)


def known_action(text: str) -> Action:
    """The action that a person named.

    Raises:
        UserError: there is none of this name.
    """
    names = [action.value for action in Action]
    if text not in names:
        nearest = difflib.get_close_matches(text, names, n=1, cutoff=0.0)[0]
        raise UserError(f"no action {text!r}; the nearest is {nearest!r}; allowed: {', '.join(names)}")
    return Action(text)


def decisions_table(found: DecisionList) -> list[RenderableType]:
    """A line for each, in at most 100 columns, and what they come to."""
    orders = [Text(line) for line in _order_lines(found)]
    if not found.rows:
        return [Text(_nothing(found)), *orders]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("when (UTC)", "run"):
        table.add_column(name, no_wrap=True)
    table.add_column("GPU-hours", no_wrap=True, justify="right")
    for name in ("decision", "cause"):
        table.add_column(name, no_wrap=True)
    table.add_column("P<", no_wrap=True, justify="right", min_width=5)
    table.add_column("its effect", no_wrap=True, justify="right")
    for row in found.rows:
        decision = row.effect.row.decision
        action = decision.action.value
        table.add_row(
            when(row.effect.row.at)[5:],
            _short(row),
            hours(decision.gpu_hours),
            Text(action, style=ACTION_STYLE.get(action, "")),
            cause_text(decision.cause, found.rule),
            probability(decision.evidence.probability_below),
            _hours(row.effect),
        )
    footer = [Text(line) for line in _footer(found)]
    return [Text(f"Sweep {found.sweep_id}", style="bold"), table, *footer, *orders]


def _order_lines(found: DecisionList) -> list[str]:
    """Orders that no decision tells of, as sentences."""
    labels = {state.planned.run_id: label_of(state) for state in found.states}
    lines = []
    for row in found.orders:
        what, text = order_text(row)
        whom = f", {labels[row.order.run_id]}" if row.order.run_id in labels else ""
        lines.append(f"{when(row.order.at)[5:]}{whom}, {what}. {text}")
    return lines


def _short(row: Listed) -> str:
    """Arm and seed in few columns; the end stays to be read, as arms of an axis differ there."""
    arm, seed = row.state.planned.arm, f":{row.state.planned.spec.seed}"
    room = RUN_WIDTH - len(seed)
    return (arm if len(arm) <= room else f"{arm[: room - 11]}…{arm[-10:]}") + seed


def _hours(effect: Effect) -> str:
    if effect.saved_gpu_hours > 0.0:
        return f"{hours(effect.saved_gpu_hours)} saved"
    return f"{hours(effect.given_gpu_hours)} given" if effect.given_gpu_hours > 0.0 else ABSENT


def _footer(found: DecisionList) -> list[str]:
    text = f"{len(found.rows)} of {num(found.num_recorded, 'decision')} on record"
    if len(found.rows) < found.num_recorded and not found.chosen:
        text += "; --all shows those that let a run go on, too"
    saved, given = hours(found.saved_gpu_hours), hours(found.given_gpu_hours)
    lines = [
        f"{text}.",
        f"GPU-hours: {saved} saved, {given} given beyond the budgets.",
    ]
    margins = {row.effect.row.decision.evidence.margin for row in found.rows} - {None}
    if margins:
        each = " or ".join(f"{margin:g}" for margin in sorted(m for m in margins if m is not None))
        lines.append(
            f"P<: probability of being worse than the {reference_words(found.rule)} by more than {each}; "
            f"{found.rule.kill_probability:g} is demanded for a kill."
        )
    return lines


def _nothing(found: DecisionList) -> str:
    """Why there is no line, and what to do."""
    if found.num_recorded:
        none = f"Sweep {found.sweep_id}: none of its {num(found.num_recorded, 'decision')} on record"
        if found.chosen:
            return f"{none} is of that kind."
        return f"{none} changed anything; --all shows those that let a run go on."
    started = sum(state.status is not RunStatus.PLANNED for state in found.states)
    name = found.sweep_id.rpartition("-")[0] or found.sweep_id
    if started == 0:
        return (
            f"Sweep {found.sweep_id}: nothing has been decided yet, none of its "
            f"{num(len(found.states), 'run')} has started. Start them with: lab sweep run {name}"
        )
    return (
        f"Sweep {found.sweep_id}: nothing has been decided yet; {started} of {num(len(found.states), 'run')} "
        "started, and the first decision on a run follows its first point."
    )


def decisions_json(found: DecisionList) -> dict[str, Any]:
    """The list for machines; keys are stable."""
    return {
        "sweep_id": found.sweep_id,
        "num_recorded": found.num_recorded,
        "demanded_probability": found.rule.kill_probability,
        "saved_gpu_hours": found.saved_gpu_hours,
        "given_gpu_hours": found.given_gpu_hours,
        "orders": [order_json(row) for row in found.orders],
        "decisions": [_listed_json(row) for row in found.rows],
    }


def _listed_json(row: Listed) -> dict[str, Any]:
    planned = row.state.planned
    named = {
        "run_id": planned.run_id,
        "arm": planned.arm,
        "seed": planned.spec.seed,
        "budget_gpu_hours": planned.budget_gpu_hours,
    }
    return {**named, **decision_json(row.effect)}
