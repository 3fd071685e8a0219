"""The part of the page on transfer: gains on held-out prompts against gains downstream, arm by arm."""

from __future__ import annotations

from collections.abc import Sequence

from scalerl_lab.records import Interval
from scalerl_lab.report.chart import LINE, Axis, Chart, apart, round_ticks, spread
from scalerl_lab.report.forest import legend
from scalerl_lab.report.markup import Markup, el
from scalerl_lab.report.transfer import MEAN, Agreement, ArmGains, Gain, Transfer, arm_gains, transfer
from scalerl_lab.report.view import SweepView
from scalerl_lab.report.words import bare, num, probability, signed

WIDTH, HEIGHT = 520, 300
NAMES = 140
"""Room for the names of the arms, right of the frame."""
NORMAL80 = 1.2816
"""Half the width of a normal's central 80 % interval, in standard deviations."""


def transferred(view: SweepView) -> Transfer:
    """What carried over, the control's runs first."""
    ordered = [run for arm in view.arms for run in view.of_arm(arm)]
    measured = {run.run_id: run.measured for run in ordered}
    return transfer(view.plan.sweep_id, view.plan.sweep.name, [run.state for run in ordered], measured)


def transfer_line(found: Transfer, demanded: float) -> str:
    """What was found, in one line: where gains carried over, and whether arms keep their order."""
    arms = arm_gains(found.rows)
    told = []
    for each in _agreements(found):
        gains = [arm.downstream[each.problem_set] for arm in arms if each.problem_set in arm.downstream]
        up = sum(gain.probability_positive >= demanded for gain in gains)
        down = sum(gain.probability_positive <= 1.0 - demanded for gain in gains)
        fell = f", fell in {down}" if down else ""
        told.append(f"{each.problem_set}: rose in {up} of {num(len(gains), 'arm')}{fell}; {_order(each)}")
    return ". ".join(told) + f". Rose and fell: with probability {demanded:g} or more."


def _agreements(found: Transfer) -> list[Agreement]:
    """The mean of the sets first, where there are several."""
    return sorted(found.agreements, key=lambda each: each.problem_set != MEAN)


def _order(each: Agreement) -> str:
    if each.correlation is None or each.interval is None:
        return "too few arms to compare their order"
    span = f"[{_two(each.interval.low80)}, {_two(each.interval.high80)}]"
    return f"rank correlation with the held-out gain {_two(each.correlation)} {span}"


