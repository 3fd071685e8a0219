"""What is wrong with a YAML mapping, by key path; a file and its lines are added by who read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from scalerl_lab.errors import ConfigError

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong at one key path."""

    path: KeyPath
    text: str

    @property
    def text_with_path(self) -> str:
        """``question.arms.dapo.set: text``."""
        return f"{render(self.path)}: {self.text}" if self.path else self.text


class KeyPathError(ConfigError):
    """All that is wrong with a mapping, each with its key path."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.text_with_path for problem in self.problems))


def one_problem(path: KeyPath, text: str) -> KeyPathError:
    """One problem, ready to be raised."""
    return KeyPathError([Problem(path, text)])


def render(path: KeyPath) -> str:
    """``("a", "b", 2)`` as ``a.b[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(given: object, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where an allowed name is close to the given one, else nothing."""
    names = {name.lower(): name for name in allowed}
    close = get_close_matches(str(given).lower(), list(names), n=1, cutoff=0.6)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def unknown(kind: str, given: object, allowed: Sequence[str]) -> str:
    """``unknown key 'los'; allowed: loss, ...; did you mean 'loss'?``."""
    listed = ", ".join(sorted(allowed)) or "none"
    return f"unknown {kind} {given!r}; allowed: {listed}{nearest(given, sorted(allowed))}"
