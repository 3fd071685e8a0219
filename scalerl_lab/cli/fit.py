"""``lab fit``: learning curves of any file, fitted and forecast."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scalerl_lab.cli.bench import one_thread
from scalerl_lab.cli.places import print_json, print_rich
from scalerl_lab.errors import UserError

if TYPE_CHECKING:
    from scalerl_lab.report.forecasts import At

METHODS = (
    "posterior",
    "paper",
    "power_law",
    "last_value",
    "last_level",
    "least_squares",
    "log_linear",
)
"""The names of ``scalerl_lab.fit.METHODS``, known here without importing numpy."""


class Number(click.ParamType[float]):
    """A finite number, from a least one on; or above it where ``above``."""

    name = "number"

    def __init__(self, least: float | None = None, *, above: bool = False) -> None:
        self.least, self.above = least, above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number that a text says."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        low = self.least
        if not math.isfinite(number) or (low is not None and (number <= low if self.above else number < low)):
            wanted = "a number" if low is None else f"a number {'above' if self.above else 'from'} {low:g}"
            self.fail(f"found {value!r}, {wanted} is expected", param, ctx)
        return number


class Place(click.ParamType["str"]):
    """A compute, or a multiple of the last compute in the fit: ``16000``, ``1.6e4``, ``2x``."""

    name = "compute"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, once it is known to be a place."""
        try:
            number = float(str(value).removesuffix("x"))
        except ValueError:
            number = math.nan
        if not 0.0 < number < math.inf:
            self.fail(f"found {value!r}, a compute above 0 or a multiple such as 2x is expected", param, ctx)
        return str(value)


