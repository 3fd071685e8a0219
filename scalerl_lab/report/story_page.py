"""The part of the page that tells each run's story, with its forecast as it was when it was decided on."""

from __future__ import annotations

from scalerl_lab.config.sweep import Rule
from scalerl_lab.report.forest import legend
from scalerl_lab.report.held_against import cause_text, reference_words
from scalerl_lab.report.markup import Markup, el, join
from scalerl_lab.report.status import when
from scalerl_lab.report.story import Entry, Kind, Story, effect_text, short_evidence, tell
from scalerl_lab.report.story_picture import picture
from scalerl_lab.report.story_svg import forecast_drawing
from scalerl_lab.report.view import RunView, SweepView
from scalerl_lab.report.why import evidence_lines
from scalerl_lab.report.words import hours, num


def anchor(run_id: str) -> str:
    """Where a run's story stands on the page."""
    return f"story-{run_id}"


def stories(view: SweepView) -> list[Markup]:
    """Each run from its first trial to what was decided last."""
    keys = legend(
        ("ptk", "point the decision rests on"),
        ("outk", "measured since"),
        ("ahead", "forecast then"),
        ("band80k", "80 % of it"),
        ("referencek", f"{reference_words(view.plan.sweep.rule)} less the margin"),
        ("ceilingk", "A: the ceiling, 80 %"),
    )
    text = (
        "Drawn from what was on record when it was decided. The band's end at the budget is the recorded "
        "interval; it opens evenly in log compute on the way there."
    )
    return [el("p", text, class_="note"), keys, *(_story(view, run) for run in view.runs)]


def _story(view: SweepView, run: RunView) -> Markup:
    story = tell(view.plan.sweep_id, view.plan.sweep.rule, run.state, run.decisions, run.trials, view.orders)
    state = run.state
    used = f"{state.status.value}, {hours(state.gpu_hours)} of {hours(state.granted_gpu_hours)} GPU-hours"
    head = el("h3", run.label, el("small", used))
    if not story.entries:
        return el(
            "article", head, el("p", "Nothing happened to it yet.", class_="note"), id=anchor(run.run_id)
        )
    drawings = [drawn for entry in story.drawn if (drawn := _drawing(story, entry)) is not None]
    tale = el(
        "div",
        el("div", *drawings, class_="drawings") if drawings else Markup(""),
        el("ol", *(_entry(story, entry) for entry in story.entries), class_="events"),
        class_="tale" if drawings else None,
    )
    notes = [el("p", note, class_="note") for note in story.notes]
    return el("article", head, *notes, tale, _log(run, story.rule), id=anchor(run.run_id), class_="story")


def _drawing(story: Story, entry: Entry) -> Markup | None:
    decision = entry.rows[-1].decision
    drawn = picture(decision, story.state.points, story.state.planned.budget_gpu_hours, story.rule)
    if drawn is None:
        return None
    at = f"{decision.action.value} at {hours(decision.gpu_hours)} GPU-hours"
    label = f"{story.label}: points, forecast and ceiling at {at}"
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
    summary = el("summary", join(f"All {num(len(run.decisions), 'decision')} on ", el("b", run.label)))
    return el("details", summary, el("div", table, class_="scroll"))
