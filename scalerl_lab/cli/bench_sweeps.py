"""``lab bench sweeps``, ``published`` and ``speed``: forecasts measured where the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scalerl_lab.cli.bench import one_thread, progress
from scalerl_lab.cli.places import print_json, print_rich

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalerl_lab.fit.curve import Curve
    from scalerl_lab.fit.prediction import CurveFit
    from scalerl_lab.report.bench.fitting import Fitters

KINDS = ("leave_one_out", "compare", "axis", "misfits")
"""The values of ``scalerl_lab.fit.simulate.SweepKind``, known here without importing numpy."""


@click.command("sweeps")
@click.option(
    "--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Repeatable; default: leave_one_out."
)
@click.option(
    "--runs",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Coverage over at least so many runs besides controls; 0: leave it out.",
)
@click.option(
    "--pooling-sweeps",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Gain of pooling over so many sweeps; 0: leave it out.",
)
@click.option(
    "--points",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Digitised points of the paper's figures: the gain on the published sweep too.",
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0.0, min_open=True),
    default=16_000.0,
    show_default=True,
    help="GPU-hours of each run.",
)
@click.option(
    "--fraction",
    "fractions",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    multiple=True,
    help="Of the budget, at which coverage is measured; repeatable; default: 0.2 to 1 in seven steps.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed, the same sweeps."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def sweeps_command(
    kinds: tuple[str, ...],
    runs: int,
    pooling_sweeps: int,
    points: Path | None,
    budget: float,
    fractions: tuple[float, ...],
    seed: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Measure coverage and the gain of pooling on simulated sweeps with published parameters.

    Coverage: of intervals of the ceiling, of the pass rate at the budget, and of the difference to the
    control, for runs fitted alone and with their siblings. Gain: CRPS of the later points of a run observed
    up to 1.5 midpoints, with siblings over alone. The same seed gives the same sweeps, whatever --jobs is.

    JSON: kinds, runs, pooling_sweeps, budget_gpu_hours, seed, bands; coverage, each with kind, pooling,
    fraction, quantity, runs, absent, identified, coverage, coverage90_se, width, mean_absolute_error, bias,
    worst_arm, worst_arm_coverage90; pooling, each with sweep, siblings, arm (null: all), runs, crps_alone,
    crps_pooled, ratio, ratio_se, coverage90_alone, coverage90_pooled.
    """
    one_thread()
    from scalerl_lab.fit.simulate import SweepKind
    from scalerl_lab.report.bench.coverage import FRACTIONS, measure_coverage
    from scalerl_lab.report.bench.digitised import leave_one_out_curves
    from scalerl_lab.report.bench.pooling import measure_pooling, measure_published_pooling
    from scalerl_lab.report.bench.tables import coverage_tables, gain_tables, sweeps_json

    published = () if points is None else leave_one_out_curves(str(points))
    fitters = _fitters()
    chosen = tuple(SweepKind(kind) for kind in kinds) or (SweepKind.LEAVE_ONE_OUT,)
    coverage, gains = [], []
    for kind in chosen if runs else ():
        with progress(f"{kind}: coverage") as done:
            coverage += measure_coverage(
                kind,
                fitters,
                runs=runs,
                budget_gpu_hours=budget,
                seed=seed,
                jobs=jobs,
                fractions=fractions or FRACTIONS,
                done=done,
            )
    for kind in chosen if pooling_sweeps else ():
        with progress(f"{kind}: pooling") as done:
            gains += measure_pooling(
                kind,
                fitters,
                sweeps=pooling_sweeps,
                budget_gpu_hours=budget,
                seed=seed,
                jobs=jobs,
                done=done,
            )
    if published:
        gains += measure_published_pooling(published, fitters)
    if as_json:
        asked = {
            "kinds": [kind.value for kind in chosen],
            "runs": runs,
            "pooling_sweeps": pooling_sweeps,
            "budget_gpu_hours": budget,
            "seed": seed,
        }
        print_json(sweeps_json(coverage, gains, **asked))
    else:
        print_rich(
            *([coverage_tables(coverage)] if coverage else []), *([gain_tables(gains)] if gains else [])
        )


@click.command("speed")
@click.option("--quick", is_flag=True, help="Fewer runs in the tables of growth, a batch of 100.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def speed_command(quick: bool, as_json: bool) -> None:
    """Measure seconds of fits on one core, beside the paper's grid of curve_fit on the same curve.

    JSON: times_faster; posterior, paper, batch, pooled, each with runs, points, seconds, ms_per_curve;
    by_points, by_runs, by_runs_together, lists of the same; decision_pass with runs, points, due, seconds,
    slowest.
    """
    one_thread()
    from scalerl_lab.report.bench.passes import time_pass
    from scalerl_lab.report.bench.speed import measure_speed
    from scalerl_lab.report.bench.tables import speed_json, speed_tables

    speed = measure_speed(_fitters(), quick=quick)
    decision_pass = time_pass(100 if quick else 1000, 200, 20)
    if as_json:
        print_json(speed_json(speed, decision_pass))
    else:
        print_rich(speed_tables(speed, decision_pass))


@click.command("published")
@click.argument("points", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--method", default="posterior", show_default=True, help="As for lab fit.")
@click.option(
    "--from",
    "fit_start",
    type=click.FloatRange(min=0.0),
    default=1500.0,
    show_default=True,
    help="GPU-hours from which points are fitted.",
)
@click.option(
    "--share",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Of the budget, up to which points are fitted.",
)
@click.option("--pool", is_flag=True, help="Fit the runs of a figure or table together, as siblings.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def published_command(
    points: Path, method: str, fit_start: float, share: float, pool: bool, as_json: bool
) -> None:
    """Forecast the published runs from the first half of their compute.

    POINTS is the file of the digitised points of ScaleRL's figures: leave-one-out runs, whose budget is
    16,000 GPU-hours, and forward ablations, whose budget is their last point. Runs without points in the
    fit or after it are left out.

    JSON: method, pool, fit_start_gpu_hours, share, bands; runs, each with study, run, axis, points, status,
    published_ceiling, ceiling, ceiling_error, score (curves, points, mae, crps, log_score, coverage, width,
    not_identified); means, each with study, runs, points, by_run (a score), coverage90_by_point,
    mean_absolute_error_by_point, identified, ceiling_off, largest_ceiling_error.
    """
    one_thread()
    if pool and method != "posterior":
        raise click.UsageError("--pool fits by --method posterior only")
    from scalerl_lab.fit import fit_siblings
    from scalerl_lab.fit.methods import fit_with
    from scalerl_lab.report.bench.published import measure_half_budget
    from scalerl_lab.report.bench.tables import half_budget_json, half_budget_tables

    def fit(curves: Sequence[Curve]) -> Sequence[CurveFit]:
        return fit_siblings(curves).fits if pool else [fit_with(method, curve) for curve in curves]

    found = measure_half_budget(str(points), fit, share=share, fit_start_gpu_hours=fit_start)
    if as_json:
        asked = {"method": method, "pool": pool, "fit_start_gpu_hours": fit_start, "share": share}
        print_json(half_budget_json(found, **asked))
    else:
        print_rich(half_budget_tables(found))


def _fitters() -> Fitters:
    from scalerl_lab.fit import fit_posterior, fit_siblings
    from scalerl_lab.report.bench.fitting import Fitters

    return Fitters(fit_posterior, fit_siblings)
