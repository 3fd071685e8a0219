"""Rules of stopping as they are named on the command line: ``asha``, ``asha:eta=4,grace=0.1``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from scalerl_lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scalerl_lab.config.sweep import Rule
    from scalerl_lab.decide.policies import Forecast
    from scalerl_lab.decide.recorded import Recorded
    from scalerl_lab.decide.replay import Policy
    from scalerl_lab.report.bench.decisions import Contender

FORECAST = "forecast"
HELP = (
    "Rule, with settings if any: forecast, none, last_value, paper_point, top_k, asha, hyperband, median, "
    "optuna_sha, optuna_hyperband, optuna_median; e.g. asha:eta=4,grace=0.1. Repeatable."
)
LOOKS = "Share of a run's budget from one look by the forecast to the next; default: 0.05, as in a sweep."
_GRACES = (0.01, 1.0 / 27.0, 0.1, 0.2, 1.0 / 3.0)
_OWN = ("every",)
"""Settings of the forecast's replay; all others are keys of the sweep's rule."""
_KINDS = ("quantity", "reference")
"""Keys of the rule whose value is a kind: ``quantity=pass_rate``, ``reference=best``."""


def contender_of(text: str, *, every: float | None = None) -> Contender:
    """The rule that a text names.

    Args:
        text: a name, and after a colon settings as key=value, divided by commas.
        every: share of the budget from one look of the lab's own rule to the next; None: as in a sweep.

    Raises:
        UserError: an unknown rule or setting, or a value that it does not allow.
    """
    from scalerl_lab.config.problems import nearest
    from scalerl_lab.report.bench.decisions import Contender

    family, _, written = text.partition(":")
    settings = _settings(text, written)
    if family == FORECAST:
        own = {key: _share(text, key, settings.pop(key)) for key in _OWN if key in settings}
        _check_rule(text, settings)
        make: Callable[[Recorded], Policy] = partial(
            under_rule, changes=tuple(settings.items()), every=own.get("every", every)
        )
        return Contender(family, written, make, forecasts=True)
    makers = _makers()
    if family not in makers:
        names = [FORECAST, *makers]
        raise UserError(f"no rule {family!r}{nearest(family, names) or '; there are: ' + ', '.join(names)}")
    allowed = _allowed(family)
    for key, value in settings.items():
        if key not in allowed:
            raise UserError(
                f"--rule {text}: no setting {key!r} of {family}; there are: {', '.join(allowed) or 'none'}"
            )
        low, high = _RANGES[key]
        if isinstance(value, str):
            raise UserError(f"--rule {text}: {key} is a number from {low:g} to {high:g}, found {value!r}")
        if not low <= value <= high or (key == "k" and value != int(value)):
            raise UserError(f"--rule {text}: {key} has to lie from {low:g} to {high:g}, found {value:g}")
    given = {key: int(value) if key == "k" else float(value) for key, value in settings.items()}
    return Contender(family, written, partial(makers[family], **given))


def contenders_of(texts: Sequence[str], *, every: float | None = None) -> list[Contender]:
    """The rules that texts name; a name without settings stands for all settings that it is measured at."""
    found = []
    for text in texts:
        settings = GRIDS.get(text, ("",))
        found += [contender_of(f"{text}:{one}" if one else text, every=every) for one in settings]
    return found


def under_rule(
    recorded: Recorded, *, changes: tuple[tuple[str, float | str], ...], every: float | None
) -> Forecast:
    """The lab's own rule, with keys of the sweep's rule changed."""
    from scalerl_lab.decide.policies import Forecast

    rule = changed_rule(recorded.sweep.rule.model_dump(), changes)
    sweep = recorded.sweep.model_copy(update={"rule": rule})
    return Forecast(recorded.under(sweep), every)


def changed_rule(dumped: dict[str, object], changes: Sequence[tuple[str, float | str]]) -> Rule:
    """A rule with some of its keys (dotted paths) changed."""
    from scalerl_lab.config.sweep import Rule

    for path, value in changes:
        inner = dumped
        *above, last = path.split(".")
        for key in above:
            below = inner.get(key)
            inner = below if isinstance(below, dict) else inner.setdefault(key, {})  # type: ignore[assignment]
        if path in _KINDS:
            inner[last] = {"type": value}
        else:
            whole = isinstance(inner.get(last), int) and isinstance(value, float)
            inner[last] = int(value) if whole else value
    return Rule.model_validate(dumped)


def _check_rule(text: str, settings: Mapping[str, float | str]) -> None:
    from scalerl_lab.config.sweep import Rule

    try:
        changed_rule(Rule().model_dump(), tuple(settings.items()))
    except ValueError as error:
        # Of the validator's message: the key, then what is wrong with it.
        _, where, what, *_ = [*str(error).splitlines(), "", ""]
        keys = ", ".join([*_OWN, *Rule.model_fields])
        wrong = what.partition(" [type=")[0].strip()
        raise UserError(f"--rule {text}: {where}: {wrong}; settings are: {keys}") from None


def _settings(text: str, written: str) -> dict[str, float | str]:
    settings: dict[str, float | str] = {}
    for part in written.split(",") if written else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise UserError(f"--rule {text}: found {part!r}, a setting such as grace=0.1 is expected")
        try:
            settings[key] = float(value)
        except ValueError:
            settings[key] = value
    return settings


def _share(text: str, key: str, value: float | str) -> float:
    if isinstance(value, str) or not 0.0 < value <= 1.0:
        raise UserError(f"--rule {text}: {key} is a share of the budget, above 0 and up to 1, found {value}")
    return value


def _makers() -> dict[str, Callable[..., Policy]]:
    from scalerl_lab.decide.policies import LastValue, NoStop, PaperPoint, TopK
    from scalerl_lab.plugins.peers import PEERS

    simple: dict[str, Callable[..., Policy]] = {
        "none": NoStop,
        "last_value": LastValue,
        "paper_point": PaperPoint,
        "top_k": TopK,
    }
    return {**simple, **PEERS}


def _allowed(family: str) -> tuple[str, ...]:
    if family == "none":
        return ()
    if family in ("last_value", "paper_point"):
        return ("margin", "grace", "best")
    if family == "top_k":
        return ("k", "grace")
    return ("grace",) if family.endswith("median") else ("eta", "grace")


_RANGES = {
    "margin": (-1.0, 1.0),
    "grace": (1e-4, 1.0),
    "best": (0.0, 1.0),
    "k": (1.0, 1e6),
    "eta": (2.0, 100.0),
}
_BELOW = tuple(
    f"margin={margin:g},grace={grace:g}" for margin in (0.02, 0.05, 0.1) for grace in (0.1, 0.25, 0.5)
)
_HALVING = tuple(f"eta={eta},grace={grace:.3g}" for eta in (2, 3, 4) for grace in _GRACES)
GRIDS: dict[str, tuple[str, ...]] = {
    "forecast": tuple(f"kill_probability={level:g}" for level in (0.8, 0.9, 0.95, 0.98, 0.99)),
    "last_value": _BELOW,
    "paper_point": _BELOW,
    "top_k": tuple(f"k={k}" for k in (1, 2, 3, 5, 8)),
    "asha": _HALVING,
    "hyperband": _HALVING,
    "median": tuple(f"grace={grace:.3g}" for grace in (*_GRACES, 0.5, 0.7)),
    "optuna_sha": _HALVING,
    "optuna_hyperband": _HALVING,
    "optuna_median": tuple(f"grace={grace:.3g}" for grace in (*_GRACES, 0.5)),
}
"""Settings at which ``lab bench decide`` measures a rule that is named without any."""