class Start(click.ParamType["float | str"]):
    """A value before training, or the word ``first``."""

    name = "value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """The number, or the word."""
        if value == "first":
            return "first"
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"found {value!r}, a number or the word first is expected", param, ctx)
        return number


@click.command("fit")
@click.argument("file", metavar="FILE")
@click.option(
    "--run",
    multiple=True,
    metavar="COLUMN",
    help="Column that names the run; repeat to join two. The word none: one run.",
)
@click.option("--x", metavar="COLUMN", help="Column of the compute, in any unit.")
@click.option(
    "--y",
    multiple=True,
    metavar="COLUMN",
    help="Column of the value, higher is better; repeated: each is a run of its own.",
)
@click.option(
    "--se", metavar="COLUMN", help="Column of the value's standard error. The word none: there is none."
)
@click.option(
    "--arm",
    metavar="COLUMN",
    help="Column of the arm that a run is a seed of; with --pool, or --method paper --versus RUN.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="RUN",
    help="Only this run, or those that match a pattern (td3_*); repeatable.",
)
@click.option(
    "--from", "first", type=Number(0.0), metavar="C", help="Leave points at smaller computes out of the fit."
)
@click.option(
    "--until",
    "last",
    type=Number(0.0, above=True),
    metavar="C",
    help="Hold out points at larger computes and score the forecast of them.",
)
@click.option(
    "--at",
    multiple=True,
    type=Place(),
    metavar="C",
    help="Forecast at this compute, or 2x: at twice the last one in the fit; repeatable.",
)
@click.option(
    "--r0",
    type=Start(),
    metavar="VALUE",
    help="Value before training, or first: that of a run's first point.",
)
@click.option(
    "--r0-se",
    type=Number(0.0),
    metavar="SE",
    help="Standard error of --r0; without it the value is held exactly.",
)
@click.option(
    "--bounds",
    nargs=2,
    type=Number(),
    metavar="LO HI",
    help="Lowest and highest value there can be (default: 0 1 where a run's values lie there, else none).",
)
@click.option("--unbounded", is_flag=True, help="No bounds, even where all values lie between 0 and 1.")
@click.option(
    "--method", type=click.Choice(METHODS), default="posterior", show_default=True, help="How to fit."
)
@click.option("--pool", is_flag=True, help="The runs are siblings of one sweep: fit them together.")
@click.option(
    "--versus",
    metavar="RUN",
    help="Compare all runs with this one: with --pool by the joint posterior, with --method paper its way.",
)
@click.option("--level", type=Number(), metavar="VALUE", help="At which compute does a run reach this value?")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.option("--csv", "as_csv", is_flag=True, help="One line per run and forecast, with a header.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw curves, bands and points held out, as .png, .svg or .pdf.",
)
def fit_command(
    file: str,
    run: tuple[str, ...],
    x: str | None,
    y: tuple[str, ...],
    se: str | None,
    arm: str | None,
    only: tuple[str, ...],
    first: float | None,
    last: float | None,
    at: tuple[str, ...],
    r0: float | str | None,
    r0_se: float | None,
    bounds: tuple[float, float] | None,
    unbounded: bool,
    method: str,
    pool: bool,
    versus: str | None,
    level: float | None,
    as_json: bool,
    as_csv: bool,
    plot: Path | None,
) -> None:
    """Fit the learning curves in FILE and forecast them.

    FILE is a CSV with one row per point (also tab- or semicolon-divided, gzipped, - for standard input):
    columns for compute and value, and where there are several runs, one that names the run. Columns are
    guessed by their names; what was guessed is printed. Compute may be in any unit. A point at compute 0
    is the value before training.

    \b
    lab fit points.csv --until 8000 --plot curves.png      forecast what is known already
    lab fit points.csv --at 16000 --at 32000 --json        for a program
    lab fit sweep.csv --pool                               runs that share model, data and noise
    lab fit sweep.csv --pool --versus control --level 0.6  each run against one of them
    lab fit sweep.csv --method paper --versus control      the same as the ScaleRL paper does it

    JSON: a list with, for each run in the file's order, run, status (identified, not_identified,
    too_few_points), shape (law, flat, linear, two_phase, collapsing, late_blooming, wandering, or null where
    the method does not tell), why, method, n_points, bounds, r0, asymptote, efficiency and midpoint (each
    median, lo80, hi80, lo95, hi95, or null), residual_sd, predictions (each compute, median, lo50, hi50,
    lo80, hi80, lo90, hi90, lo95, hi95: of a new measured point), predictions_mean (the same of the curve
    itself) and held_out (n_points, first_compute, last_compute, mean_absolute_error, crps, covered50,
    covered80, covered90, covered95, or null), compute_to_level (null without --level; level, median, lo80,
    hi80, lo95, hi95: null where the curve never gets there) and versus (null without --versus; run,
    asymptote, efficiency with the asymptote at which it is compared, values, compute_to_level_ratio, each
    with probability_above or probability_sooner, and crossing with from, until, probability,
    probability_ahead and probability_behind; with --method paper run, asymptote, margin, replicates,
    common_asymptote, efficiency and other_efficiency). Where a method gives a number without an interval, lo
    and hi equal the median. In CSV the curve's own bands are the columns mean_median, mean_lo50 and so on.
    """
    one_thread()
    if as_json and as_csv:
        raise UserError("give --json or --csv, not both")
    if first is not None and last is not None and not first < last:
        raise UserError(f"--from {first:g} is not below --until {last:g}")
    if bounds is not None and unbounded:
        raise UserError("give --bounds or --unbounded, not both")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise UserError(f"--bounds {bounds[0]:g} {bounds[1]:g}: the first has to be below the second")
    if arm is not None and not pool and not (method == "paper" and versus is not None):
        raise UserError(
            "--arm says which runs are seeds of one arm; that counts with --pool, or with --method paper "
            "--versus RUN: give one of these too"
        )
    if r0_se is not None and not isinstance(r0, float):
        raise UserError("--r0-se is the standard error of a number given by --r0; give that too")
    from scalerl_lab.report.forecasts import Asked, Question, check_format, choose, fit_runs, read_points

    if plot is not None:
        check_format(plot)
    # One column of values, or as many runs as columns.
    one, wide = (y[0] if y else None, ()) if len(y) < 2 else (None, y)
    points = read_points(file, Asked(run, x, one, se, arm, wide))
    for note in points.notes:
        click.echo(f"lab: {note}", err=True)
    question = Question(
        method=method,
        first=first,
        last=last,
        at=tuple(_place(text) for text in at),
        r0=r0 if isinstance(r0, float) else None,
        r0_first=r0 == "first",
        r0_se=r0_se or 0.0,
        bounds=bounds,
        unbounded=unbounded,
        pool=pool,
        versus=versus,
        level=level,
    )
    fitted, notes = fit_runs(points, choose(points, only), question)
    if as_json:
        from scalerl_lab.report.forecasts import fits_json

        print_json(fits_json(fitted))
    elif as_csv:
        from scalerl_lab.report.forecasts import fits_csv

        click.echo(fits_csv(fitted), nl=False)
    else:
        from scalerl_lab.report.forecasts import fits_table

        print_rich(fits_table(points, fitted, question))
    for note in notes:
        click.echo(f"lab: {note}", err=True)
    if plot is not None:
        from scalerl_lab.report.forecasts import write_plot

        left_out = write_plot(plot, points, fitted)
        click.echo(f"Wrote {plot}", err=as_json or as_csv)
        if left_out is not None:
            click.echo(f"lab: {left_out}", err=True)


def _place(text: str) -> At:
    from scalerl_lab.report.forecasts import At

    return At(float(text.removesuffix("x")), relative=text.endswith("x"))
