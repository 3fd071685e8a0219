"""A search while it runs: has the next arm proposed where one is due, and puts it on record with its runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from scalerl_lab.config.problems import KeyPathError
from scalerl_lab.config.sweep import Search
from scalerl_lab.decide import Ledger, fit_together
from scalerl_lab.decide.search import Outcome, is_due, kept_back, num_open, outcomes
from scalerl_lab.fit import SweepRun
from scalerl_lab.launch.analysis import Analyst, Failure, News, answer_of
from scalerl_lab.plan import SweepPlan, control_values, digest, searched_runs
from scalerl_lab.records import PlannedRun, Proposal, RunState, to_json
from scalerl_lab.store import Store

_MOST_FAILURES = 3
Proposer = Callable[[Search, tuple[Outcome, ...], int], dict[str, float]]
"""From the question, what is known, and the proposal's number to values by key path, rounded as they run."""

Proposed = tuple[dict[str, float], tuple[Outcome, ...]]
"""Values, and what they were chosen from."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """All that a proposal rests on but the curves."""

    plan: SweepPlan
    proposals: tuple[Proposal, ...]
    states: tuple[RunState, ...]
    """Without their points: the process of the analyses knows them."""
    control_values: Mapping[str, float] | None
    proposer: Proposer


class Searcher:
    """Makes the proposals of one search.

    A proposal and its runs are written in one transaction before any of them starts, and what is proposed
    depends on what is on record alone. So whoever dies and when, each number is proposed once.
    """

    def __init__(self, plan: SweepPlan, store: Store, proposer: Proposer) -> None:
        assert plan.search is not None
        self._plan, self._store, self._proposer = plan, store, proposer
        self._question = plan.search
        self._control_values = control_values(plan)
        self._job: Future[Proposed] | None = None
        self._failures = 0
        self._proposals = store.proposals(plan.sweep_id)

    @property
    def is_asking(self) -> bool:
        """Whether a proposal is under way."""
        return self._job is not None

    @property
    def is_complete(self) -> bool:
        """Whether all proposals are made."""
        return len(self._proposals) >= self._question.arms

    def is_due(self, states: Sequence[RunState], ledger: Ledger, *, cancelled: bool) -> bool:
        """Whether another arm is to be proposed as things stand."""
        return self._failures < _MOST_FAILURES and is_due(
            self._question,
            self._proposals,
            states,
            ledger,
            cancelled=cancelled,
            proposal_gpu_hours=self._plan.proposal_gpu_hours,
        )

    def kept_back(self, ledger: Ledger, *, cancelled: bool) -> float:
        """Free GPU-hours that are for proposals to come."""
        hours = self._plan.proposal_gpu_hours
        return kept_back(
            self._question, self._proposals, ledger, cancelled=cancelled, proposal_gpu_hours=hours
        )

    def ask(self, analyst: Analyst, curves: Sequence[SweepRun], states: Sequence[RunState]) -> None:
        """Have the next proposal made, in the process of the analyses."""
        bare = tuple(replace(state, points=()) for state in states)
        ask = _Ask(self._plan, self._proposals, bare, self._control_values, self._proposer)
        self._job = analyst.ask(propose, curves, ask)

    def drop(self) -> None:
        """Forget the proposal that is under way: nothing of it is on record."""
        self._job = None

    def collect(self, states: Sequence[RunState]) -> str | None:
        """Put a proposal that is made on record with its runs; returns a sentence on it."""
        if self._job is None or not self._job.done():
            return None
        answer, self._job = answer_of(self._job), None
        number = len(self._proposals)
        if isinstance(answer, Failure):
            self._failures += 1
            then = "trying again" if self._failures < _MOST_FAILURES else "no more until lab sweep run"
            return f"proposal {number + 1} of {self._question.arms} failed ({answer.why}); {then}"
        values, history = answer
        runs, arm, note = self._runs(number, values, states)
        known = [outcome for outcome in history if outcome.value is not None]
        proposal = Proposal(
            sweep_id=self._plan.sweep_id,
            number=number,
            arm=arm,
            values=values,
            method=self._question.method,
            num_known=len(known),
            history=digest(to_json(history), 12),
            at=time.time(),
        )
        self._store.record_proposal(proposal, runs)
        self._proposals = self._store.proposals(self._plan.sweep_id)
        chosen = ", ".join(f"{path} {value:g}" for path, value in sorted(values.items()))
        by = f"by {self._question.method} from {len(known)} known outcomes"
        to_come = self._question.arms - len(self._proposals)
        return f"proposed {number + 1} of {self._question.arms}: {chosen}; {by}; {note}{to_come} to come"

    def _runs(
        self, number: int, values: dict[str, float], states: Sequence[RunState]
    ) -> tuple[tuple[PlannedRun, ...], str, str]:
        """(runs of a proposal, the arm that holds them, a clause about it)."""
        try:
            runs = searched_runs(self._plan, number, values)
        except KeyPathError as error:
            # Bounds are checked beforehand, knob by knob; some combinations may not be allowed.
            return (), "", f"the recipe refuses it ({'; '.join(p.text_with_path for p in error.problems)}); "
        holds = {state.planned.run_id: state.planned.arm for state in states}
        if all(run.run_id in holds for run in runs):
            arm = holds[runs[0].run_id]
            return runs, arm, f"the same as {arm}, so nothing is run; "
        still_open = num_open(self._proposals, states) + 1
        return runs, runs[0].arm, f"arm {runs[0].arm}, {still_open} open, "


def propose(news: News, ask: _Ask) -> Proposed:
    """The next proposal, from the fit of the whole sweep; in the process of the analyses."""
    curves = news.take()
    points = {run.run_id: run.points for run in curves}
    states = [replace(state, points=points.get(state.planned.run_id, ())) for state in ask.states]
    sweep, question = ask.plan.sweep, ask.plan.search
    assert question is not None
    history = outcomes(
        ask.proposals,
        states,
        fit_together(curves, sweep).arms if any(points.values()) else {},
        sweep=sweep,
        control=ask.plan.control,
        control_values=ask.control_values,
    )
    return ask.proposer(question, history, len(ask.proposals)), history
