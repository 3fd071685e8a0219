"""Every failure that a caller may catch, and the exit code that the CLI gives it.

    LabError                      1   something the lab knows about went wrong
    |-- UserError                 2   what a person wrote or asked for is wrong; nothing was created
    |   |-- ConfigError               a YAML file: names the file, the line and the key path
    |   |-- DataError                 a file of points or prompts: names file, line and column
    |   |-- NotFound                  no such recipe, sweep, run or profile
    |   `-- NotSupported              well-formed, but this version cannot execute it
    |-- ResourceError             3   the machine or cluster lacks what the recipe needs
    |-- BudgetError               3   the ledger does not cover what was asked for
    |-- StoreError                4   the database cannot be reached, or is of another version
    |-- LockHeld                  4   another process drives this sweep, or holds this run's folder
    `-- RunFailed                 1   a run ended by a failure of its own
        `-- CheckpointError           a checkpoint is missing, incomplete or of another run

A known failure is printed as its message, without a traceback. Every message says what was given,
what is allowed, and what to do.
"""

from __future__ import annotations


class LabError(Exception):
    """Base of all failures the lab knows about."""

    exit_code = 1


class UserError(LabError):
    """What a person wrote or asked for is wrong; nothing was created."""

    exit_code = 2


class ConfigError(UserError):
    """A YAML file says something that is not allowed; the message names file, line and key path."""


class DataError(UserError):
    """A file of points or prompts cannot be used; the message names file, line, column, what is allowed."""


class NotFound(UserError):
    """No such recipe, sweep, run or profile; the message names the nearest one."""


class NotSupported(UserError):
    """The request is well-formed, but this version has no engine that can execute it."""


class ResourceError(LabError):
    """The machine or cluster lacks what the recipe needs; the message names both."""

    exit_code = 3


class BudgetError(LabError):
    """The ledger does not cover what was asked for."""

    exit_code = 3


class StoreError(LabError):
    """The database cannot be reached, or its schema is of another version."""

    exit_code = 4


class LockHeld(LabError):
    """Another process drives this sweep, or holds this run's folder."""

    exit_code = 4


class RunFailed(LabError):
    """A run ended by a failure of its own."""


class CheckpointError(RunFailed):
    """A checkpoint is missing, incomplete, or belongs to another run."""
