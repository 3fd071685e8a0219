"""``lab run``: orders to one run while its sweep is driven, or for when it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from scalerl_lab.cli.places import existing_store

if TYPE_CHECKING:
    from scalerl_lab.launch.ordering import Given

_DONE = {
    "kill": "{label} is being stopped; its checkpoint stays: lab run revive {label}",
    "extend": "{label} may use {to:,.6g} GPU-hours, pinned; the rule may stop it again after: lab run unpin",
    "revive": "{label} goes on from its checkpoint, pinned; the rule may stop it again after: lab run unpin",
    "pin": "{label} is pinned: the rule does not stop it before its grant is used.",
    "unpin": "{label} is the rule's again.",
    "pause": "Paused: trials go down to a checkpoint. To go on: lab sweep resume {label}",
    "resume": "Resumed: trials start again from their checkpoints.",
    "cancel": "Cancelled: every run that is not over is being stopped; what is measured stays.",
}


@click.group("run")
def run_commands() -> None:
    """Orders to a run: kill it, extend it, pin it, bring it back.

    RUN is an id, the start of one, or arm:seed. Orders work from any terminal, or any machine on the same
    database, within seconds; they are kept with who gave them and why, as lab why shows. Where no process
    drives the sweep, an order waits until it goes on by lab sweep run.
    """


def order_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every order to a run takes."""
    command = click.option("--sweep", metavar="SWEEP", help="The sweep, where several have such a run.")(
        command
    )
    return click.option("--why", required=True, metavar="TEXT", help="Why; kept with the decision.")(command)


@run_commands.command("kill")
@click.argument("run")
@order_options
def kill_command(run: str, why: str, sweep: str | None) -> None:
    """Stop RUN; its unused GPU-hours are free for others. Also stops a pinned run."""
    _order(run, "kill", why, sweep)


@run_commands.command("extend")
@click.argument("run")
@click.option(
    "--to",
    "to_gpu_hours",
    required=True,
    type=click.FloatRange(min=0.0, min_open=True),
    metavar="H",
    help="GPU-hours it may use in all.",
)
@click.option("--raise-cap", is_flag=True, help="Raise the sweep's cap by what is not free.")
@order_options
def extend_command(run: str, to_gpu_hours: float, raise_cap: bool, why: str, sweep: str | None) -> None:
    """Let RUN use H GPU-hours in all, pinned; one that is over goes on from its checkpoint."""
    _order(run, "extend", why, sweep, to_gpu_hours, raise_cap)


@run_commands.command("revive")
@click.argument("run")
@click.option("--raise-cap", is_flag=True, help="Raise the sweep's cap by what is not free.")
@order_options
def revive_command(run: str, raise_cap: bool, why: str, sweep: str | None) -> None:
    """Have RUN, which is over, go on from its checkpoint to its grant; it is pinned from then on."""
    _order(run, "revive", why, sweep, None, raise_cap)


@run_commands.command("pin")
@click.argument("run")
@order_options
def pin_command(run: str, why: str, sweep: str | None) -> None:
    """Keep the rule from stopping RUN; only numbers that are not finite still do."""
    _order(run, "pin", why, sweep)


@run_commands.command("unpin")
@click.argument("run")
@order_options
def unpin_command(run: str, why: str, sweep: str | None) -> None:
    """Let the rule decide on RUN again."""
    _order(run, "unpin", why, sweep)


def _order(
    run: str,
    kind: str,
    why: str,
    sweep: str | None,
    to_gpu_hours: float | None = None,
    raise_cap: bool = False,
) -> None:
    from scalerl_lab.launch.ordering import order_run
    from scalerl_lab.records import OrderKind

    given = order_run(
        existing_store(),
        run,
        OrderKind(kind),
        why,
        sweep=sweep,
        to_gpu_hours=to_gpu_hours,
        raise_cap=raise_cap,
    )
    say(given)


def say(given: Given) -> None:
    """Tell what became of an order."""
    order = given.order
    if given.raised_cap_to is not None:
        click.echo(f"The cap of sweep {order.sweep_id} rises to {given.raised_cap_to:,.6g} GPU-hours.")
    if given.settled:
        click.echo(_DONE[order.kind].format(label=given.label, to=order.to_gpu_hours or 0.0))
    elif given.driven:
        click.echo(
            f"The order to {order.kind} {given.label} is on record, but the driver of sweep "
            f"{order.sweep_id} has not answered yet; lab sweep status shows when it has."
        )
    else:
        click.echo(
            f"Nobody drives sweep {order.sweep_id} now. The order to {order.kind} {given.label} is kept, "
            "and is carried out when the sweep goes on: lab sweep run FILE"
        )
