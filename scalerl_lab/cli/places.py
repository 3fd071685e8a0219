"""The store that commands read, and how documents are printed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from scalerl_lab.errors import NotFound

if TYPE_CHECKING:
    from scalerl_lab.store import Store


def existing_store() -> Store:
    """The store of this LAB_HOME, for reading.

    Raises:
        NotFound: nothing was ever run here; nothing is created.
        StoreError: the database cannot be reached.
    """
    from scalerl_lab.launch.home import Home

    home = Home.from_environment(create=False)
    if home.has_own_database and not (home.root / "lab.db").exists():
        raise NotFound(
            f"no sweeps in {home.root}: nothing has been run there. "
            "Start one with: lab sweep run sweeps/loo_16k.yaml (or point LAB_HOME elsewhere)"
        )
    from scalerl_lab.store import Store

    return Store.open(home.database_url)


def resolve_sweep(store: Store, text: str | None) -> str:
    """Id of the sweep that a person means; the newest when nothing was said.

    Raises:
        NotFound: there is no such sweep.
    """
    if text is not None:
        return store.find_sweep(text).sweep_id
    rows = store.sweeps()
    if not rows:
        raise NotFound("no sweeps yet. Start one with: lab sweep run sweeps/loo_16k.yaml")
    return max(rows, key=lambda row: row.created_at).sweep_id


def resolve_sweep_or_run(store: Store, text: str | None) -> tuple[str, list[str] | None]:
    """The sweep that a person means, or the newest one that has the run they mean, and that run alone.

    Returns:
        Id of the sweep, and ids of the runs that were named; None for all of the sweep.

    Raises:
        NotFound: there is neither such a sweep nor such a run.
    """
    try:
        return resolve_sweep(store, text), None
    except NotFound as no_sweep:
        if text is None:
            raise
        try:
            run_ids = store.find_run(text)
        except NotFound as no_run:
            raise NotFound(f"{no_sweep}; {no_run}") from None
    place = store.places(run_ids)[0]
    return place.sweep_id, [place.run_id]


def print_json(document: Any) -> None:
    """One JSON document on stdout; numbers that do not exist are null."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def _write_what_can_be_written() -> None:
    """Have a plain sign, or a question mark, stand for one that the encoding of stdout lacks."""
    import codecs
    import io
    import sys

    plain = {"−": "-", "–": "-", "…": ".", "·": "."}

    def replaced(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        lacking = error.object[error.start : error.end]
        return "".join(plain.get(sign, "?") for sign in lacking), error.end

    codecs.register_error("lab.plain", replaced)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="lab.plain")


def print_rich(*renderables: Any) -> None:
    """Print for a terminal, or plain at 100 columns where there is none."""
    import sys

    from rich.console import Console

    _write_what_can_be_written()
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else 100, highlight=False, soft_wrap=False)
    for renderable in renderables:
        console.print(renderable)
