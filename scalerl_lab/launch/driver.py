"""The loop that takes a sweep from its plan to its verdicts: admit, ingest, fit, decide, act.

Every turn reads what workers left in their folders, writes it to SQL, has the new points fitted in
another process, writes the decision, and only then acts on it. Nothing in memory is needed to go on:
what a run needs next follows from its facts and its last decision, on the first turn after a crash as
on any other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from scalerl_lab.decide import AnalysisJob, analyse, decide_ended
from scalerl_lab.launch.analysis import Plot, draw
from scalerl_lab.launch.driven_run import OVER, DrivenRun, as_granted
from scalerl_lab.launch.home import Home
from scalerl_lab.launch.launcher import Launcher, TrialOver, TrialRequest
from scalerl_lab.launch.locking import try_exclusive
from scalerl_lab.launch.run_folder import FactWriter, Orders, RunFolder
from scalerl_lab.launch.watcher import Watcher
from scalerl_lab.launch.worker import lost_work
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import (
    Action,
    Cause,
    EndReason,
    Fact,
    ProgressView,
    RunState,
    RunStatus,
    TrialEnded,
    TrialStarted,
)
from scalerl_lab.store import Store

_TURN_S = 0.1
_UPDATE_S = 0.5
_STOP_GRACE_S = 60.0
_ROUNDING = 1e-3


@dataclass(slots=True)
class Driver:
    """Drives one sweep through one launcher; see the module's docstring."""

    plan: SweepPlan
    store: Store
    launcher: Launcher
    analyst: Executor
    home: Home
    watcher: Watcher
    code_version: str
    max_live: int
    """How many trials the launcher has at a time; one waiting beyond its slots hides the start-up."""
    plot: Plot | None = None
    clock: Callable[[], float] = time.monotonic
    _runs: dict[str, DrivenRun] = field(default_factory=dict)
    _plots: list[tuple[str, str, Future[bytes]]] = field(default_factory=list)
    _began: float = 0.0
    _began_gpu_hours: float = 0.0
    _updated: float = 0.0

    def drive(self) -> list[RunState]:
        """Take the sweep to its end; returns how each run stands."""
        self._began = self.clock()
        try:
            self._load()
            while self._turn():
                time.sleep(_TURN_S)
            self._finish_plots()
        finally:
            self.launcher.close()
        self._show(force=True)
        return [run.state for run in self._runs.values()]

    # ------------------------------------------------------------ one turn

    def _turn(self) -> bool:
        for over in self.launcher.over():
            self._reap(over)
        for run in self._runs.values():
            if run.live or run.elsewhere:
                self._ingest(run)
        for run in self._runs.values():
            self._collect(run)
            self._submit(run)
            self._settle(run)
        self._admit()
        self._collect_plots()
        self._show()
        return any(
            run.live or run.job is not None or run.awaits_verdict or (run.elsewhere and not run.over)
            for run in self._runs.values()
        )

    def _load(self) -> None:
        """Read everything back: the first turn after a crash is like any other."""
        for state in self.store.run_states(self.plan.sweep_id):
            run_id = state.planned.run_id
            folder = RunFolder(self.home.run_folder(run_id))
            folder.create(state.planned.spec)
            started = [fact.trial for fact in folder.read_facts() if isinstance(fact, TrialStarted)]
            self._runs[run_id] = DrivenRun(
                as_granted(state),
                folder,
                lines=self.store.ingested_lines(run_id),
                trial=max([state.trials, *started]),
            )
        for run in self._runs.values():
            self._ingest(run)
            if run.state.status is RunStatus.FAILED:
                self.watcher.said(f"{run.label}: failed before; trying again from its checkpoint")
                self.store.set_status(self.plan.sweep_id, run.run_id, RunStatus.RUNNING)
        self._refresh()
        self._began_gpu_hours = sum(run.used for run in self._runs.values())

    def _ingest(self, run: DrivenRun) -> None:
        """Bring a run's new facts into SQL; the line number makes it idempotent."""
        progress = run.folder.progress()
        run.gpu_hours_now = progress.gpu_hours if progress and progress.trial == run.trial else 0.0
        try:
            size = run.folder.facts.stat().st_size
        except FileNotFoundError:
            return
        if size == run.size:
            return
        facts: list[Fact] = run.folder.read_facts(run.lines)
        run.size = size
        if not facts:
            return
        self.store.ingest(run.run_id, run.lines, facts)
        run.lines += len(facts)
        for fact in facts:
            if isinstance(fact, TrialEnded):
                run.ended = fact
            elif isinstance(fact, TrialStarted):
                run.ended, run.trial = None, max(run.trial, fact.trial)
                if run.live and run.state.status is not RunStatus.RUNNING:
                    self.store.set_status(self.plan.sweep_id, run.run_id, RunStatus.RUNNING)
        self._refresh()

    def _refresh(self) -> None:
        for state in self.store.run_states(self.plan.sweep_id):
            self._runs[state.planned.run_id].state = as_granted(state)

    # ------------------------------------------------------------ verdicts

    def _submit(self, run: DrivenRun) -> None:
        if run.job is not None or not run.awaits_verdict:
            return
        job = AnalysisJob(
            sweep=self.plan.sweep,
            run=run.state,
            runs=tuple(r.curve for r in self._sound(run)),
            control=self.plan.control,
            free_gpu_hours=self._free(),
        )
        run.job, run.judge_again = self.analyst.submit(analyse, job), False

    def _free(self) -> float:
        """GPU-hours that killed runs left and nobody else will need."""
        return self.store.budget(self.plan.sweep_id).free

    def _sound(self, run: DrivenRun) -> list[DrivenRun]:
        """The run, and those not killed for a non-finite number: such a curve ends before it shows it."""
        return [
            r
            for r in self._runs.values()
            if r is run
            or r.state.last_decision is None
            or r.state.last_decision.cause is not Cause.NON_FINITE
        ]

    def _collect(self, run: DrivenRun) -> None:
        """Put a finished analysis on record, then act on it."""
        if run.job is None or not run.job.done():
            return
        analysis, run.job = run.job.result(), None
        extra = analysis.decision.granted_gpu_hours - run.state.granted_gpu_hours
        if analysis.decision.action is Action.EXTEND and extra > self._free() + _ROUNDING:
            # Another run was given these hours meanwhile: the next turn asks again, with what is left.
            return
        fit_id = self.store.record_fit(self.plan.sweep_id, analysis.fit, analysis.forecasts)
        self.store.record_decision(self.plan.sweep_id, analysis.decision, fit_id)
        self._refresh()
        if analysis.decision.action is not Action.CONTINUE:
            self.watcher.said(f"{run.label}: {analysis.decision.action}: {analysis.decision.reason}")

    def _settle(self, run: DrivenRun) -> None:
        """Do what the last decision says, once; whatever was done already is left alone."""
        last = run.state.last_decision
        if last is None or run.awaits_verdict or run.job is not None:
            return
        if run.condemned:
            if run.state.status is not RunStatus.KILLED:
                self._take_down(run)
        elif run.live or run.over:
            return
        elif last.action is Action.FINISH:
            self._close(run, RunStatus.FINISHED)

    def _take_down(self, run: DrivenRun) -> None:
        if not run.live:
            self._close(run, RunStatus.KILLED)
            return
        now = self.clock()
        if run.ordered_down_at is None:
            run.folder.write_orders(Orders(run.state.granted_gpu_hours, stop=True))
            run.ordered_down_at = now
        elif now - run.ordered_down_at > _STOP_GRACE_S:
            self.launcher.stop(run.run_id)
            run.ordered_down_at = now

    def _bill_lost(self, run: DrivenRun) -> None:
        """Book steps after the last checkpoint of a trial that died, as no later trial will."""
        last = run.state.points[-1] if run.state.points else None
        entry = lost_work(
            run.folder.progress(),
            last.step if last else 0,
            last.gpu_hours if last else 0.0,
            last.flops if last else 0,
            run.trial + 1,
        )
        lock = try_exclusive(run.folder.lock)
        if lock is None:
            return
        if entry is not None:
            writer = FactWriter(run.folder)
            writer.append(entry)
            writer.close()
        lock.close()
        self._ingest(run)

    def _close(self, run: DrivenRun, status: RunStatus) -> None:
        if status is not RunStatus.FINISHED:
            self._bill_lost(run)
        if run.state.status is RunStatus.PLANNED:
            # Points of another sweep already say all that this one asks.
            self.store.set_status(self.plan.sweep_id, run.run_id, RunStatus.RUNNING)
        # The status comes last: after a crash before it, the run is closed once more.
        for row in self.store.unacted(self.plan.sweep_id):
            if row.decision.run_id == run.run_id:
                self.store.mark_acted(row.decision_id)
        self.store.set_status(self.plan.sweep_id, run.run_id, status)
        self._refresh()
        if status is RunStatus.KILLED:
            for other in self._runs.values():
                other.judge_again |= other.state.status is RunStatus.FINISHED
        if self.plot is not None and run.state.points:
            up_to = max(run.state.planned.budget_gpu_hours, run.state.gpu_hours)
            runs = tuple(r.curve for r in self._sound(run))
            job = self.analyst.submit(draw, self.plot, run.run_id, runs, self.plan.sweep, up_to, run.label)
            self._plots.append((run.run_id, "fit.png", job))

    # ------------------------------------------------------------ trials

    def _admit(self) -> None:
        """Start what has compute left to use, as far as the sweep's budget covers it."""
        # A run whose verdict is on its way keeps its place: after a restart the controls still come first.
        live = sum(run.live or self._undecided(run) for run in self._runs.values())
        for run in self._runs.values():
            if live >= self.max_live:
                return
            if not self._needs_trial(run):
                continue
            wanted = run.state.granted_gpu_hours - run.state.gpu_hours
            if run.state.status is RunStatus.PLANNED and wanted > self._unpromised() + _ROUNDING:
                continue
            live += self._start(run)

    def _undecided(self, run: DrivenRun) -> bool:
        return not run.over and (run.job is not None or run.awaits_verdict)

    def _unpromised(self) -> float:
        """GPU-hours of the sweep's cap that no started run has used or may still use.

        A run ends with the optimiser step that reaches its grant; that overshoot is not counted, or a cap
        that equals the sum of the budgets would starve the last run.
        """
        promised = 0.0
        for run in self._runs.values():
            used, granted = run.state.gpu_hours, run.state.granted_gpu_hours
            may_use_more = run.live or run.state.status is RunStatus.RUNNING
            promised += granted if may_use_more else min(used, granted)
        return self.plan.sweep_gpu_hours - promised

    def _needs_trial(self, run: DrivenRun) -> bool:
        if run.live or run.job is not None or run.awaits_verdict or run.over:
            return False
        last = run.state.last_decision
        if run.condemned or (last is not None and last.action is Action.FINISH):
            return False
        return run.state.gpu_hours < run.state.granted_gpu_hours

    def _start(self, run: DrivenRun) -> bool:
        """Hand a trial to the launcher, unless another sweep's driver has one of the same run."""
        lock = try_exclusive(run.folder.driver_lock)
        run.elsewhere = lock is None
        if lock is None:
            return False
        self._ingest(run)
        if not self._needs_trial(run):
            # The other driver left what was wanted.
            lock.close()
            return False
        run.driver_lock = lock
        if run.state.status is RunStatus.FINISHED:
            self.store.set_status(self.plan.sweep_id, run.run_id, RunStatus.RUNNING)
        run.trial += 1
        run.live, run.ended, run.ordered_down_at = True, None, None
        run.folder.write_orders(Orders(run.state.granted_gpu_hours))
        for row in self.store.unacted(self.plan.sweep_id):
            if row.decision.run_id == run.run_id and row.decision.action is Action.EXTEND:
                self.store.mark_acted(row.decision_id)
        self.launcher.start(
            TrialRequest(
                run_id=run.run_id,
                trial=run.trial,
                folder=run.folder.path,
                cache=self.home.cache,
                resources=run.state.planned.spec.recipe.resources,
                code_version=self.code_version,
                label=run.label,
            )
        )
        return True

    def _reap(self, over: TrialOver) -> None:
        """A trial's process is done: read its last facts, and see why it ended."""
        run = self._runs[over.run_id]
        if not run.live or over.trial != run.trial:
            return
        self._ingest(run)
        run.live = False
        if run.driver_lock is not None:
            run.driver_lock.close()
        ended = run.ended if run.ended is not None and run.ended.trial == over.trial else None
        if ended is None or ended.reason is EndReason.FAILED:
            if run.condemned:
                return
            run.failures += 1
            detail = ended.detail if ended is not None else (over.error or "its process died")
            self._retry_or_give_up(run, detail)
        elif ended.reason in {EndReason.NON_FINITE, EndReason.NO_PROMPTS}:
            # An analysis under way is of an earlier point; its verdict must not be the last word.
            run.job = None
            self.store.record_decision(self.plan.sweep_id, decide_ended(run.state, ended), None)
            self._refresh()
            self.watcher.said(f"{run.label}: {ended.reason}: {ended.detail}")

    def _retry_or_give_up(self, run: DrivenRun, detail: str) -> None:
        allowed = self.plan.profile.max_failures
        if run.failures <= allowed:
            self.watcher.said(
                f"{run.label}: trial {run.trial} failed ({detail}); trying again from its checkpoint, "
                f"{allowed - run.failures} more allowed"
            )
            return
        self._bill_lost(run)
        self.watcher.said(f"{run.label}: failed for good after {run.failures} trials: {detail}")
        if run.state.status is RunStatus.PLANNED:
            self.store.set_status(self.plan.sweep_id, run.run_id, RunStatus.RUNNING)
        self.store.set_status(self.plan.sweep_id, run.run_id, RunStatus.FAILED)
        self._refresh()

    # ------------------------------------------------------------ pictures and progress

    def _collect_plots(self) -> None:
        for run_id, name, job in [p for p in self._plots if p[2].done()]:
            self.store.queue_artifact(self.plan.sweep_id, run_id, name, job.result())
        self._plots = [p for p in self._plots if not p[2].done()]

    def _finish_plots(self) -> None:
        while self._plots:
            self._collect_plots()
            time.sleep(_TURN_S)

    def _show(self, *, force: bool = False) -> None:
        now = self.clock()
        if not force and now - self._updated < _UPDATE_S:
            return
        self._updated = now
        self.watcher.update(self._view(now))

    def _view(self, now: float) -> ProgressView:
        fits = self.store.latest_fits(self.plan.sweep_id)
        rows = tuple(
            run.row(fits[run.run_id][0] if run.run_id in fits else None) for run in self._runs.values()
        )
        return ProgressView(
            sweep_id=self.plan.sweep_id,
            sweep_name=self.plan.sweep.name,
            profile_name=self.plan.profile.name,
            rows=rows,
            used_gpu_hours=sum(row.gpu_hours for row in rows),
            budget_gpu_hours=self.plan.sweep_gpu_hours,
            wall_s=now - self._began,
            wall_left_s=self._left_s(now),
        )

    def _left_s(self, now: float) -> float | None:
        runs = list(self._runs.values())
        done = sum(run.used for run in runs) - self._began_gpu_hours
        if done <= 0.0:
            return None
        left = sum(
            max(run.state.granted_gpu_hours - run.used, 0.0) for run in runs if run.state.status not in OVER
        )
        return (now - self._began) * left / done


def slots(cpus: float, gpus: float, plan: SweepPlan) -> int:
    """How many of the plan's runs fit at a time."""
    needs = [run.spec.recipe.resources for run in plan.runs]
    return max(
        1,
        min(
            int(min(cpus / need.cpus, gpus / need.gpus if need.gpus else cpus / need.cpus)) for need in needs
        ),
    )
