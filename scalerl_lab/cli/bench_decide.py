"""``lab bench decide``: rules of stopping measured on sweeps whose outcome is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scalerl_lab.cli.bench import one_thread, progress, write_file
from scalerl_lab.cli.places import print_json, print_rich
from scalerl_lab.cli.rules import HELP, contenders_of

if TYPE_CHECKING:
    from scalerl_lab.report.bench.decision_cases import Case, SimulatedTask

KINDS = ("leave_one_out", "compare", "axis", "misfits", "worse_arms", "twelve_recipes")
"""The values of ``SweepKind`` and ``DrawnKind``, known here without importing numpy."""
RULES = ("forecast", "none", "asha", "hyperband", "median", "last_value", "paper_point", "top_k")


@click.command("decide")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    help="Simulated sweeps; repeatable; default: worse_arms and twelve_recipes, unless real ones are given.",
)
@click.option("--sweeps", type=click.IntRange(min=1), default=20, show_default=True, help="Of each kind.")
@click.option(
    "--curves",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Real curves with their index: every task with eight runs or more is a sweep.",
)
@click.option(
    "--source", "sources", multiple=True, metavar="NAME", help="Only this source of DIR; repeatable."
)
@click.option(
    "--points",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Digitised points of the paper's figures: the published leave-one-out runs.",
)
@click.option(
    "--rule", "rules", multiple=True, metavar="RULE", help=HELP + " Without settings: all of a grid."
)
@click.option(
    "--share",
    "shares",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    multiple=True,
    help="Cap, as a share of all budgets; repeatable; default: none.",
)
@click.option("--slots", type=click.IntRange(min=1), help="Runs at a time; default: all, in lock-step.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0.0, min_open=True),
    default=16_000.0,
    show_default=True,
    help="GPU-hours of each simulated run.",
)
@click.option(
    "--every",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    default=0.05,
    show_default=True,
    help="Share of a run's budget from one look by the forecast to the next; a sweep has 0.05.",
)
@click.option("--differences/--no-differences", default=True, help="Report differences: a fit per replay.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed, the same sweeps."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="FILE", help="Write that document there too."
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw savings against false kills and regret, as .png, .svg or .pdf.",
)
def decide_command(
    kinds: tuple[str, ...],
    sweeps: int,
    curves: Path | None,
    sources: tuple[str, ...],
    points: Path | None,
    rules: tuple[str, ...],
    shares: tuple[float, ...],
    slots: int | None,
    budget: float,
    every: float,
    differences: bool,
    seed: int,
    jobs: int,
    as_json: bool,
    save: Path | None,
    plot: Path | None,
) -> None:
    """Replay sweeps whose outcome is known under rules of stopping, and count what was saved and what lost.

    Every run's record is delivered on a fake clock to the lab's own rule, to simple rules, and to the
    code of Ray Tune's and Optuna's. The lab's rule is compared with the others at equal GPU-hours and at
    equal regret. The numbers do not depend on --jobs, milliseconds do.

    \b
    lab bench decide --sweeps 500 --jobs 2 --plot decide.png
    lab bench decide --curves DIR --source taskset --share 0.05 --share 0.25
    lab bench decide --points digitised_points.csv --rule forecast --rule none

    JSON: kinds, sweeps, curves, points, rules, shares, slots, budget_gpu_hours, every, seed; rows, each with
    kind, budget_share, contender, family, sweeps, spent, tied, tied_killed, false_kills, worse,
    worse_killed, kills, killed_at, missed_gpu_hours, collapsed, collapses_stopped, stopped_after,
    stopped_within_tenth, regret, differences, difference_error, difference_bias, covered95, moved, asked,
    mean_ms, slowest_ms (means have value and se); equal_cost, each with kind, budget_share, contender,
    family, measure, own, own_spent, at_equal_spent, spent_at_equal.
    """
    one_thread()
    from scalerl_lab.report.bench.decision_rows import at_equal_cost, decision_rows
    from scalerl_lab.report.bench.decision_tables import (
        decision_tables,
        decisions_json,
        write_decision_plot,
    )
    from scalerl_lab.report.bench.decisions import Terms, measure_decisions
    from scalerl_lab.report.forecasts import check_format

    if plot is not None:
        check_format(plot)
    contenders = contenders_of(rules or RULES, every=every)
    tasks = _tasks(kinds, sweeps, curves, sources, points, budget, seed)
    terms = Terms(slots, tuple(sorted(set(shares))), differences)
    with progress("sweeps") as done:
        found = measure_decisions(tasks, contenders, terms, jobs=jobs, done=done)
    rows = decision_rows(found)
    equal = at_equal_cost(rows)
    document = decisions_json(
        rows,
        equal,
        kinds=list(dict.fromkeys(row.kind for row in rows)),
        sweeps=sweeps,
        curves=None if curves is None else curves.name,
        points=None if points is None else points.name,
        rules=[contender.name for contender in contenders],
        shares=list(terms.budget_shares),
        slots=slots,
        budget_gpu_hours=budget,
        every=every,
        seed=seed,
    )
    if save is not None:
        import json

        write_file(save, json.dumps(document, indent=2, allow_nan=False) + "\n")
    if as_json:
        print_json(document)
    else:
        print_rich(decision_tables(rows, equal))
    if plot is not None:
        write_decision_plot(plot, rows)
        click.echo(f"Wrote {plot}", err=True)


def _tasks(
    kinds: tuple[str, ...],
    sweeps: int,
    curves: Path | None,
    sources: tuple[str, ...],
    points: Path | None,
    budget: float,
    seed: int,
) -> list[Case | SimulatedTask]:
    from scalerl_lab.config.sweep import Rule
    from scalerl_lab.errors import NotFound
    from scalerl_lab.fit.drawn import DrawnKind
    from scalerl_lab.fit.simulate import SweepKind
    from scalerl_lab.report.bench.decision_cases import SimulatedTask, folder_cases, published_case
    from scalerl_lab.report.bench.folder import read_folder

    if not kinds and curves is None and points is None:
        kinds = (DrawnKind.WORSE_ARMS.value, DrawnKind.TWELVE_RECIPES.value)
    drawn = {kind.value for kind in DrawnKind}
    tasks: list[Case | SimulatedTask] = [
        SimulatedTask(DrawnKind(kind) if kind in drawn else SweepKind(kind), seed, number, budget, Rule())
        for kind in kinds
        for number in range(sweeps)
    ]
    if points is not None:
        tasks.append(published_case(str(points), Rule()))
    if curves is not None:
        cases = folder_cases(curves, read_folder(curves), Rule())
        there = list(dict.fromkeys(case.kind for case in cases))
        for source in sources:
            if source not in there:
                raise NotFound(f"no sweeps of source {source!r} in {curves}; there are: {', '.join(there)}")
        tasks += [case for case in cases if not sources or case.kind in sources]
    return tasks