def _two(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def transfer_parts(found: Transfer) -> list[Markup]:
    """The gains as a table, and a chart per downstream set."""
    arms = arm_gains(found.rows)
    keys = legend(
        ("dotk", "an arm, the mean of its seeds"),
        ("barsk", "80 %, sampling error with the problems fixed"),
        ("equalk", "as much downstream as on held-out prompts"),
    )
    note = (
        "Gains of pass rate from the first to the last downstream measurement. P: probability that the "
        "downstream gain is above zero, by sampling error alone. Rank correlation (Spearman) of the arms' "
        "gains, with the 80 % interval that a bivariate normal of as many arms gives."
    )
    panels = [_panel(each, arms) for each in _agreements(found)]
    return [
        _table(arms),
        el("p", note, class_="note"),
        keys,
        el("div", *panels, class_="panels wide"),
    ]


def _table(arms: Sequence[ArmGains]) -> Markup:
    names = list(dict.fromkeys(name for arm in arms for name in arm.downstream))
    head = el("tr", *(el("th", title, scope="col") for title in ("arm", "held-out prompts", *names)))
    rows = [
        el(
            "tr",
            el("th", arm.arm, scope="row"),
            _cell(arm.validation, sure=False),
            *(_cell(arm.downstream.get(name), sure=True) for name in names),
        )
        for arm in arms
    ]
    return el("div", el("table", el("thead", head), el("tbody", *rows), class_="matrix"), class_="scroll")


def _cell(gain: Gain | None, *, sure: bool) -> Markup:
    if gain is None:
        return el("td", el("small", "not measured"))
    share = f", P {probability(gain.probability_positive)}" if sure else ""
    main = el("div", el("b", signed(gain.gain)), el("small", f" ± {bare(gain.standard_error)}{share}"))
    return el("td", main, el("small", f"{bare(gain.before)} → {bare(gain.after)}"))


def _panel(each: Agreement, arms: Sequence[ArmGains]) -> Markup:
    pairs = [(arm, arm.downstream[each.problem_set]) for arm in arms if each.problem_set in arm.downstream]
    text = (
        f"downstream gain against held-out gain; {_sizes([gain for _, gain in pairs])}, held-out "
        f"{_sizes([arm.validation for arm, _ in pairs])}; {_order(each)}"
    )
    across, up = _axis([arm.validation for arm, _ in pairs]), _axis([gain for _, gain in pairs])
    chart = Chart(across, up, WIDTH, HEIGHT, left=44, right=NAMES)
    parts = chart.grid(
        [(value, signed(value)) for value in round_ticks(chart.across)],
        [(value, signed(value)) for value in round_ticks(chart.up)],
        "held-out gain",
    )
    parts += [*_equal(chart), *_zero(chart)]
    places = apart([chart.y(gain.gain) + 3.5 for _, gain in pairs], LINE, chart.height - chart.bottom)
    named = list(zip(pairs, places, strict=True))
    parts += [_lead(chart, arm, gain, y) for (arm, gain), y in named]
    for (arm, gain), y in named:
        parts += [*_spot(chart, arm, gain), el("text", arm.arm, x=WIDTH - NAMES + 14, y=y, class_="name")]
    caption = el("figcaption", el("b", each.problem_set), el("small", text))
    return el("figure", caption, chart.svg(parts, f"{each.problem_set}: {text}"))


def _sizes(gains: Sequence[Gain]) -> str:
    """Prompts and samples of one seed's last measurement, as every arm has them; else of the least."""
    prompts = sorted({gain.num_prompts for gain in gains})
    samples = sorted({gain.num_samples for gain in gains})
    return f"{_range(prompts)} prompts with {_range(samples)} samples in all"


def _range(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _span(gain: Gain) -> Interval:
    half = NORMAL80 * gain.standard_error
    low, high = gain.gain - half, gain.gain + half
    return Interval(gain.gain, low, high, low, high)


def _axis(gains: Sequence[Gain]) -> Axis:
    """Zero is always on it: a gain is judged by its distance from there."""
    ends = [0.0, *(end for gain in gains for end in (_span(gain).low80, _span(gain).high80))]
    return spread(min(ends), max(ends), 0.05)


def _equal(chart: Chart) -> list[Markup]:
    low = max(chart.across.first, chart.up.first)
    high = min(chart.across.last, chart.up.last)
    return [chart.line([(low, low), (high, high)], "equal")]


def _zero(chart: Chart) -> list[Markup]:
    across, up = chart.across, chart.up
    return [
        chart.line([(across.first, 0.0), (across.last, 0.0)], "nought"),
        chart.line([(0.0, up.first), (0.0, up.last)], "nought"),
    ]


def _lead(chart: Chart, arm: ArmGains, gain: Gain, name_y: float) -> Markup:
    """A thin line from an arm's dot to its name."""
    x, y = chart.x(arm.validation.gain), chart.y(gain.gain)
    to = WIDTH - NAMES + 11
    return el(
        "path", d=f"M{x:.1f},{y:.1f}L{to - 8},{name_y - 3.5:.1f}L{to},{name_y - 3.5:.1f}", class_="lead-in"
    )


def _spot(chart: Chart, arm: ArmGains, gain: Gain) -> list[Markup]:
    wide, high = _span(arm.validation), _span(gain)
    x, y = chart.x(wide.median), chart.y(high.median)
    tip = (
        f"{arm.arm}, {num(arm.num_seeds, 'seed')}\nheld-out {signed(wide.median)} "
        f"[{bare(wide.low80, sign=True)}, {bare(wide.high80, sign=True)}]\ndownstream {signed(high.median)} "
        f"[{bare(high.low80, sign=True)}, {bare(high.high80, sign=True)}]"
    )
    return [
        el("line", x1=chart.x(wide.low80), x2=chart.x(wide.high80), y1=y, y2=y, class_="bars80"),
        el("line", x1=x, x2=x, y1=chart.y(high.low80), y2=chart.y(high.high80), class_="bars80"),
        el("circle", cx=x, cy=y, r=3.6, class_="gaindot"),
        el("circle", cx=x, cy=y, r=9, class_="hit", data_tip=tip),
    ]
