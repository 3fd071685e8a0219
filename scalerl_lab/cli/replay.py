"""``lab replay`` and ``lab simulate``: runs on record, or drawn, under rules of stopping, on a fake clock."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scalerl_lab.cli.bench import one_thread, progress, write_file
from scalerl_lab.cli.bench_decide import KINDS
from scalerl_lab.cli.fit import Number
from scalerl_lab.cli.places import existing_store, print_json, print_rich
from scalerl_lab.cli.rules import HELP, LOOKS, contender_of
from scalerl_lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from scalerl_lab.decide.recorded import Recorded
    from scalerl_lab.report.replayed import ReplayReport


_QUIET_S = 2.0
"""A replay that takes longer tells how far it is."""


@click.command("replay")
@click.argument("what", metavar="FILE|SWEEP")
@click.option("--rule", "rules", multiple=True, metavar="RULE", help=HELP + " Default: forecast.")
@click.option("--slots", type=click.IntRange(min=1), help="Runs at a time; default: all, in lock-step.")
@click.option(
    "--budget",
    type=Number(0.0, above=True),
    metavar="H",
    help="GPU-hours for all runs together; default: the sweep's cap, or all budgets.",
)
@click.option("--run-budget", type=Number(0.0, above=True), metavar="H", help="FILE: GPU-hours of each run.")
@click.option("--run", multiple=True, metavar="COLUMN", help="FILE: column that names the run; repeatable.")
@click.option("--x", metavar="COLUMN", help="FILE: column of the compute, in any unit.")
@click.option("--y", metavar="COLUMN", help="FILE: column of the value.")
@click.option("--se", metavar="COLUMN", help="FILE: column of the value's standard error.")
@click.option("--arm", metavar="COLUMN", help="FILE: column of the arm that a run is a seed of.")
@click.option("--only", multiple=True, metavar="RUN", help="FILE: only this run, or a pattern; repeatable.")
@click.option(
    "--control", metavar="ARM", help="FILE: the arm that others are held against; default: none is."
)
@click.option("--from", "first", type=Number(0.0), default=0.0, metavar="C", help="FILE: fits begin here.")
@click.option("--bounds", nargs=2, type=Number(), metavar="LO HI", help="FILE: lowest and highest value.")
@click.option("--falling", is_flag=True, help="FILE: lower is better, as of a loss.")
@click.option("--every", type=click.FloatRange(0.0, 1.0, min_open=True), help=LOOKS)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Mixes the queue.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def replay_command(
    what: str,
    rules: tuple[str, ...],
    slots: int | None,
    budget: float | None,
    run_budget: float | None,
    run: tuple[str, ...],
    x: str | None,
    y: str | None,
    se: str | None,
    arm: str | None,
    only: tuple[str, ...],
    control: str | None,
    first: float,
    bounds: tuple[float, float] | None,
    falling: bool,
    every: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Replay the curves in FILE, or the runs of SWEEP, under rules of stopping, on a fake clock.

    FILE is a CSV with one row per point, columns guessed or named as for lab fit; a sweep of the store is
    named by its id, the start of one, or its name. Values lie between 0 and 1, or --bounds says between what.
    Nothing is written.

    \b
    lab replay points.csv --rule forecast --rule asha:eta=3 --slots 4
    lab replay loo_16k --rule forecast:margin=0.03

    JSON: source, unit (of compute), slots, budget_gpu_hours, seed; rules, each with rule, spent_gpu_hours,
    full_gpu_hours, saved, clock_gpu_hours, asked, chosen, runs (run, arm, seed, role, used_gpu_hours,
    granted_gpu_hours, last_value, true, killed, cause, fate), orders (clock_gpu_hours, spent_gpu_hours, run,
    gpu_hours, move, cause, reason), differences (to the control; of curves side by side, to the first) and
    forecasts by arm.
    """
    one_thread()
    if bounds is not None and not bounds[0] < bounds[1]:
        raise UserError(f"--bounds {bounds[0]:g} {bounds[1]:g}: the first has to be below the second")
    from scalerl_lab.report.replay_source import with_seed

    asked, unit = (run, x, y, se, arm), "GPU-hours"
    if Path(what).exists() or what == "-":
        from scalerl_lab.config.sweep import Rule
        from scalerl_lab.report.forecasts import Asked, choose, read_points
        from scalerl_lab.report.replay_source import FileQuestion, left_out_of_file, recorded_file, unit_of

        points = read_points(what, Asked(*asked))
        chosen = choose(points, only)
        question = FileQuestion(control, run_budget, first, bounds, falling, Rule())
        recorded, unit = recorded_file(points, chosen, question), unit_of(points)
        for note in (*points.notes, left_out_of_file(chosen)):
            if note is not None:
                click.echo(f"lab: {note}", err=True)
    else:
        recorded = _of_store(what, given=any((*asked, only, control, run_budget, bounds, falling, first)))
    reports = _replay(with_seed(recorded, seed), rules or ("forecast",), slots, budget, every, unit)
    asked_for = {"slots": slots, "budget_gpu_hours": budget, "seed": seed}
    _show(reports, None, as_json, source=what, unit=unit, **asked_for)


