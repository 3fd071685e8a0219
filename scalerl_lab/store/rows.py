"""What the store answers with, where a record of the lab alone does not say enough."""

from __future__ import annotations

from dataclasses import dataclass

from scalerl_lab.records import Decision, LedgerEntry, RunStatus, TrialEnded, TrialStarted


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A sweep in the list of sweeps."""

    sweep_id: str
    name: str
    profile_name: str
    created_at: float
    num_runs: int
    statuses: dict[RunStatus, int]
    """How many of its runs stand where."""


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One attempt to execute a run."""

    started: TrialStarted
    ended: TrialEnded | None
    """None while it lives, and for ever when it was killed from outside."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """GPU-hours held by a run of a sweep."""

    run_id: str
    arm: str
    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision on record."""

    decision_id: int
    sweep_id: str
    at: float
    decision: Decision
    acted_at: float | None
    """When it had been carried out; at once for one that asks for nothing."""


@dataclass(frozen=True, slots=True)
class BudgetView:
    """A sweep's compute, in GPU-hours."""

    cap: float
    """What all runs together may use, extensions included."""
    used_train: float
    """Training compute of the sweep's runs: the x-axis of their curves, added up."""
    billed: float
    """All that was held: training, evaluation, checkpoints, warm start, overhead and loss."""
    lost: float
    """Part of the bill that gave no point, because an attempt died after its last checkpoint."""
    committed: float
    """Granted to runs that are not over, and not used yet."""
    free: float
    """cap - used_train - committed: what killed and finished runs left for others."""
