"""``lab why``: the decisions of a run."""

from __future__ import annotations

import click

from scalerl_lab.cli.places import existing_store, print_json, print_rich


@click.command("why")
@click.argument("run")
@click.option(
    "--sweep", metavar="SWEEP", help="Only the decisions that this sweep took; all sweeps otherwise."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def why_command(run: str, sweep: str | None, as_json: bool) -> None:
    """Say why a run was continued, killed, extended or finished.

    RUN is an id, the start of one, or arm:seed. Each decision is told as its sentence with the numbers,
    followed by the forecast it rests on.

    JSON: a list of run_id, sweep_id, arm, seed, status, gpu_hours, granted_gpu_hours, decisions
    (decision_id, at, acted_at, step, gpu_hours, action, cause, reason, granted_gpu_hours, evidence).
    """
    from scalerl_lab.report.why import why_json, why_text

    store = existing_store()
    if as_json:
        print_json(why_json(store, run, sweep))
    else:
        print_rich(*why_text(store, run, sweep))
