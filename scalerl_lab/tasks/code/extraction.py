"""The solution in a completion."""

from __future__ import annotations

import re
import textwrap

_FENCE = re.compile(r"^[ \t]*(`{3,})([^`\n]*)$", re.MULTILINE)


def last_block(text: str) -> str | None:
    """The content of the last closed fenced block.

    A fence is a line of at least three backticks; a block ends at the next line of at least as many with
    nothing after them. A block that is never closed does not count: the completion was cut, or the model
    did not keep to the format. Indentation common to all lines is removed.

    Returns:
        None where there is no closed block.
    """
    found: str | None = None
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif not fence.group(2).strip() and len(fence.group(1)) >= len(opened.group(1)):
            found = text[opened.end() + 1 : fence.start()]
            opened = None
    return None if found is None else textwrap.dedent(found)
