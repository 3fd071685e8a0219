"""Elements of a page as text: everything that is not an element is escaped."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def el(tag: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """An element with its children; plain strings are escaped, attributes that are None are left out.

    ``class_`` stands for ``class``, and an underscore for a hyphen: ``stroke_width=2``.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = join(*children)
    return Markup(
        f"<{tag}{written}/>" if not inside and tag in _VOID else f"<{tag}{written}>{inside}</{tag}>"
    )


def join(*children: str) -> Markup:
    """Pieces one after the other, escaped unless they are markup."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def _text(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


_VOID = frozenset({"br", "meta", "line", "rect", "circle", "path", "polyline", "polygon", "use"})
