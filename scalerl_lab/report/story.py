"""What became of a run and why, in the order of time: its trials, what was decided, and what that did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scalerl_lab.config.sweep import Rule
from scalerl_lab.decide import account_of
from scalerl_lab.records import Action, Cause, Decision, EndReason, Evidence, OrderKind, RunState, RunStatus
from scalerl_lab.report.held_against import cause_text, difference_words, worse_by
from scalerl_lab.report.story_picture import Picture, picture
from scalerl_lab.report.words import hours, num, probability, rate, span80
from scalerl_lab.store import DecisionRow, OrderRow, TrialRow

_TOLD_BY_DECISIONS = frozenset({OrderKind.KILL, OrderKind.EXTEND, OrderKind.REVIVE, OrderKind.CANCEL})


class Kind(StrEnum):
    """What an entry of a story tells of."""

    TRIAL = "trial"
    """A trial began, or one ended otherwise than by using its grant or being told to stop."""
    LOOKS = "looks"
    """Decisions to go on, one after the other."""
    DECISION = "decision"
    """One decision."""
    ORDER = "order"
    """A person's order that no decision tells of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened, or several of the same kind told as one."""

    kind: Kind
    at: float
    """Seconds since the epoch; of several, the last."""
    gpu_hours: tuple[float, float]
    """Compute of the first and the last."""
    head: str
    text: str
    rows: tuple[DecisionRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """A decision with what it did to a run's hours."""

    row: DecisionRow
    saved_gpu_hours: float
    """Of what was granted, not spent because of it; 0 where a later decision let the run go on."""
    given_gpu_hours: float
    """Granted by it, beyond what was granted before."""


@dataclass(frozen=True, slots=True)
class Story:
    """A run in one sweep, from its first trial to what was decided last."""

    sweep_id: str
    rule: Rule
    state: RunState
    entries: tuple[Entry, ...]
    effects: tuple[Effect, ...]
    """Every decision, oldest first."""

    @property
    def label(self) -> str:
        """Arm and seed, as people name a run."""
        return label_of(self.state)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else must be known to follow it: other sweeps that had a hand in the run."""
        found = []
        if self.state.reused:
            found.append("Another sweep ran it before; its points were there when this sweep began.")
        if self.state.status is RunStatus.KILLED and self.effects:
            at = self.effects[-1].row.decision.gpu_hours
            if self.state.gpu_hours > at:
                found.append(
                    f"Another sweep took it on from {hours(at)} GPU-hours, after this one stopped it."
                )
        return tuple(found)

    @property
    def drawn(self) -> tuple[Entry, ...]:
        """Entries whose picture tells something: decisions that changed something, else the newest look."""
        decided = tuple(entry for entry in self.entries if entry.kind is Kind.DECISION)
        return decided or tuple(entry for entry in self.entries if entry.kind is Kind.LOOKS)[-1:]


def pictured(story: Story, entry: Entry) -> tuple[Decision, Picture] | None:
    """(decision, its picture) that an entry is drawn by; None where it is not drawn, or had no points.

    It is the entry's own decision; where next to nothing was ahead of that, as at the end of the budget, the
    newest before it of which something was, as far back as the entry drawn before.
    """
    if entry not in story.drawn:
        return None
    rows = [effect.row for effect in story.effects]
    place = rows.index(entry.rows[-1])
    others = (rows.index(other.rows[-1]) for other in story.drawn if other is not entry)
    before = max((other for other in others if other < place), default=-1)
    found = []
    for row in reversed(rows[before + 1 : place + 1]):
        drawn = picture(row.decision, story.state.points, story.state.planned.budget_gpu_hours, story.rule)
        if drawn is not None and drawn.shows_ahead:
            return row.decision, drawn
        found.append((row.decision, drawn))
    own, drawn = found[0]
    return None if drawn is None else (own, drawn)


def earlier_look(entry: Entry, decision: Decision) -> str:
    """Which look an entry's picture is of, where it is an earlier one; else empty."""
    if decision is entry.rows[-1].decision:
        return ""
    return f"As at {hours(decision.gpu_hours)} GPU-hours, the newest look with enough ahead to be drawn"


def label_of(state: RunState) -> str:
    """Arm and seed of a run, as people name it."""
    return f"{state.planned.arm}:{state.planned.spec.seed}"


def changes_something(decision: Decision) -> bool:
    """Whether a decision did more than to let a run go on by the rule."""
    return decision.action is not Action.CONTINUE or by_order(decision)


def by_order(decision: Decision) -> bool:
    """Whether a person decided, not the rule."""
    return decision.cause is Cause.ORDERED


def effects(rule: Rule, state: RunState, rows: Sequence[DecisionRow]) -> list[Effect]:
    """What each decision on a run did to its hours.

    Args:
        rule: the sweep's rule: it says what was granted at first.
        state: the run.
        rows: its decisions, oldest first.
    """
    found: list[Effect] = []
    granted = rule.extension.first_share * state.planned.budget_gpu_hours
    unused = account_of(state, ()).hours.saved
    for row in rows:
        decision = row.decision
        stopped = decision.action in (Action.KILL, Action.FINISH)
        saved = unused if stopped and row is rows[-1] else 0.0
        given = decision.granted_gpu_hours - granted
        granted = max(granted, decision.granted_gpu_hours)
        found.append(Effect(row, max(0.0, saved), max(0.0, given)))
    return found


def tell(
    sweep_id: str,
    rule: Rule,
    state: RunState,
    rows: Sequence[DecisionRow],
    trials: Sequence[TrialRow] = (),
    orders: Sequence[OrderRow] = (),
    *,
    folded: bool = True,
) -> Story:
    """A run's story.

    Args:
        sweep_id: the sweep whose decisions are told.
        rule: the sweep's rule.
        state: the run.
        rows: what the sweep decided on it, oldest first.
        trials: its attempts; of a reused run those of another sweep are among them.
        orders: what people ordered of the sweep and its runs.
        folded: tell decisions that changed nothing as one, where they follow each other.
    """
    told: list[Entry] = []
    for row in rows:
        told += [_decided(row, rule) if changes_something(row.decision) else _looks([row], rule)]
    ordered = [_ordered(state, row) for row in untold_orders(orders, state.planned.run_id)]
    # A trial that ends by a decision ends after it, so equal times keep this order.
    told = sorted([*told, *ordered, *_tried(state, trials)], key=lambda entry: entry.at)
    return Story(
        sweep_id, rule, state, tuple(_fold(told, rule) if folded else told), tuple(effects(rule, state, rows))
    )


def untold_orders(orders: Sequence[OrderRow], run_id: str | None = None) -> list[OrderRow]:
    """Orders that no decision tells of: those that only set a state, were refused, or wait.

    Args:
        orders: orders to a sweep and its runs.
        run_id: leave out those to other runs.
    """
    return [
        row
        for row in orders
        if (run_id is None or row.order.run_id in (None, run_id))
        and (not row.in_force or row.order.kind not in _TOLD_BY_DECISIONS)
    ]


def order_text(row: OrderRow) -> tuple[str, str]:
    """(what was ordered and what came of it, who ordered it and why)."""
    order = row.order
    what = order.kind.value.replace("_", " ") + ("" if order.run_id is not None else " of the whole sweep")
    to = f" to {hours(order.to_gpu_hours)} GPU-hours" if order.to_gpu_hours is not None else ""
    text = f"By {order.by}: {order.why.strip().rstrip('.')}."
    if row.refused is not None:
        return f"{what}{to}: ordered, but refused", f"{text} Refused: {row.refused.strip().rstrip('.')}."
    if row.settled_at is None:
        return f"{what}{to}: ordered", f"{text} It waits for the sweep's driver: lab sweep run."
    return f"{what}{to}: ordered", text


def _ordered(state: RunState, row: OrderRow) -> Entry:
    at = max((point.gpu_hours for point in state.points if point.at <= row.order.at), default=0.0)
    return Entry(Kind.ORDER, row.order.at, (at, at), *order_text(row))


def _fold(told: Sequence[Entry], rule: Rule) -> list[Entry]:
    found: list[Entry] = []
    for entry in told:
        if found and entry.kind is Kind.LOOKS and found[-1].kind is Kind.LOOKS:
            found[-1] = _looks([*found[-1].rows, *entry.rows], rule)
        else:
            found.append(entry)
    return found


def _looks(rows: Sequence[DecisionRow], rule: Rule) -> Entry:
    first, last = rows[0].decision, rows[-1].decision
    if len(rows) == 1:
        head, text = f"{last.action.value} ({cause_text(last.cause, rule)})", last.reason
    else:
        causes = Counter(cause_text(row.decision.cause, rule) for row in rows)
        each = ", ".join(f"{cause} at {count}" for cause, count in causes.most_common())
        head = f"{num(len(rows), 'look')}: nothing decided"
        text = f"{each[:1].upper()}{each[1:]}." if len(causes) > 1 else f"Each time {next(iter(causes))}."
    return Entry(Kind.LOOKS, rows[-1].at, (first.gpu_hours, last.gpu_hours), head, text, tuple(rows))


def _decided(row: DecisionRow, rule: Rule) -> Entry:
    decision = row.decision
    head = f"{decision.action.value} ({cause_text(decision.cause, rule)})"
    at = (decision.gpu_hours, decision.gpu_hours)
    return Entry(Kind.DECISION, row.at, at, head, decision.reason, (row,))


def _tried(state: RunState, trials: Sequence[TrialRow]) -> list[Entry]:
    """Trials that began, and those that failed; compute is that of the last point then."""
    found: list[Entry] = []
    for trial in trials:
        started, ended = trial.started, trial.ended
        at = _used(state, started.resumed_step)
        whence = f"from its checkpoint at step {started.resumed_step:,}" if started.resumed_step else ""
        text = f"Trial {started.trial} on {started.host}{', ' if whence else ''}{whence}."
        if trial.sandbox is not None:
            text += f" Code in responses runs under {trial.sandbox.kind} isolation."
        head = "went on" if started.resumed_step else "started"
        found.append(Entry(Kind.TRIAL, started.at, (at, at), head, text))
        if ended is not None and ended.reason not in (EndReason.GRANT_REACHED, EndReason.STOPPED):
            detail = f": {ended.detail.strip().rstrip('.')}" if ended.detail.strip() else ""
            text = f"Trial {started.trial} ended at step {ended.step:,}{detail}."
            at = ended.gpu_hours
            found.append(Entry(Kind.TRIAL, ended.at, (at, at), ended.reason.value.replace("_", " "), text))
    return found


def _used(state: RunState, step: int) -> float:
    return max((point.gpu_hours for point in state.points if point.step <= step), default=0.0)


def effect_text(effect: Effect, state: RunState) -> str:
    """What a decision did to the run's hours, as a sentence; empty where it did nothing to them."""
    if effect.saved_gpu_hours > 0.0:
        granted = hours(state.granted_gpu_hours)
        return f"Saved: {hours(effect.saved_gpu_hours)} of the {granted} GPU-hours granted to it."
    if effect.given_gpu_hours > 0.0:
        return f"Given: {hours(effect.given_gpu_hours)} GPU-hours beyond what it had."
    return ""


def short_evidence(evidence: Evidence, rule: Rule) -> str:
    """Ceiling, difference and probability in one line; empty where there is no ceiling."""
    fit = evidence.fit
    if fit is None or fit.ceiling is None:
        return ""
    text = f"Ceiling {rate(fit.ceiling.median)} {span80(fit.ceiling)}"
    if evidence.difference is not None:
        text += f", {difference_words(evidence.difference, rule)}"
    if evidence.probability_below is not None and evidence.margin is not None:
        text += f", P({worse_by(rule, evidence.margin)}) {probability(evidence.probability_below)}"
    return text + "."
