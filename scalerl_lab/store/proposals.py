"""Proposals of a search as rows and back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from scalerl_lab.records import PlannedRun, Proposal
from scalerl_lab.store import plans
from scalerl_lab.store.facts import insert_new
from scalerl_lab.store.tables import ProposalTable


def record(session: Session, proposal: Proposal, runs: Sequence[PlannedRun]) -> Proposal:
    """Write a proposal and its runs, unless that number is taken; returns what is on record under it."""
    row = {
        "sweep_id": proposal.sweep_id,
        "number": proposal.number,
        "arm": proposal.arm,
        "choice": dict(proposal.values),
        "method": proposal.method,
        "num_known": proposal.num_known,
        "history": proposal.history,
        "at": proposal.at,
    }
    insert_new(session, ProposalTable, [row])
    found = session.get_one(ProposalTable, (proposal.sweep_id, proposal.number))
    on_record = _proposal(found)
    if on_record == proposal:
        plans.add_runs(session, proposal.sweep_id, runs)
    return on_record


def read(session: Session, sweep_id: str) -> tuple[Proposal, ...]:
    """All proposals of a sweep, in the order of their numbers."""
    chosen = select(ProposalTable).filter_by(sweep_id=sweep_id).order_by(ProposalTable.number)
    return tuple(_proposal(row) for row in session.scalars(chosen))


def _proposal(row: ProposalTable) -> Proposal:
    return Proposal(
        sweep_id=row.sweep_id,
        number=row.number,
        arm=row.arm,
        values=dict(row.choice),
        method=row.method,
        num_known=row.num_known,
        history=row.history,
        at=row.at,
    )
