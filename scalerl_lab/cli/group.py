"""How failures become messages and exit codes."""

from __future__ import annotations

from typing import Any

import click

from scalerl_lab.errors import LabError

INTERRUPTED = 130


class LabGroup(click.Group):
    """The outermost group: lab errors keep their exit code, Ctrl-C is 130 and says how to go on."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for; a known failure never shows a traceback."""
        try:
            return super().invoke(ctx)
        except LabError as error:
            click.echo(f"lab: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo(
                "\nlab: interrupted. Nothing measured is lost: the same command goes on where it stopped.",
                err=True,
            )
            ctx.exit(INTERRUPTED)
