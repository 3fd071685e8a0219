"""Which column of a file is the run, the compute, the value and its error: as asked, or guessed by name.

A guess by name goes by the words of a column's name (``train/global_step`` is train, global, step). Where
names say nothing, the only numeric columns are compute and value in their order, and the only column of
words is the run. What fits two columns alike is no guess but an error. Several columns of values are runs,
one each, where they are asked for, or named as Weights & Biases exports them: ``run - metric``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from scalerl_lab.config.problems import nearest
from scalerl_lab.errors import DataError
from scalerl_lab.report.forecasts.sheet import Sheet, is_number
from scalerl_lab.report.words import listed

NONE = "none"
"""Said of a column that is not to be guessed."""

_RUN = (
    "run run_id run_name run_key curve curve_id name trial trial_id trial_name experiment experiment_id "
    "experiment_name exp exp_id exp_name job job_id series id",
    "arm variant config config_id condition method algo algorithm recipe label model task env env_id "
    "environment dataset learner group",
    "seed random_seed replicate",
)
_X = (
    "compute x",
    "gpu_hours gpu_hour device_hours flops flop pflops exaflops",
    "global_step optimizer_step optimiser_step train_step train_steps training_step env_step env_steps "
    "environment_steps timestep timesteps step steps update updates iteration iterations iter epoch epochs "
    "episode episodes frame frames tokens train_set_size",
    "wall_time wall_clock wall_hours wall_seconds wall_s wall hours minutes seconds time elapsed",
)
_Y = (
    "pass_rate accuracy acc success_rate success win_rate solve_rate reward rewards return returns pass",
    "score scores value metric y",
)
_ERROR = ("se", "sem", "stderr", "std_err", "std_error", "standard_error")
_FALLING = {"loss", "nll", "error", "err", "perplexity", "ppl", "regret", "bpb", "mse", "rmse", "mae", "kl"}
"""Words of values that fall as a run gets better: never guessed to be the value."""
_SPREAD = re.compile(
    "se|sem|stderr|std|stdev|stddev|sd|var|variance|min|max|lo|low|hi|high|lower|upper|ci|count|num|n"
)
"""Words of what goes with a value and is none."""
_MISSING = {"", "nan", "na", "n/a", "null", "none", "-"}
_EXPORTED = " - "
"""Between run and metric in the columns that Weights & Biases exports."""
_THE_VALUE = "the value"
_LOOKED_AT = 2000
"""So many rows say whether a column holds numbers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Columns that a person named; None or nothing: to be guessed."""

    run: tuple[str, ...] = ()
    x: str | None = None
    y: str | None = None
    se: str | None = None
    arm: str | None = None
    wide: tuple[str, ...] = ()
    """Two columns or more of values, each of a run of its own; then ``y`` is None."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read from which column."""

    run: tuple[str, ...]
    """Their cells, joined, name the run; none: all rows are one run."""
    x: str
    y: str
    """With ``wide`` what the values are called, no column."""
    se: str | None
    arm: str | None
    guessed: bool
    """Whether any of them was guessed."""
    wide: tuple[tuple[str, str], ...] = ()
    """(column, run) where each run has a column of its values."""

    @property
    def sentence(self) -> str:
        """``run = run_id, compute = step, value = reward``."""
        if self.wide:
            shown = listed([column for column, _ in self.wide])
            return f"compute = {self.x}, {self.y} of a run each = {shown}"
        parts = [f"run = {' and '.join(self.run)}"] if self.run else ["one run"]
        parts += [f"compute = {self.x}", f"value = {self.y}"]
        parts += [f"standard error = {self.se}"] if self.se is not None else []
        return ", ".join(parts)


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no number."""
    return cell.strip().lower() in _MISSING


def find_columns(sheet: Sheet, asked: Asked) -> Columns:
    """The columns of a file.

    Raises:
        DataError: a named column is not there, or a guess fits none or several; the message names the
            columns and the option that decides.
    """
    named = _Named(sheet, asked)
    if found := _wide(sheet, named):
        return found
    run = _run_by_name(sheet, named.taken) if named.run is None else named.run
    free = [c for c in _numeric(sheet) if c not in named.taken and c not in run]
    others = [c for c in sheet.header if c not in (*free, *named.taken, *run)]
    x = named.x or _by_name(free, others, _X, "--x", "compute", ranked=True)
    free = [c for c in free if c != x]
    y = named.y or _by_name([c for c in free if _may_be_value(c)], others, _Y, "--y", _THE_VALUE)
    x, y = _by_position(sheet, x, y, [c for c in free if c != y and _may_be_value(c)])
    se = None if named.no_se else named.se or _error_of(y, [c for c in free if c not in (x, y)])
    if named.run is None and not run:
        run = _run_by_type(sheet, {x, y, *named.taken}, x)
    guessed = named.run is None or not (named.x and named.y)
    return Columns(run, x, y, se, named.arm or _arm(sheet, run), guessed)


def _wide(sheet: Sheet, named: _Named) -> Columns | None:
    """The columns where each holds the values of a run; None where that is not so."""
    wide, y, guessed = tuple((column, column) for column in named.wide), "value", named.x is None
    if not wide and named.run is None and named.y is None:
        wide, y = _exported(sheet)
        guessed = True
    if not wide:
        return None
    taken = {column for column, _ in wide}
    free = [c for c in _numeric(sheet) if c not in taken]
    others = [c for c in sheet.header if c not in (*free, *taken)]
    x = named.x or _by_name(free, others, _X, "--x", "compute", ranked=True)
    if x is None and len(free) != 1:
        raise DataError(
            f"cannot tell the compute in {sheet.source} among {', '.join(c for c in sheet.header if c)}; "
            "name it: --x COLUMN"
        )
    return Columns((), x or free[0], y, None, None, guessed, wide)


def _exported(sheet: Sheet) -> tuple[tuple[tuple[str, str], ...], str]:
    """((column, run), ...) and the metric of a file of columns ``run - metric``; nothing where it is none."""
    parted = [
        (name, *name.rsplit(_EXPORTED, 1))
        for name in _numeric(sheet)
        if _EXPORTED in name and not name.endswith(("__MIN", "__MAX", f"{_EXPORTED}_step"))
    ]
    metrics = {metric for _, _, metric in parted}
    runs = tuple((column, run.strip()) for column, run, _ in parted)
    if len(metrics) != 1 or len({run for _, run in runs}) < len(runs):
        return (), ""
    return runs, metrics.pop().strip()


class _Named:
    """The columns that a person named, found in the header."""

    def __init__(self, sheet: Sheet, asked: Asked) -> None:
        self.sheet = sheet
        no_run = asked.run == (NONE,) and NONE not in sheet.header
        self.no_se = asked.se == NONE and NONE not in sheet.header
        self.run = () if no_run else tuple(self._find(c, "--run") for c in asked.run) or None
        self.x = self._find(asked.x, "--x") if asked.x else None
        self.y = self._find(asked.y, "--y") if asked.y else None
        self.se = self._find(asked.se, "--se") if asked.se and not self.no_se else None
        self.arm = self._find(asked.arm, "--arm") if asked.arm else None
        self.wide = tuple(self._find(c, "--y") for c in asked.wide)
        self.taken = {c for c in (*(self.run or ()), self.x, self.y, self.se) if c}
        self._check_wide()
        if self.x is not None and self.x == self.y:
            raise DataError(f"--x and --y both name the column {self.x!r}; compute and value are two columns")

    def _check_wide(self) -> None:
        """What columns of runs exclude."""
        if not self.wide:
            return
        for option, given in (("--run", self.run), ("--se", self.se), ("--arm", self.arm)):
            if given:
                raise DataError(
                    f"several --y are a run each, so that {option} has nothing to say; "
                    "leave it out, or name one --y"
                )
        if len(set(self.wide)) < len(self.wide) or self.x in self.wide:
            raise DataError(
                f"--y {', --y '.join(self.wide)}: one column is named twice, or is the compute too"
            )

    def _find(self, name: str, option: str) -> str:
        header = self.sheet.header
        found = [c for c in header if c == name] or [c for c in header if c.lower() == name.strip().lower()]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{self.sheet.source} has {len(found)} columns {name!r} ({option}); "
                "give them names of their own in the file's first line"
            )
        there = ", ".join(c for c in header if c)
        raise DataError(
            f"{self.sheet.source} has no column {name!r} ({option}); there are: {there}"
            f"{nearest(name, [c for c in header if c])}"
        )


def _words(name: str) -> tuple[str, ...]:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return tuple(re.findall(r"[a-z]+|\d+", parted.lower()))


def _holds(words: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    size = len(pattern)
    return any(words[k : k + size] == pattern for k in range(len(words) - size + 1))


def _by_name(
    columns: Sequence[str],
    others: Sequence[str],
    tiers: Sequence[str],
    option: str,
    what: str,
    *,
    ranked: bool = False,
) -> str | None:
    """The column of the first tier that any name belongs to.

    Args:
        columns: those that hold numbers.
        others: those that do not; one whose whole name says what it is was meant to hold numbers.
        tiers: names, best first; those of one tier are equally good.
        option: decides where several are equally good.
        what: is looked for.
        ranked: whether a whole name goes before a part of one.
    """
    for tier in tiers:
        patterns = [_words(name) for name in tier.split()]
        whole = [c for c in columns if _words(c) in patterns]
        part = [c for c in columns if "per" not in _words(c) and any(_holds(_words(c), p) for p in patterns)]
        # ``reward`` and ``eval_reward`` may both be meant; ``step`` and ``step_seconds`` hardly.
        for found in (whole, part) if ranked else (part,):
            if len(found) > 1:
                raise DataError(_ambiguous(what, found, option))
            if found:
                return found[0]
    patterns = [_words(name) for tier in tiers for name in tier.split()]
    return next((c for c in others if _words(c) in patterns), None)


def _ambiguous(what: str, found: Sequence[str], option: str) -> str:
    could = f"{what} could be any of the columns {', '.join(found)}"
    if len(set(found)) < len(found):
        return f"{could}; give them names of their own in the file's first line"
    each = f" (or, where each is a run: {' '.join(f'--y {_shell(c)}' for c in found[:2])} ...)"
    return f"{could}; say which: {option} {_shell(found[0])}{each if what == _THE_VALUE else ''}"


def _shell(name: str) -> str:
    return name if re.fullmatch(r"[\w./@-]+", name) else f'"{name}"'


def _numeric(sheet: Sheet) -> list[str]:
    """Columns whose first cells are mostly numbers, so that one bad cell does not hide its column."""
    found = []
    for place, name in enumerate(sheet.header):
        cells = [row[place] for row in sheet.rows[:_LOOKED_AT]]
        given = [cell for cell in cells if not is_missing(cell)]
        # Of few cells half must do: a file of two rows may have one of them wrong.
        if name and given and 2 * sum(is_number(cell) for cell in given) >= len(given):
            found.append(name)
    return found


def _may_be_value(name: str) -> bool:
    return not any(word in _FALLING or _SPREAD.fullmatch(word) for word in _words(name))


def _by_position(sheet: Sheet, x: str | None, y: str | None, free: Sequence[str]) -> tuple[str, str]:
    """Compute and value where names did not say: the only columns of numbers that are left."""
    if x is not None and y is not None:
        return x, y
    there = ", ".join(c for c in sheet.header if c)
    if x is None and y is None:
        if len(free) == 2:
            return free[0], free[1]
        raise DataError(f"cannot tell compute and value in {sheet.source} among {there}; name them: --x, --y")
    if len(free) == 1:
        return (x or free[0]), (y or free[0])
    what, option = ("compute", "--x") if x is None else (_THE_VALUE, "--y")
    if free:
        raise DataError(_ambiguous(what, free, option))
    falling = [c for c in _numeric(sheet) if set(_words(c)) & _FALLING]
    if y is None and falling:
        raise DataError(
            f"{', '.join(falling)}: forecasts are of values that rise as a run gets better; turn it round, "
            f"for example into exp(-loss), or fit it as it is: --y {_shell(falling[0])}"
        )
    raise DataError(f"no column of {sheet.source} looks like {what} among {there}; name it: {option} COLUMN")


def _error_of(y: str, free: Sequence[str]) -> str | None:
    """The column of the value's standard errors, if there is one."""
    value = set(_words(y))
    found = []
    for name in free:
        words = _words(name)
        error = next((p for p in map(_words, _ERROR) if _holds(words, p)), None)
        if error is None:
            continue
        about = set(words) - set(error)
        if about <= value or value <= about:
            found.append(name)
    own = [name for name in found if value <= set(_words(name))]
    if len(own or found) > 1:
        raise DataError(_ambiguous("the standard error", own or found, "--se"))
    return next(iter(own or found), None)


