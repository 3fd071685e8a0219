"""``lab sandbox``: whether model-written code can be run safely on this machine."""

from __future__ import annotations

import click


@click.group(name="sandbox")
def sandbox_commands() -> None:
    """Where model-written code runs."""


@sandbox_commands.command("check")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def check_command(as_json: bool) -> None:
    """Start a sandbox, look around in it, and say what it keeps out.

    Exit code 3, with how to mend it, where it does not work or leaves something open.
    """
    from dataclasses import asdict

    from scalerl_lab.cli.places import print_json
    from scalerl_lab.config.sandbox import Sandbox
    from scalerl_lab.tasks.sandbox import SandboxPool, look_around

    with SandboxPool(Sandbox()) as pool:  # refuses where anything is open
        isolation, cost = pool.isolation, pool.cost()
    findings = look_around()
    if as_json:
        print_json(
            {
                "isolation": isolation.kind.value,
                "own_user": isolation.own_user,
                "seccomp": isolation.seccomp,
                "workers": pool.workers,
                **{name: round(value, 1) for name, value in asdict(cost).items()},
                "holds": {finding.what: finding.holds for finding in findings},
            }
        )
        return
    click.echo(f"{isolation.kind.value} works here: {', '.join(finding.what for finding in findings)}.")
    click.echo("System calls are filtered." if isolation.seccomp else "No filter of system calls here.")
    click.echo(
        "Each sandbox runs as a user of its own."
        if isolation.own_user
        else "Programs run as the lab's user without capabilities, in a namespace of their own."
    )
    click.echo(
        f"A start takes {cost.cold_start_ms:.0f} ms. A solution waits {cost.warm_wait_ms:.0f} ms of it, "
        "as its sandbox is started before. "
        f"Where all {pool.workers} workers are busy, a solution takes {cost.solution_ms:.0f} ms."
    )
