"""The part of the page that tells each run's story, with its forecast as it was when it was decided on."""

from __future__ import annotations

from collections.abc import Sequence

from scalerl_lab.config.sweep import Rule
from scalerl_lab.records import Decision
from scalerl_lab.report.forest import legend
from scalerl_lab.report.held_against import cause_text, reference_words
from scalerl_lab.report.markup import Markup, el, join
from scalerl_lab.report.status import when
from scalerl_lab.report.story import (
    Entry,
    Kind,
    Story,
    earlier_look,
    effect_text,
    pictured,
    short_evidence,
    tell,
)
from scalerl_lab.report.story_picture import Picture
from scalerl_lab.report.story_svg import forecast_drawing
from scalerl_lab.report.view import RunView, SweepView
from scalerl_lab.report.why import evidence_lines
from scalerl_lab.report.words import hours, num


def anchor(run_id: str) -> str:
    """Where a run's story stands on the page."""
    return f"story-{run_id}"


def stories(view: SweepView) -> list[Markup]:
    """Each run from its first trial to what was decided last."""
    told = [_tell(view, run) for run in view.runs]
    keys = legend(*_keys(view, [found[1] for story in told for found in _pictures(story).values()]))
    text = (
        "Drawn from what was on record when it was decided. The band's end at the budget is the recorded "
        "interval; it opens evenly in log compute on the way there."
    )
    articles = [_story(story, run) for story, run in zip(told, view.runs, strict=True)]
    return [el("p", text, class_="note"), keys, *articles]


def _tell(view: SweepView, run: RunView) -> Story:
    return tell(view.plan.sweep_id, view.plan.sweep.rule, run.state, run.decisions, run.trials, view.orders)


def _pictures(story: Story) -> dict[int, tuple[Decision, Picture]]:
    """Place of an entry -> what it is drawn by."""
    found = ((place, pictured(story, entry)) for place, entry in enumerate(story.entries))
    return {place: drawn for place, drawn in found if drawn is not None}


def _keys(view: SweepView, pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """What signs mean, of those that are on the page."""
    keys = [
        ("ptk", "point the decision rests on", any(p.seen for p in pictures)),
        ("outk", "measured since", any(p.later for p in pictures)),
        ("ahead", "forecast then", any(len(p.ahead) > 1 for p in pictures)),
        ("band80k", "80 % of it", any(a.low80 is not None for p in pictures for a in p.ahead)),
        (
            "referencek",
            f"{reference_words(view.plan.sweep.rule)} less the margin",
            any(p.reference is not None for p in pictures),
        ),
        ("ceilingk", "A: the ceiling, 80 %", any(p.ceiling is not None for p in pictures)),
    ]
    return [(name, text) for name, text, there in keys if there]


def _story(story: Story, run: RunView) -> Markup:
    state = run.state
    used = f"{state.status.value}, {hours(state.gpu_hours)} of {hours(state.granted_gpu_hours)} GPU-hours"
    head = el("h3", run.label, el("small", used))
    if not story.entries:
        return el(
            "article", head, el("p", "Nothing happened to it yet.", class_="note"), id=anchor(run.run_id)
        )
    drawings = [
        _drawing(story, story.entries[place], decision, drawn)
        for place, (decision, drawn) in _pictures(story).items()
    ]
    tale = el(
        "div",
        el("div", *drawings, class_="drawings") if drawings else Markup(""),
        el("ol", *(_entry(story, entry) for entry in story.entries), class_="events"),
        class_="tale" if drawings else None,
    )
    notes = [el("p", note, class_="note") for note in story.notes]
    return el("article", head, *notes, tale, _log(run, story.rule), id=anchor(run.run_id), class_="story")


def _drawing(story: Story, entry: Entry, decision: Decision, drawn: Picture) -> Markup:
    own = entry.rows[-1].decision
    at = earlier_look(entry, decision) or f"{own.action.value} at {hours(own.gpu_hours)} GPU-hours"
    label = f"{story.label}: points, forecast and ceiling; {at}"
    return el("figure", forecast_drawing(drawn, label), el("figcaption", at))


def _entry(story: Story, entry: Entry) -> Markup:
    first, last = hours(entry.gpu_hours[0]), hours(entry.gpu_hours[1])
    action = entry.rows[-1].decision.action.value if entry.kind is Kind.DECISION else ""
    head = el(
        "p",
        el("b", entry.head, class_=f"act {action}" if action else None),
        el("span", f"at {first}" if first == last else f"{first} to {last}", " GPU-hours"),
        el("time", f"{when(entry.at)} UTC"),
        class_="what",
    )
    parts = [head, el("p", entry.text)]
    if entry.kind is Kind.LOOKS and len(entry.rows) > 1:
        short = short_evidence(entry.rows[-1].decision.evidence, story.rule)
        parts += [el("p", f"The last: {short[:1].lower()}{short[1:]}", class_="note")] if short else []
    elif entry.rows:
        rests = [el("li", line) for line in evidence_lines(entry.rows[-1].decision.evidence, story.rule)]
        parts += [el("ul", *rests, class_="rests")] if rests else []
    if entry.rows:
        done = next(e for e in story.effects if e.row.decision_id == entry.rows[-1].decision_id)
        effect = effect_text(done, story.state)
        parts += [el("p", effect, class_="effect")] if effect else []
    return el("li", *parts, class_=action or None)


def _log(run: RunView, rule: Rule) -> Markup:
    """Every decision on a run, to be unfolded."""
    if not run.decisions:
        return Markup("")
    rows = [
        el(
            "tr",
            el("td", hours(row.decision.gpu_hours), class_="num"),
            el("td", row.decision.action.value),
            el("td", cause_text(row.decision.cause, rule)),
            el("td", row.decision.reason),
        )
        for row in run.decisions
    ]
    head = el("tr", *(el("th", text) for text in ("GPU-hours", "action", "cause", "reason")))
    table = el("table", el("thead", head), el("tbody", *rows), class_="log")
    which = "The one decision" if len(run.decisions) == 1 else f"All {num(len(run.decisions), 'decision')}"
    summary = el("summary", join(f"{which} on ", el("b", run.label)))
    return el("details", summary, el("div", table, class_="scroll"))