def _run_by_name(sheet: Sheet, taken: set[str]) -> tuple[str, ...]:
    """The first column that tells all runs apart that names of columns promise, else several together."""
    wanted = [name for tier in _RUN for name in tier.split()]
    names = {c: "_".join(_words(c)) for c in sheet.header if c not in taken}
    found = sorted((c for c, name in names.items() if name in wanted), key=lambda c: wanted.index(names[c]))
    found = [c for c in found if {"run", "curve"} & set(_words(c)) or _is_label(sheet, c)]
    whole = _distinct(sheet, found)
    if whole == 1:
        # A column that says the same everywhere names the run only where that is all it is for.
        found = [c for c in found if names[c] in _RUN[0].split()]
    for name in found:
        if _distinct(sheet, [name]) == whole:
            return (name,)
    chosen: list[str] = []
    for name in found:
        if _distinct(sheet, [*chosen, name]) > _distinct(sheet, chosen):
            chosen.append(name)
    return tuple(chosen)


def _is_label(sheet: Sheet, name: str) -> bool:
    """Whether rows share a column's cells; a number of its own for every row names no run."""
    return len(sheet.rows) < 4 or _distinct(sheet, [name]) < len(sheet.rows)


def _distinct(sheet: Sheet, names: Sequence[str]) -> int:
    places = [sheet.header.index(name) for name in names]
    return len(set(map(itemgetter(*places), sheet.rows))) if places else 1


def _run_by_type(sheet: Sheet, taken: set[str], x: str) -> tuple[str, ...]:
    """The only column of words that differ; one run where no compute occurs twice."""
    numeric = _numeric(sheet)
    words = [
        c
        for c in sheet.header
        if c and c not in taken and c not in numeric and _is_label(sheet, c) and _distinct(sheet, [c]) > 1
    ]
    if len(words) > 1 and _distinct(sheet, [x]) < len(sheet.rows):
        raise DataError(_ambiguous("the run", words, "--run") + " (twice for two), or --run none")
    return tuple(words) if len(words) == 1 else ()


def _arm(sheet: Sheet, run: tuple[str, ...]) -> str | None:
    """The column ``arm`` where it says more than the run."""
    return next((c for c in sheet.header if c.lower() == "arm" and run != (c,)), None)
