"""``lab sweep``: plan, run, list, status, pause, resume, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scalerl_lab.cli.places import existing_store, print_json, print_rich, resolve_sweep
from scalerl_lab.cli.run import say
from scalerl_lab.errors import RunFailed

if TYPE_CHECKING:
    from scalerl_lab.launch.sweep_run import Outcome
    from scalerl_lab.plan import SweepPlan
    from scalerl_lab.report.power import PowerAsked, Seen


@click.group("sweep")
def sweep_commands() -> None:
    """A question over recipes: plan it, run it, see where it stands."""


@sweep_commands.command("plan")
@click.argument("file")
@click.option("--profile", metavar="NAME", help="Profile to plan for; laptop where no GPU is visible.")
@click.option("--price", type=click.FloatRange(min=0.0, min_open=True), help="Money per GPU-hour.")
@click.option(
    "--power", is_flag=True, help="Simulate what seeds and budget would see; takes --power-seconds."
)
@click.option(
    "--difference",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    help="With --power: that is to be seen, in the rule's quantity; default: twice the rule's margin.",
)
@click.option(
    "--midpoint",
    type=click.FloatRange(0.0, min_open=True),
    metavar="H",
    help="With --power: GPU-hours to half of the gain; default: the published 2,542.",
)
@click.option(
    "--power-seconds",
    type=click.FloatRange(0.0, 86_400.0),
    default=90.0,
    show_default=True,
    help="With --power: simulate so long.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def plan_command(
    file: str,
    profile: str | None,
    price: float | None,
    power: bool,
    difference: float | None,
    midpoint: float | None,
    power_seconds: float,
    as_json: bool,
) -> None:
    """Print what FILE would run and what it costs; nothing is started or created.

    FILE is a sweep's YAML, or the name of a shipped one. With --power, sweeps with these seeds and budgets,
    and with some more and fewer, are simulated and fitted: how often the rule sees a difference, at what
    price. It sees one that is larger than its margin with the probability that an answer needs.

    JSON: sweep_id, name, profile, meter, flops_per_gpu_hour, total_gpu_hours, sweep_gpu_hours,
    price_per_gpu_hour, cost, arms (arm, role, about, changes, seeds, run_ids, gpu_hours, cost), runs (run_id,
    arm, seed, budget_gpu_hours, order); with --power power: difference, margin, certainty,
    quantity, reference, seconds, seed, midpoint_gpu_hours, enough_gpu_hours, answer, designs (control_seeds,
    arm_seeds, run_gpu_hours, gpu_hours, sweeps, interval95_half_width, power, seen, false_alarms,
    visible_difference).
    """
    if power:
        from scalerl_lab.cli.bench import one_thread

        one_thread()
    from scalerl_lab.plan import plan_file
    from scalerl_lab.report.plan_table import plan_json, plan_lines, plan_table

    headline = []
    if profile is None:
        visible = _gpu_visible()
        profile = "cluster" if visible else "laptop"
        headline.append(
            f"{'A GPU is' if visible else 'No GPU is'} visible here: planned for profile {profile}."
        )
    plan = plan_file(file, profile)
    price = price if price is not None else plan.sweep.price_per_gpu_hour
    if as_json:
        from scalerl_lab.report.power_table import power_json

        found = {"power": power_json(*_power(plan, difference, midpoint, power_seconds))} if power else {}
        print_json({**plan_json(plan, price), **found})
        return
    for line in [*headline, *plan_lines(plan)]:
        click.echo(line)
    print_rich(plan_table(plan, price))
    if power:
        from scalerl_lab.report.power_table import power_tables

        print_rich(power_tables(*_power(plan, difference, midpoint, power_seconds), price))


def _power(
    plan: SweepPlan, difference: float | None, midpoint: float | None, seconds: float
) -> tuple[list[Seen], PowerAsked]:
    from scalerl_lab.cli.bench import progress
    from scalerl_lab.fit.published import LEAVE_ONE_OUT
    from scalerl_lab.report.power import PowerAsked, measure_power

    rule = plan.sweep.rule
    asked = PowerAsked(
        rule,
        2.0 * rule.margin or 0.02 if difference is None else difference,
        seconds,
        midpoint_gpu_hours=LEAVE_ONE_OUT[0].C_mid if midpoint is None else midpoint,
    )
    with progress("seconds of simulation") as done:
        return measure_power(plan, asked, done=done), asked


@sweep_commands.command("run")
@click.argument("file")
@click.option(
    "--profile", metavar="NAME", help="Profile to run under; without it, laptop where Ray sees no GPU."
)
@click.option(
    "--address", metavar="ADDR", help="Ray to join (auto or host:port); implies the profile cluster."
)
def run_command(file: str, profile: str | None, address: str | None) -> None:
    """Run FILE, or go on with it, until every run has its verdict.

    What was run before with the same identity is reused. Interrupted at any moment, the same command
    goes on from the checkpoints. Exits with 1 when a run failed for good.
    """
    from scalerl_lab.launch.sweep_run import run_sweep
    from scalerl_lab.plugins.search import propose
    from scalerl_lab.report.fit_plot import fit_plot_png
    from scalerl_lab.report.progress import ProgressConsole

    with ProgressConsole() as console:
        outcome = run_sweep(
            file, profile, address=address, watcher=console, plot=fit_plot_png, proposer=propose
        )
    _print_ceilings(outcome.sweep_id)
    _print_budget(outcome.sweep_id)
    _say_what_is_left(outcome)


@sweep_commands.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def list_command(as_json: bool) -> None:
    """List the sweeps on record, newest first.

    JSON: a list of sweep_id, name, profile, created_at, num_runs, statuses.
    """
    from scalerl_lab.report.status import sweeps_json, sweeps_table

    rows = sorted(existing_store().sweeps(), key=lambda row: row.created_at, reverse=True)
    if as_json:
        print_json(sweeps_json(rows))
    else:
        print_rich(sweeps_table(rows))


@sweep_commands.command("status")
@click.argument("sweep", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def status_command(sweep: str | None, as_json: bool) -> None:
    """Show where each run of SWEEP stands, from what is on record.

    JSON: sweep_id, name, profile, used_gpu_hours, cap_gpu_hours, billed_gpu_hours, lost_gpu_hours,
    saved_gpu_hours, free_gpu_hours, paused, waiting_orders, runs (run_id, arm, seed, role, status, reused,
    gpu_hours, granted_gpu_hours, budget_gpu_hours, trials, failures, num_points, pass_rate, ceiling,
    identified, pinned, last_decision).
    """
    from scalerl_lab.report.status import status_json, status_table

    store = existing_store()
    sweep_id = resolve_sweep(store, sweep)
    if as_json:
        print_json(status_json(store, sweep_id))
    else:
        print_rich(status_table(store, sweep_id))


def _order_command(kind: str, about: str) -> None:
    @sweep_commands.command(kind, help=about)
    @click.argument("sweep", required=False)
    @click.option("--why", required=True, metavar="TEXT", help="Why; kept with the order.")
    def command(sweep: str | None, why: str) -> None:
        from scalerl_lab.launch.ordering import order_sweep
        from scalerl_lab.records import OrderKind

        store = existing_store()
        say(order_sweep(store, resolve_sweep(store, sweep), OrderKind(kind), why))


_order_command("pause", "Start nothing more of SWEEP, and take what is at work down to a checkpoint.")
_order_command("resume", "Have a paused SWEEP go on from its checkpoints.")
_order_command("cancel", "Kill every run of SWEEP that is not over; what is measured stays.")


def _gpu_visible() -> bool:
    """Whether the NVIDIA driver shows a device; Ray is not asked."""
    from pathlib import Path

    gpus = Path("/proc/driver/nvidia/gpus")
    return gpus.is_dir() and any(gpus.iterdir())


def _print_ceilings(sweep_id: str) -> None:
    from scalerl_lab.report.ceilings import ceilings
    from scalerl_lab.report.terminal import ceilings_table
    from scalerl_lab.report.view import view

    print_rich(ceilings_table(ceilings(view(existing_store(), sweep_id))))


def _print_budget(sweep_id: str) -> None:
    from scalerl_lab.report.budget import budget_line

    click.echo(f"\nBudget: {budget_line(existing_store().budget(sweep_id))}")


def _say_what_is_left(outcome: Outcome) -> None:
    click.echo(
        f"\nPage: lab report ceilings {outcome.sweep_id} --html ceilings.html    Curves in MLflow: lab ui"
    )
    if outcome.unfunded:
        runs = ", ".join(f"{run.planned.arm}:{run.planned.spec.seed}" for run in outcome.unfunded)
        click.echo(f"Not started, as the sweep's budget does not cover them: {runs}")
    if outcome.mirror_behind:
        click.echo("MLflow still lacks some of it; the same command sends the rest.")
    if outcome.failed:
        runs = ", ".join(f"{run.planned.arm}:{run.planned.spec.seed}" for run in outcome.failed)
        raise RunFailed(f"failed for good: {runs}. See: lab why {outcome.failed[0].planned.run_id}")
