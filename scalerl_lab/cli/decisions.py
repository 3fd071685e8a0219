"""``lab decisions``: what was decided in a sweep."""

from __future__ import annotations

import click

from scalerl_lab.cli.places import existing_store, print_json, print_rich, resolve_sweep


@click.command("decisions")
@click.argument("sweep", required=False)
@click.option("--all", "every", is_flag=True, help="List decisions that let a run go on, too.")
@click.option("--run", metavar="RUN", help="Only those on this run: an id, the start of one, or arm:seed.")
@click.option("--action", metavar="ACTION", help="Only those that do this, such as kill or extend.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def decisions_command(
    sweep: str | None, every: bool, run: str | None, action: str | None, as_json: bool
) -> None:
    """List what was decided in SWEEP, in the order of time: kills, extensions, finishes and orders.

    Each with the GPU-hours at which it was taken, its cause, the probability it rests on, and the GPU-hours
    that it saved or gave. ``lab why RUN`` tells the whole story of a run.

    JSON: sweep_id, num_recorded, demanded_probability, saved_gpu_hours, given_gpu_hours, orders that no
    decision tells of, decisions, each with run_id, arm, seed, budget_gpu_hours; the other keys of both are
    those of ``lab why --json``.
    """
    from scalerl_lab.report.decisions import decision_list, decisions_json, decisions_table

    store = existing_store()
    found = decision_list(store, resolve_sweep(store, sweep), every=every, run=run, action=action)
    if as_json:
        print_json(decisions_json(found))
    else:
        print_rich(*decisions_table(found))
