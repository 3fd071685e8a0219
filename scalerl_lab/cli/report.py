"""``lab report``: what a sweep found."""

from __future__ import annotations

from pathlib import Path

import click

from scalerl_lab.cli.places import (
    existing_store,
    print_json,
    print_rich,
    resolve_sweep,
    resolve_sweep_or_run,
)
from scalerl_lab.errors import UserError


@click.group("report")
def report_commands() -> None:
    """What a sweep found, recomputed from its points."""


@report_commands.command("budget")
@click.argument("sweep", required=False)
@click.option("--price", type=click.FloatRange(min=0.0, min_open=True), help="Money per GPU-hour.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def budget_command(sweep: str | None, price: float | None, as_json: bool) -> None:
    """Say where the GPU-hours of SWEEP went: used, overhead, lost, saved, and what is free.

    JSON: sweep_id, name, cap_gpu_hours, free_gpu_hours, waiting_gpu_hours, overshoot_gpu_hours,
    price_per_gpu_hour; total, arms (by name) and runs (run_id, arm, seed, status, budget_gpu_hours), each
    with granted_gpu_hours, used_gpu_hours, held_gpu_hours, overhead_gpu_hours, lost_gpu_hours,
    promised_gpu_hours, saved_gpu_hours, cost.
    """
    from scalerl_lab.report.budget import budget_json, budget_table

    store = existing_store()
    sweep_id = resolve_sweep(store, sweep)
    ledger, name = store.budget(sweep_id, price), store.plan(sweep_id).sweep.name
    if as_json:
        print_json(budget_json(ledger, sweep_id, name))
    else:
        print_rich(budget_table(ledger, f"Sweep {name} ({sweep_id})"))


@report_commands.command("ceilings")
@click.argument("sweep", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.option("--csv", "as_csv", is_flag=True, help="One line per arm, with a header.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a self-contained page.",
)
def ceilings_command(sweep: str | None, as_json: bool, as_csv: bool, html: Path | None) -> None:
    """Say of each arm of SWEEP whether it raises or lowers the ceiling, is faster or slower.

    With 80 % intervals, the probability that the difference exceeds the margin, efficiency at the pooled
    ceiling, GPU-hours to a common level, and GPU-hours used and saved.

    JSON: sweep (sweep_id, name, profile, meter, flops_per_gpu_hour, fit_start_gpu_hours, margin,
    demanded_probability, pooled_ceiling, common_level); arms, each with arm, role, about, changes, seeds,
    run_ids, status, verdict, detail, identified, ceiling, difference, probability_below_margin,
    probability_above_margin, efficiency, efficiency_ceiling, efficiency_at_own_ceiling, midpoint_gpu_hours,
    pass_rate_at_budget (and _low80, _high80, _measured), gpu_hours_to_level (and _low80, _high80),
    budget_gpu_hours, used_gpu_hours, saved_gpu_hours, extended_gpu_hours; totals (runs, reused_runs,
    full_budget_gpu_hours, cap_gpu_hours, used_gpu_hours, billed_gpu_hours, lost_gpu_hours, saved_gpu_hours,
    extended_gpu_hours). An interval is median, low80, high80, low95, high95; in CSV it is five columns.
    """
    if as_json and as_csv:
        raise UserError("give --json or --csv, not both")
    from scalerl_lab.report.ceilings import ceilings
    from scalerl_lab.report.view import view

    store = existing_store()
    seen = view(store, resolve_sweep(store, sweep))
    found = ceilings(seen)
    if html is not None:
        from scalerl_lab.report.page import page

        try:
            html.write_text(page(seen, found), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {html}: {error.strerror}") from None
        click.echo(f"Wrote {html}", err=as_json or as_csv)
    if as_json:
        from scalerl_lab.report.export import ceilings_json

        print_json(ceilings_json(found))
    elif as_csv:
        from scalerl_lab.report.export import ceilings_csv

        click.echo(ceilings_csv(found), nl=False)
    elif html is None:
        from scalerl_lab.report.terminal import ceilings_table

        print_rich(ceilings_table(found))


@report_commands.command("boundary")
@click.argument("sweep_or_run", required=False)
@click.option(
    "--margin",
    type=click.FloatRange(0.0, 1.0),
    help="Gain of pass@k below which two are taken for equal; the sweep's own when absent.",
)
@click.option(
    "--probability",
    type=click.FloatRange(0.5, 1.0),
    help="Probability that a regime needs to be named; 0.8 when absent.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def boundary_command(
    sweep_or_run: str | None, margin: float | None, probability: float | None, as_json: bool
) -> None:
    """Say what training did to pass@k: diminishing, plateau or sustained, per set of problems and overall.

    SWEEP_OR_RUN is a sweep or a run (arm:seed); pass@k is recomputed from how often each problem passed.

    JSON: sweep_id, name, margin, demanded; rows, each with run_id, label, problems, num_problems,
    samples_per_prompt, ks, before, middle, after (step, gpu_hours, pass_rates: an interval for each k) and
    boundary (regime, diminishing, plateau, sustained, narrower: probabilities; first_gain, last_gain,
    late_gain: intervals); novelty, each with run_id, label, before and after (n-gram overlap), mean_tokens,
    entropy, truncation_rate; unmeasured. An interval is median, low80, high80, low95, high95.
    """
    from scalerl_lab.report.boundary import DEMANDED, boundary_json, boundary_report, boundary_table

    store = existing_store()
    sweep_id, only = resolve_sweep_or_run(store, sweep_or_run)
    sweep, states = store.plan(sweep_id).sweep, store.run_states(sweep_id, only)
    run_ids = [state.planned.run_id for state in states]
    report = boundary_report(
        sweep_id,
        sweep.name,
        states,
        store.pass_counts(run_ids),
        store.measurements(run_ids),
        margin=sweep.rule.margin if margin is None else margin,
        demanded=DEMANDED if probability is None else probability,
    )
    if as_json:
        print_json(boundary_json(report))
    else:
        print_rich(boundary_table(report))


@report_commands.command("transfer")
@click.argument("sweep_or_run", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def transfer_command(sweep_or_run: str | None, as_json: bool) -> None:
    """Say whether the gain on held-out prompts carries over to the downstream sets.

    SWEEP_OR_RUN is a sweep or a run (arm:seed). Gains with standard errors run by run, and their rank
    correlation over the arms.

    JSON: sweep_id, name; runs, each with run_id, arm, seed, from_step, to_step, gpu_hours, validation and
    downstream (by set), each of them before, after, gain, standard_error, probability_positive;
    agreements, each with problem_set, num_arms, correlation, interval (median, low80, high80, low95,
    high95); unmeasured.
    """
    from scalerl_lab.report.transfer import transfer, transfer_json, transfer_table

    store = existing_store()
    sweep_id, only = resolve_sweep_or_run(store, sweep_or_run)
    states = store.run_states(sweep_id, only)
    measured = store.measurements([state.planned.run_id for state in states])
    found = transfer(sweep_id, store.plan(sweep_id).sweep.name, states, measured)
    if as_json:
        print_json(transfer_json(found))
    else:
        print_rich(transfer_table(found))


@report_commands.command("domains")
@click.argument("sweep_or_run", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def domains_command(sweep_or_run: str | None, as_json: bool) -> None:
    """Show the held-out curve of each domain of mixed runs, and how much of a gain is format.

    SWEEP_OR_RUN is a sweep or a run (arm:seed).

    JSON: sweep_id, name; curves, each with run_id, arm, seed, domain, num_prompts and points (step,
    gpu_hours, pass_rate, standard_error, tolerant_pass_rate); unmeasured.
    """
    from scalerl_lab.report.domains import domains, domains_json, domains_table

    store = existing_store()
    sweep_id, only = resolve_sweep_or_run(store, sweep_or_run)
    states = store.run_states(sweep_id, only)
    measured = store.measurements([state.planned.run_id for state in states])
    found = domains(sweep_id, store.plan(sweep_id).sweep.name, states, measured)
    if as_json:
        print_json(domains_json(found))
    else:
        print_rich(domains_table(found))
