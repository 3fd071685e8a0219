"""One prompt of text with that by which its completions are verified: a row of a data file.

field        type                 asked for by
id           text                 all; unique in its file
domain       text                 all; one of DOMAINS
prompt       text                 all; what the model reads, put into the recipe's template
answer       text or number       math, stem; choice (a letter: the first choice is A); logic
choices      list of texts        choice; 2 to 26 of them, written below the prompt as A) ..., B) ...
constraints  list of objects      instructions; {"type": name, ...}, see CONSTRAINTS in ``instructions``
tests        list of objects      code; {"stdin": TEXT, "expected": TEXT}, or
                                  {"function": NAME, "arguments": [...], "expected": VALUE}
response     text                 none; a written response, for a supervised warm start
metadata     object               none; kept as it is (logic: source_dataset names the scorer; stem:
                                  rel_tolerance; all: difficulty, a number, for stages of a curriculum)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

DOMAINS = ("math", "stem", "choice", "logic", "instructions", "code")
"""What a row may be of."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Item:
    """One row; the module's docstring says what each field holds."""

    id: str
    domain: str
    prompt: str
    answer: str = ""
    choices: tuple[str, ...] = ()
    constraints: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    tests: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    response: str = ""
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)
    place: str = field(default="", compare=False)
    """File and line it came from, for messages."""

    @property
    def text(self) -> str:
        """The prompt with its choices, as it is put into the template."""
        listed = [f"{letter}) {choice}" for letter, choice in zip(LETTERS, self.choices, strict=False)]
        return "\n".join([self.prompt, *listed])

    @property
    def difficulty(self) -> float | None:
        """The number in ``metadata.difficulty``; generators put other things there, which are none."""
        value = self.metadata.get("difficulty")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return None
        return float(value)
