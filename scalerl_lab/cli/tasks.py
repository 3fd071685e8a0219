"""``lab tasks``: files of prompts checked, and generators of puzzles audited, before a run relies on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scalerl_lab.cli.bench import progress
from scalerl_lab.cli.places import print_json, print_rich

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from scalerl_lab.tasks.gym_audit import Audited


@click.group("tasks")
def tasks_commands() -> None:
    """Prompts and their verifiers."""


@tasks_commands.command("audit")
@click.argument("generators", nargs=-1)
@click.option(
    "--items", type=click.IntRange(min=1), default=5, show_default=True, help="Puzzles of each generator."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the puzzles.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def audit_command(generators: tuple[str, ...], items: int, seed: int, as_json: bool) -> None:
    """Audit reasoning-gym's generators (all, or those named): can their scores be a reward?

    A generator is excluded where its own answer does not score 1, junk has a full score, its scorer raises,
    or it is slow; it is all_or_nothing where junk has a part of a score, so that only full scores count. Exit
    code 1 where one is found worse than the list in the code has it.

    JSON: items, seed, generators, each with generator, verdict, listed, items, oracle_score, junk_score,
    junk_full, errors, draw_s, score_s, why.
    """
    from scalerl_lab.tasks.gym_audit import audit
    from scalerl_lab.tasks.gym_audit import generators as all_generators
    from scalerl_lab.tasks.text_tasks import require_generators, require_package

    require_package("reasoning_gym", "lab tasks audit")
    known = all_generators()
    require_generators(generators, known)
    chosen = generators or tuple(known)
    with progress("generators") as done:
        found = audit(chosen, items=items, seed=seed, done=done)
    if as_json:
        from dataclasses import asdict

        rows = [
            {"generator": each.generator, "verdict": each.verdict, "listed": each.listed} | asdict(each)
            for each in found
        ]
        print_json({"items": items, "seed": seed, "generators": rows})
    else:
        print_rich(_table(found))
    if any(each.worse_than_listed for each in found):
        raise click.exceptions.Exit(1)


def _table(found: Sequence[Audited]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("generator", "found", "listed", "oracle", "junk", "errors", "draw ms", "score ms", "why"):
        table.add_column(name, justify="left" if name in ("generator", "found", "listed", "why") else "right")
    for each in found:
        table.add_row(
            each.generator,
            each.verdict,
            each.listed + (" !" if each.worse_than_listed else ""),
            "-" if each.oracle_score is None else f"{each.oracle_score:.2f}",
            f"{each.junk_score:.2f}",
            str(each.errors),
            f"{1000 * each.draw_s:.0f}",
            f"{1000 * each.score_s:.0f}",
            each.why,
        )
    return table


@tasks_commands.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def check_command(files: tuple[Path, ...], as_json: bool) -> None:
    """Check files of prompts: fields, gold answers, verifiers, and that no two files share a prompt.

    The first problems are named by file and line, with what is allowed; exit code 2.

    JSON: files, each with file, rows, domains (domain -> rows).
    """
    from collections import Counter

    from scalerl_lab.config.reading import data_file
    from scalerl_lab.tasks.data_files import read_items, refuse_overlap
    from scalerl_lab.tasks.text_tasks import require_verifiable

    sets = {str(file): read_items(data_file(str(file))) for file in files}
    refuse_overlap(sets)
    counts = {}
    for file, items in sets.items():
        require_verifiable(items)
        counts[file] = dict(sorted(Counter(item.domain for item in items).items()))
    if as_json:
        print_json({"files": [{"file": f, "rows": sum(c.values()), "domains": c} for f, c in counts.items()]})
        return
    for file, of_domain in counts.items():
        shown = ", ".join(f"{num} {domain}" for domain, num in of_domain.items())
        click.echo(f"{file}: {sum(of_domain.values())} rows ({shown}), all can be verified")
