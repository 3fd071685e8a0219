"""A simulated sweep put into a real store, as a driver would have left it."""

from __future__ import annotations

from scalerl_lab.records import EndReason, Fact, RunStatus, TrialEnded, TrialStarted
from scalerl_lab.store import Store
from tests.report.simulate import Sim


def fill(store: Store, sim: Sim) -> None:
    """Record the plan, the facts, the fits, the decisions and the statuses."""
    store.record_plan(sim.plan)
    for state in sim.states:
        run_id = state.planned.run_id
        last = state.points[-1]
        facts: list[Fact] = [TrialStarted(1, 1.0, 0, "host", 1, "v"), *state.points, *sim.ledger[run_id]]
        facts.append(TrialEnded(1, last.at, last.step, last.gpu_hours, EndReason.GRANT_REACHED))
        store.ingest(run_id, 0, facts)
        if state.status is not RunStatus.PLANNED:
            store.set_status(sim.plan.sweep_id, run_id, RunStatus.RUNNING)
    for row in sim.decisions:
        evidence = row.decision.evidence
        forecasts = (evidence.forecast,) if evidence.forecast is not None else ()
        assert evidence.fit is not None
        fit_id = store.record_fit(sim.plan.sweep_id, evidence.fit, forecasts)
        store.mark_acted(store.record_decision(sim.plan.sweep_id, row.decision, fit_id))
    for state in sim.states:
        if state.status is not RunStatus.RUNNING:
            store.set_status(sim.plan.sweep_id, state.planned.run_id, state.status)
