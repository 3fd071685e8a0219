"""How failures become messages and exit codes."""

from __future__ import annotations

from typing import IO, Any

import click

from scalerl_lab.errors import LabError


class Failure(click.ClickException):
    """A known failure: its message on stderr after ``lab:``, and its own exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message; no traceback."""
        click.echo(f"lab: {self.format_message()}", file=file, err=file is None)


class LabGroup(click.Group):
    """The outermost group: lab errors keep their exit code, Ctrl-C is 130 and says how to go on."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except LabError as error:
            raise Failure(str(error), error.exit_code) from None
        except KeyboardInterrupt:
            raise Failure(
                "interrupted. Nothing measured is lost: the same command goes on from the checkpoints.",
                130,
            ) from None