def _of_store(what: str, *, given: bool) -> Recorded:
    from scalerl_lab.errors import NotFound
    from scalerl_lab.report.replay_source import left_out, recorded_sweep

    if given:
        raise NotFound(f"no file {what}; of a sweep in the store only rules, slots and budget are asked for")
    if what.endswith((".csv", ".tsv", ".gz", ".txt")):
        raise NotFound(f"no file {what}")
    store = existing_store()
    sweep_id = store.find_sweep(what).sweep_id
    recorded = recorded_sweep(store, sweep_id)
    note = left_out(store, sweep_id, recorded)
    if note is not None:
        click.echo(f"lab: {note}", err=True)
    return recorded


@click.command("simulate")
@click.option("--kind", type=click.Choice(KINDS), default="worse_arms", show_default=True, help="Of sweep.")
@click.option("--rule", "rules", multiple=True, metavar="RULE", help=HELP + " Default: forecast.")
@click.option("--slots", type=click.IntRange(min=1), help="Runs at a time; default: all, in lock-step.")
@click.option("--budget", type=Number(0.0, above=True), metavar="H", help="GPU-hours for all runs together.")
@click.option(
    "--run-budget",
    type=Number(0.0, above=True),
    default=16_000.0,
    show_default=True,
    metavar="H",
    help="GPU-hours of each run.",
)
@click.option("--every", type=click.FloatRange(0.0, 1.0, min_open=True), help=LOOKS)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same, the same sweep."
)
@click.option(
    "--csv",
    "curves",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the whole curves there, for lab replay or lab fit.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def simulate_command(
    kind: str,
    rules: tuple[str, ...],
    slots: int | None,
    budget: float | None,
    run_budget: float,
    every: float | None,
    seed: int,
    curves: Path | None,
    as_json: bool,
) -> None:
    """Run a sweep whose truth is known under rules of stopping; its GPU-hours pass in seconds.

    Kinds: leave_one_out, compare and axis have the published parameters of ScaleRL; misfits has runs that
    follow no law; worse_arms is a leave-one-out sweep with eight tied arms, up to three worse ones and one
    that collapses; twelve_recipes is a comparison in which early leaders often end lower. Noise and the
    spread of seeds are the published ones. Many sweeps at once: lab bench decide.

    JSON: kind, seed, slots, budget_gpu_hours, run_gpu_hours; rules as for lab replay, with the truth of each
    run's arm: its ceiling, in comparisons its level at the budget.
    """
    one_thread()
    from scalerl_lab.config.sweep import Rule
    from scalerl_lab.fit.drawn import DrawnKind
    from scalerl_lab.fit.simulate import SweepKind
    from scalerl_lab.report.bench.decision_cases import SimulatedTask

    drawn = {each.value for each in DrawnKind}
    chosen = DrawnKind(kind) if kind in drawn else SweepKind(kind)
    case = SimulatedTask(chosen, seed, 0, run_budget, Rule()).case()
    if curves is not None:
        from scalerl_lab.report.replayed import curves_csv

        write_file(curves, curves_csv(case.recorded))
    reports = _replay(case.recorded, rules or ("forecast",), slots, budget, every)
    asked = {"slots": slots, "budget_gpu_hours": budget, "run_gpu_hours": run_budget}
    _show(reports, case.truth, as_json, kind=kind, seed=seed, **asked)


def _replay(
    recorded: Recorded,
    rules: Sequence[str],
    slots: int | None,
    budget: float | None,
    every: float | None,
    unit: str = "GPU-hours",
) -> Iterator[ReplayReport]:
    """Each rule's replay as soon as it is over; how far a long one is stands on stderr."""
    from scalerl_lab.decide.conclude import chosen_by_forecast, chosen_by_value, conclude
    from scalerl_lab.decide.policies import Forecast
    from scalerl_lab.decide.replay import replay
    from scalerl_lab.report.replayed import ReplayReport, Watched

    for contender in [contender_of(text, every=every) for text in rules]:
        policy = contender.make(recorded)
        rule = (policy.recorded if isinstance(policy, Forecast) else recorded).sweep.rule
        with progress(f"{contender.name}: points replayed") as done:
            watched = Watched(policy, recorded, _once_it_takes_long(done))
            found = replay(recorded, watched, slots=slots, cap_gpu_hours=budget)
            said = conclude(recorded, found)
        chosen = chosen_by_forecast(found, said) if contender.forecasts else chosen_by_value(found)
        yield ReplayReport(contender.name, recorded, found, said, chosen, rule, unit)


def _once_it_takes_long(done: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """A count that is silent at first: most replays are over before it says anything."""
    began = time.monotonic()

    def later(count: int, total: int) -> None:
        if time.monotonic() - began > _QUIET_S:
            done(count, total)

    return later


def _show(
    reports: Iterable[ReplayReport], truth: dict[str, float] | None, as_json: bool, **asked: object
) -> None:
    from scalerl_lab.report.replayed import replay_json, replay_table

    if as_json:
        print_json(replay_json(list(reports), truth, **asked))
        return
    for report in reports:
        print_rich(replay_table(report, truth))
