"""What the store answers with, where a record of the lab alone does not say enough."""

from __future__ import annotations

from dataclasses import dataclass

from scalerl_lab.records import Decision, LedgerEntry, Order, RunStatus, SandboxUsed, TrialEnded, TrialStarted


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
class PlaceRow:
    """A run in one of the sweeps that have it."""

    sweep_id: str
    sweep_name: str
    run_id: str
    arm: str
    seed: int

    @property
    def label(self) -> str:
        """Arm and seed, as people name a run."""
        return f"{self.arm}:{self.seed}"


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One attempt to execute a run."""

    started: TrialStarted
    ended: TrialEnded | None
    """None while it lives, and for ever when it was killed from outside."""
    sandbox: SandboxUsed | None = None
    """None where it ran no code of responses."""


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
class OrderRow:
    """A person's order on record, and what came of it."""

    order_id: int
    order: Order
    settled_at: float | None
    """When the driver took it into force or refused it; None while it waits for a driver."""
    refused: str | None
    """Why it could not be carried out, if so."""

    @property
    def in_force(self) -> bool:
        """Whether it was carried out."""
        return self.settled_at is not None and self.refused is None
