"""``lab why``: the story of a run."""

from __future__ import annotations

import click

from scalerl_lab.cli.places import existing_store, print_json, print_rich


@click.command("why")
@click.argument("run")
@click.option(
    "--sweep", metavar="SWEEP", help="Only the decisions that this sweep took; all sweeps otherwise."
)
@click.option("--all", "every", is_flag=True, help="Tell each decision that let the run go on, too.")
@click.option("--no-plot", is_flag=True, help="Draw nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def why_command(run: str, sweep: str | None, every: bool, no_plot: bool, as_json: bool) -> None:
    """Tell the story of a run: when it started, and why it was continued, killed, extended or finished.

    RUN is an id, the start of one, or arm:seed. Each decision that changed something is told as its sentence
    with the numbers, what it rests on, and the forecast as it was then; those in between are told as one.

    JSON: a list of run_id, sweep_id, arm, seed, status, gpu_hours, granted_gpu_hours, budget_gpu_hours,
    demanded_probability, trials (trial, started_at, resumed_step, host, ended_at, end_reason,
    sandbox), orders that
    no decision tells of (order_id, run_id, kind, to_gpu_hours, by, why, at, settled_at, refused), decisions,
    all of them (decision_id, at, acted_at, step, gpu_hours, action, cause, by, reason, granted_gpu_hours,
    given_gpu_hours, saved_gpu_hours, evidence).
    """
    from scalerl_lab.report.why import why_json, why_text

    store = existing_store()
    if as_json:
        print_json(why_json(store, run, sweep))
    else:
        print_rich(*why_text(store, run, sweep, every=every, plots=not no_plot))
