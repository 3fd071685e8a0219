"""``lab bench``: how good forecasts are, measured on curves whose end is known."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from scalerl_lab.cli.places import print_json, print_rich
from scalerl_lab.errors import UserError

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@click.group("bench")
def bench_commands() -> None:
    """How good forecasts are, measured on curves whose end is known."""


@bench_commands.command("forecast")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--method", "methods", multiple=True, metavar="NAME", help="Repeatable; default: all methods.")
@click.option(
    "--cut",
    "cuts",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    multiple=True,
    help="Share of a curve's compute that is given; repeatable; default: 0.25, 0.5 and 0.75.",
)
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only this file of DIR; repeatable.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="At most so many curves of each source, always the same."
)
@click.option(
    "--half",
    type=click.Choice(["even", "odd"]),
    help="Only the curves of half of the tasks, by a checksum of group and task.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="FILE", help="Write that document there too."
)
@click.option(
    "--csv",
    "details",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write each curve's scores there.",
)
def forecast_command(
    folder: Path,
    methods: tuple[str, ...],
    cuts: tuple[float, ...],
    groups: tuple[str, ...],
    limit: int | None,
    half: str | None,
    jobs: int,
    as_json: bool,
    save: Path | None,
    details: Path | None,
) -> None:
    """Cut every curve in DIR, forecast the rest by each method, and score the forecasts.

    DIR holds a CSV file per group, with run_id, compute, reward and source, and may hold an index.csv with
    group, run_id, slug (the source), task, lo and hi (bounds). Curves of a source weigh alike together, as do
    sources in a group, and groups. The numbers do not depend on --jobs.

    JSON: date, folder, limit, half, methods, cuts, curves; rows, each with group (null: all), cut (null:
    mean), method, forecasts, points, crps, crps_ratio (over the best other baseline), mae, log_score,
    coverage50, coverage80, coverage90, coverage95, width50, width80, width90, width95, not_identified. CSV:
    the same for each group, source, run, cut and method.
    """
    one_thread()
    from datetime import UTC, datetime

    from scalerl_lab.report.bench.folder import Half, choose_groups, half_of, read_folder, sample
    from scalerl_lab.report.bench.forecast_tables import forecast_csv, forecast_json, forecast_tables
    from scalerl_lab.report.bench.forecasts import CUTS, known_methods, measure_forecasts

    chosen = known_methods(methods)
    curves = choose_groups(read_folder(folder), groups)
    curves = curves if half is None else half_of(curves, Half(half))
    curves = curves if limit is None else sample(curves, limit)
    with progress("curves") as done:
        bench = measure_forecasts(curves, chosen, cuts=sorted(set(cuts)) or CUTS, jobs=jobs, done=done)
    date = datetime.now(UTC).date().isoformat()
    document = forecast_json(bench, date=date, folder=folder.name, limit=limit, half=half)
    if save is not None:
        import json

        write_file(save, json.dumps(document, indent=2, allow_nan=False) + "\n")
    if details is not None:
        write_file(details, forecast_csv(bench))
    if as_json:
        print_json(document)
    else:
        click.echo(f"Forecasts of {folder.name}, {date}")
        print_rich(forecast_tables(bench))


def one_thread() -> None:
    """One thread for each process; numpy reads this when it is first imported."""
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A count on stderr: in a terminal one that moves, in a file a line for every tenth, with the time."""
    moves, began = sys.stderr.isatty(), time.monotonic()

    def done(count: int, total: int) -> None:
        if moves:
            click.echo(f"\r{title} {count:,}/{total:,}", nl=False, err=True)
        elif 10 * count // total > 10 * (count - 1) // total:
            click.echo(f"{title} {count:,}/{total:,} after {time.monotonic() - began:,.0f} s", err=True)

    yield done
    if moves:
        click.echo(err=True)


def write_file(file: Path, text: str) -> None:
    """Write a text where a person wants it, and say so on stderr."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None
    click.echo(f"Wrote {file}", err=True)
