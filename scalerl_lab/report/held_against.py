"""What a sweep's rule compares arms by, and with what, in words; and the numbers of one decision about it."""

from __future__ import annotations

from scalerl_lab.config.sweep import Ceiling, GpuHours, PassRate, Rule, ToBest, ToControl
from scalerl_lab.records import Cause, Evidence, Interval
from scalerl_lab.report.words import bare, hours, percent, probability, rate, signed, span80


def quantity_words(rule: Rule) -> str:
    """What arms are compared by: ``ceiling``, ``pass rate at 8,000 GPU-hours``, ``GPU-hours to 0.5``."""
    match rule.quantity:
        case Ceiling():
            return "ceiling"
        case PassRate(gpu_hours=at):
            return "pass rate at the budget" if at is None else f"pass rate at {hours(at)} GPU-hours"
        case GpuHours(pass_rate=level):
            return f"GPU-hours to {level:g}"


def reference_words(rule: Rule) -> str:
    """With what: ``control's ceiling``, ``best other arm's ceiling``, ``level that the rule names``."""
    match rule.reference:
        case ToControl():
            return f"control's {quantity_words(rule)}"
        case ToBest():
            return f"best other arm's {quantity_words(rule)}"
        case _:
            return "level that the rule names"


def cause_text(cause: str, rule: Rule) -> str:
    """A cause in words, the lab's own or that of another rule; a kill's says what was compared."""
    if cause == Cause.CEILING_BELOW:
        match rule.quantity:
            case PassRate():
                return "pass rate below"
            case GpuHours():
                return "too slow"
            case Ceiling():
                return "ceiling below"
    return cause.replace("_", " ")


def is_in_pass_rates(rule: Rule) -> bool:
    """Whether the quantity is one of pass rates, so that it has a place in a picture of them."""
    return not isinstance(rule.quantity, GpuHours)


def worse_by(rule: Rule, margin: float) -> str:
    """The event whose probability a kill rests on."""
    if is_in_pass_rates(rule):
        return f"below by more than {margin:g}"
    return f"slower by more than {percent(margin)}"


def reference_line(evidence: Evidence, rule: Rule) -> str:
    """Reference, difference and probability as a sentence; empty where no reference was known."""
    reference = evidence.control_ceiling
    if reference is None:
        return ""
    name = reference_words(rule)
    rates = is_in_pass_rates(rule)
    known = f"{rate(reference.median)} {span80(reference)}" if rates else _hours_span(reference)
    text = f"{name[:1].upper()}{name[1:]}: {known}"
    if evidence.difference is not None:
        text += f"; {difference_words(evidence.difference, rule)}"
    if evidence.probability_below is not None and evidence.margin is not None:
        text += (
            f", P({worse_by(rule, evidence.margin)}) {probability(evidence.probability_below)} "
            f"({rule.kill_probability:g} demanded)"
        )
    return text + "."


def difference_words(difference: Interval, rule: Rule) -> str:
    """The difference to the reference with its 80 % interval."""
    if is_in_pass_rates(rule):
        low, high = bare(difference.low80, sign=True), bare(difference.high80, sign=True)
        return f"difference {signed(difference.median)} [{low}, {high}]"
    low, median, high = (
        signed_percent(share) for share in (difference.low80, difference.median, difference.high80)
    )
    return f"saves {median} of them [{low}, {high}]"


def signed_percent(share: float) -> str:
    """A share in per cent, negative where more is used."""
    return f"−{percent(-share)}" if share < 0.0 else percent(share)


def _hours_span(interval: Interval) -> str:
    return f"{hours(interval.median)} [{hours(interval.low80)}, {hours(interval.high80)}]"
