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
    import time

    from scalerl_lab.cli.places import print_json
    from scalerl_lab.config.sandbox import Sandbox
    from scalerl_lab.errors import ResourceError
    from scalerl_lab.tasks.sandbox import Job, Program, SandboxPool, look_around

    findings = look_around()
    lacking = [finding.what for finding in findings if not finding.holds]
    if lacking:
        raise ResourceError(f"the sandbox works but does not keep this: {', '.join(lacking)}")
    num_solutions = 20
    with SandboxPool(Sandbox()) as pool:
        jobs = [Job([Program("print(1)")])] * num_solutions
        list(pool.map(jobs[: 2 * pool.workers]))
        started = time.monotonic()
        list(pool.map(jobs))
        solution_ms = (time.monotonic() - started) / num_solutions * 1000
        isolation = pool.isolation
    if as_json:
        print_json(
            {
                "isolation": isolation.kind.value,
                "own_user": isolation.own_user,
                "seccomp": isolation.seccomp,
                "workers": pool.workers,
                "ms_per_solution": round(solution_ms, 1),
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
    click.echo(f"{solution_ms:.0f} ms a solution with {pool.workers} workers, each in a sandbox of its own.")
