"""What the driver holds of a run between turns; all of it can be read again from files and SQL."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TextIO

from scalerl_lab.config.sweep import Sweep
from scalerl_lab.decide import Account, Analysis, account_of, is_look_due
from scalerl_lab.fit import SweepRun
from scalerl_lab.launch.run_folder import RunFolder
from scalerl_lab.records import (
    Action,
    Cause,
    Fit,
    FitStatus,
    ProgressRow,
    RunState,
    RunStatus,
    TrialEnded,
)

OVER = frozenset({RunStatus.FINISHED, RunStatus.KILLED, RunStatus.FAILED})


@dataclass(slots=True)
class DrivenRun:
    """One run of the sweep: how it stands, its folder, its trial, and the verdict on its way."""

    state: RunState
    folder: RunFolder
    lines: int = 0
    size: int = -1
    trial: int = 0
    live: bool = False
    failures: int = 0
    ended: TrialEnded | None = None
    fit: Fit | None = None
    """The newest one."""
    job: Future[Analysis] | None = None
    driver_lock: TextIO | None = None
    elsewhere: bool = False
    """Whether another sweep's driver has a trial of this run; its points serve this sweep too."""
    lost_fits: int = 0
    """How many processes died over its verdict."""
    judge_again: bool = False
    """Whether hours were freed since this run finished its grant."""
    ordered_down_at: float | None = None
    """When its trial was told to end at a checkpoint."""
    stop_ordered_at: float | None = None
    """When its trial was told to stop at once."""
    gpu_hours_now: float = 0.0
    """Training compute at the last step of this trial that is on file."""
    _account: tuple[RunState, bool, Account] | None = None
    _due: tuple[RunState, bool] | None = None

    @property
    def used(self) -> float:
        """Training compute so far, ahead of the last point while a trial runs."""
        return max(self.gpu_hours_now, self.state.gpu_hours)

    @property
    def run_id(self) -> str:
        return self.state.planned.run_id

    @property
    def label(self) -> str:
        return f"{self.state.planned.arm}:{self.state.planned.spec.seed}"

    @property
    def over(self) -> bool:
        """Whether nothing more is to be done for it, short of another verdict."""
        return self.state.status in OVER

    @property
    def condemned(self) -> bool:
        """Whether the last word is to kill it; a point that comes after changes nothing."""
        return self.state.last_decision is not None and self.state.last_decision.action is Action.KILL

    @property
    def ending(self) -> bool:
        """Whether the last word is that it is finished; a point that comes after changes nothing."""
        return self.state.last_decision is not None and self.state.last_decision.action is Action.FINISH

    @property
    def last_word(self) -> tuple[int, Action, Cause] | None:
        """What its last decision says, and at which step."""
        last = self.state.last_decision
        return None if last is None else (last.step, last.action, last.cause)

    @property
    def used_its_grant(self) -> bool:
        """Whether the compute granted to it is used."""
        return self.state.gpu_hours >= self.state.granted_gpu_hours

    @property
    def account(self) -> Account:
        """Its account in the sweep's ledger; a trial on its way counts as started."""
        seen = self._account
        if seen is None or seen[0] is not self.state or seen[1] is not self.live:
            seen = self._account = (self.state, self.live, account_of(self.state, started=self.live))
        return seen[2]

    def awaits_verdict(self, sweep: Sweep) -> bool:
        """Whether a look is due at the points that came after the last decision, or is asked for anew."""
        if not self.state.points or self.condemned or self.state.status is RunStatus.FAILED:
            return False
        return self.judge_again or (not self.ending and self._is_look_due(sweep))

    def _is_look_due(self, sweep: Sweep) -> bool:
        seen = self._due
        if seen is None or seen[0] is not self.state:
            seen = self._due = (self.state, is_look_due(self.state, sweep))
        return seen[1]

    @property
    def curve(self) -> SweepRun:
        """What a fit needs of it."""
        return SweepRun(self.run_id, self.state.planned.arm, self.state.points)

    def row(self) -> ProgressRow:
        """Where the run stands, for people who watch."""
        planned, points, fit = self.state.planned, self.state.points, self.fit
        return ProgressRow(
            run_id=self.run_id,
            arm=planned.arm,
            seed=planned.spec.seed,
            role=planned.role,
            status=self.state.status,
            gpu_hours=self.used,
            granted_gpu_hours=self.state.granted_gpu_hours,
            pass_rate=points[-1].pass_rate if points else None,
            ceiling=fit.ceiling if fit else None,
            identified=fit is not None and fit.status is FitStatus.IDENTIFIED,
            last_decision=self.state.last_decision,
        )


def as_granted(state: RunState) -> RunState:
    """The run as this sweep may see it: points beyond its grant, paid for by another sweep, are left out."""
    beyond = [point.gpu_hours >= state.granted_gpu_hours for point in state.points]
    num = beyond.index(True) + 1 if True in beyond else len(beyond)
    return replace(state, points=state.points[:num])
