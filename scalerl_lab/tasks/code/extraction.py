"""The solution in a completion."""

from __future__ import annotations

import re
import textwrap

_FENCE = re.compile(r"^[ \t]*(`{3,})([^`\n]*)$", re.MULTILINE)
_ANY_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})([^`\n]*)$", re.MULTILINE)
_PYTHON = frozenset({"python", "python3", "py"})
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
_STATEMENT = re.compile(
    r"^(?:(?:async )?def \w|class \w|import \w|from \w[\w.]* import |@\w|print\(|\w+(?:, *\w+)* = \S)",
    re.MULTILINE,
)


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


def likely_code(text: str) -> str | None:
    """Where the code of a completion stands that did not keep to the format.

    The last fenced block that is called Python, else the last that is not empty; it may be fenced by tildes,
    and need not be closed. Without one the inside of the last ``<answer>``, else the text from its first line
    that begins as a statement of Python. One place alone: to try them all would pay for hedging.

    Returns:
        None where nothing looks like code.
    """
    blocks = [(name, textwrap.dedent(content)) for name, content in _blocks(text) if content.strip()]
    if blocks:
        return next((content for name, content in reversed(blocks) if name in _PYTHON), blocks[-1][1])
    tags = [inside for inside in _TAG.findall(text) if inside.strip()]
    if tags:
        return textwrap.dedent(tags[-1])
    start = _STATEMENT.search(text)
    return text[start.start() :] if start else None


def _blocks(text: str) -> list[tuple[str, str]]:
    """(what a block is called, its content); a fence with a name opens one, whatever is open."""
    found: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    for fence in _ANY_FENCE.finditer(text):
        name = fence.group(2).strip()
        if opened is not None:
            closes = fence.group(1)[0] == opened.group(1)[0] and len(fence.group(1)) >= len(opened.group(1))
            if not name and not closes:
                continue
            found.append((_name(opened), text[opened.end() + 1 : fence.start()]))
        opened = fence if name or opened is None else None
    if opened is not None:
        found.append((_name(opened), text[opened.end() + 1 :]))
    return found


def _name(fence: re.Match[str]) -> str:
    return (fence.group(2).split() or [""])[0].strip("{}.").casefold()
