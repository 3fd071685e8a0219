"""``lab doctor``: what this machine, or a cluster, has of what the lab needs."""

from __future__ import annotations

import click


@click.command("doctor")
@click.option(
    "--address",
    default="local",
    show_default=True,
    help="Of Ray: local starts one and ends it; auto or host:port joins a cluster and asks every node.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
def doctor_command(context: click.Context, address: str, as_json: bool) -> None:
    """Look at Python, torch, disk, database, MLflow, sandbox, verifiers and Ray, and say how to mend each.

    Exit code 3 where something is broken: no sweep runs before it is mended. What is lacking keeps only some
    sweeps from running.

    JSON: examined, each with what, health (good, lacking or broken), found, mend.
    """
    from dataclasses import asdict

    from scalerl_lab.cli.places import print_json
    from scalerl_lab.launch.doctor import Health, examine
    from scalerl_lab.launch.home import Home

    seen = []
    for each in examine(Home.from_environment(create=False), address):
        seen.append(each)
        if not as_json:
            click.echo(f"{each.health.value:8} {each.what}: {each.found}")
            if each.mend:
                click.echo(f"{'':8} mend it: {each.mend}")
    if as_json:
        print_json({"examined": [asdict(each) for each in seen]})
    broken = sum(each.health is Health.BROKEN for each in seen)
    if not as_json:
        lacking = sum(each.health is Health.LACKING for each in seen)
        click.echo(f"{len(seen)} looked at: {broken} broken, {lacking} lacking.")
    if broken:
        context.exit(3)
