"""How a run's status in a sweep may change; every other change is refused."""

from __future__ import annotations

from scalerl_lab.errors import StoreError
from scalerl_lab.records import RunStatus

TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PLANNED: frozenset({RunStatus.RUNNING}),
    RunStatus.RUNNING: frozenset({RunStatus.FINISHED, RunStatus.KILLED, RunStatus.FAILED}),
    # Revived from its checkpoint, or extended beyond its first grant.
    RunStatus.FINISHED: frozenset({RunStatus.RUNNING}),
    RunStatus.KILLED: frozenset({RunStatus.RUNNING}),
    RunStatus.FAILED: frozenset({RunStatus.RUNNING}),
}
OVER = frozenset({RunStatus.FINISHED, RunStatus.KILLED, RunStatus.FAILED})


def check_transition(run_id: str, before: RunStatus, after: RunStatus) -> None:
    """Refuse a change of status that the table does not list.

    Raises:
        StoreError: ``after`` does not follow ``before``.
    """
    if after not in TRANSITIONS[before]:
        allowed = ", ".join(sorted(TRANSITIONS[before]))
        raise StoreError(f"run {run_id} is {before} and cannot become {after}; it can become {allowed}")
