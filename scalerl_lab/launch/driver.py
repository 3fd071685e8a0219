"""The loop that takes a sweep from its plan to its verdicts: admit, ingest, fit, decide, act.

Every turn reads what workers left in their folders, writes it to SQL, has the new points fitted in
another process, writes the decision, and only then acts on it. Nothing in memory is needed to go on:
what a run needs next follows from its facts and its last decision, on the first turn after a crash as
on any other.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from scalerl_lab.decide import (
    AnalysisJob,
    Ledger,
    Step,
    decide_ended,
    decide_unfitted,
    is_rival,
    may_be_extended,
    next_step,
    under_pin,
)
from scalerl_lab.fit import SweepRun
from scalerl_lab.launch.analysis import Analyst, Failure, Plot, answer_of
from scalerl_lab.launch.driven_run import OVER, DrivenRun, as_granted
from scalerl_lab.launch.home import Home
from scalerl_lab.launch.launcher import Launcher, TrialOver, TrialRequest
from scalerl_lab.launch.locking import try_exclusive
from scalerl_lab.launch.order_desk import OrderDesk, Settled
from scalerl_lab.launch.run_folder import FactWriter, Orders, RunFolder
from scalerl_lab.launch.searching import Proposer, Searcher
from scalerl_lab.launch.watcher import Watcher
from scalerl_lab.launch.worker import lost_work
from scalerl_lab.plan import SweepPlan
from scalerl_lab.records import (
    Action,
    Cause,
    EndReason,
    Fact,
    OrderKind,
    ProgressView,
    RunState,
    RunStatus,
    TrialEnded,
    TrialStarted,
)
from scalerl_lab.store import Store

_TURN_S = 0.1
_SOON = 0.25
"""Share of the usual wait after a turn that left work: a slow file system must not make the loop spin."""
_UPDATE_S = 0.5
_ORDERS_S = 0.5
_WORK_S = 0.01
"""A turn leaves news, or verdicts, to the next one after so long, so that orders never wait for them."""
_SHOWN = "progress"
"""Work that can wait: what is shown may be a few turns old."""
_STOP_GRACE_S = 60.0
_LOST_FITS = 2
_NOTHING_MORE = Orders(granted_gpu_hours=0.0)
"""Ends a trial as at the end of its grant: with a measurement and a checkpoint."""


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
    proposer: Proposer | None = None
    """Chooses the arms of a search; needed where the question is one."""
    clock: Callable[[], float] = time.monotonic
    _runs: dict[str, DrivenRun] = field(default_factory=dict)
    _plots: list[tuple[str, str, Future[bytes]]] = field(default_factory=list)
    _began: float = 0.0
    _began_gpu_hours: float = 0.0
    _updated: float = 0.0
    _read_orders_at: float = float("-inf")
    _desk: OrderDesk = field(init=False)
    _analyst: Analyst = field(init=False)
    _searcher: Searcher | None = None
    _picture: tuple[tuple[SweepRun, ...], tuple[Step, ...], float] | None = None
    """What verdicts rest on beside their run: curves, rivals, free GPU-hours; None once anything changed."""
    _ended: deque[TrialOver] = field(default_factory=deque)
    """Trials that are over and not taken in yet."""
    _behind: bool = False
    """Whether work was left to the next turn, which then comes sooner."""
    _next: dict[str, int] = field(default_factory=dict)
    """Kind of work -> the run with which the next turn begins it, so that each has its turn."""

    def __post_init__(self) -> None:
        self._analyst = Analyst(self.analyst)

    def drive(self) -> list[RunState]:
        """Take the sweep to its end; returns how each run stands."""
        self._began = self.clock()
        try:
            self._load()
            # All that was read stays: without it the collector would walk it again and again, for long.
            gc.collect()
            gc.freeze()
            while self._turn() or self._desk.has_orders:
                time.sleep(_SOON * _TURN_S if self._behind else _TURN_S)
            self._finish_plots()
        finally:
            self.launcher.close()
            self._analyst.close()
            gc.unfreeze()
        self._show(force=True)
        return [run.state for run in self._runs.values()]

    # ------------------------------------------------------------ one turn

    def _turn(self) -> bool:
        self._behind = False
        self._ended.extend(self.launcher.over())
        until = self.clock() + _WORK_S
        while self._ended:
            self._reap(self._ended.popleft())
            if self.clock() > until:
                self._behind = True
                break
        for run in self._some("news"):
            if run.live or run.elsewhere:
                self._ingest(run)
        self._take_orders()
        for run in self._some("verdicts"):
            self._collect(run)
            self._submit(run)
            self._settle(run)
        searching = self._search()
        self._admit()
        self._collect_plots()
        self._show()
        paused = self._desk.force.paused is not None
        return searching or any(
            run.live
            or run.job is not None
            or run.awaits_verdict(self.plan.sweep)
            or (run.elsewhere and not run.over)
            or (paused and self._needs_trial(run))
            for run in self._runs.values()
        )

    def _some(self, what: str) -> Iterator[DrivenRun]:
        """Runs in turn, until the time for one kind of work is up; the next turn goes on from there."""
        runs, first = list(self._runs.values()), self._next.get(what, 0)
        until = self.clock() + _WORK_S
        for place in range(first, first + len(runs)):
            yield runs[place % len(runs)]
            self._next[what] = (place + 1) % len(runs)
            if self.clock() > until:
                self._behind |= what != _SHOWN
                return

    def _load(self) -> None:
        """Read everything back: the first turn after a crash is like any other."""
        self._desk = OrderDesk(self.store, self.plan)
        fits = self.store.latest_fits(self.plan.sweep_id)
        for state in self.store.run_states(self.plan.sweep_id):
            run = self._take_in(state)
            run.fit = fits[run.run_id][0] if run.run_id in fits else None
        if self.plan.search is not None:
            if self.proposer is None:
                raise ValueError(f"sweep {self.plan.sweep_id} is a search: its driver needs a proposer")
            self._searcher = Searcher(self.plan, self.store, self.proposer)
        for run in self._runs.values():
            self._ingest(run)
        self._take_orders()
        for run in self._runs.values():
            if run.state.status is RunStatus.FAILED and not self._desk.force.cancelled:
                self._try_failed_again(run)
        self._judge_finished_again()
        if self._desk.force.paused is not None:
            self._say_paused()
        self._began_gpu_hours = sum(run.used for run in self._runs.values())

    def _try_failed_again(self, run: DrivenRun) -> None:
        """Its hours were free since it failed: it goes on only if nobody was given them."""
        wanted = max(run.state.granted_gpu_hours - run.state.gpu_hours, 0.0)
        # As of a run's start: what others overshot their grants by does not keep it from its own.
        if not self._ledger.admits(wanted):
            self.watcher.said(f"{run.label}: failed before; the hours that it had left were given to others")
            return
        self.watcher.said(f"{run.label}: failed before; trying again from its checkpoint")
        self.store.set_status(self.plan.sweep_id, run.run_id, RunStatus.RUNNING)
        self._refresh(run)

    def _take_in(self, state: RunState) -> DrivenRun:
        """Hold a run of the plan from now on."""
        run_id = state.planned.run_id
        folder = RunFolder(self.home.run_folder(run_id))
        folder.create(state.planned.spec)
        started = [fact.trial for fact in folder.read_facts() if isinstance(fact, TrialStarted)]
        run = self._runs[run_id] = DrivenRun(
            as_granted(state),
            folder,
            lines=self.store.ingested_lines(run_id),
            trial=max([state.trials, *started]),
        )
        return run

    def _ingest(self, run: DrivenRun) -> None:
        """Bring a run's new facts into SQL; the line number makes it idempotent."""
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
        self._refresh(run)

    def _read_progress(self, run: DrivenRun) -> None:
        progress = run.folder.progress()
        run.gpu_hours_now = progress.gpu_hours if progress and progress.trial == run.trial else 0.0

    def _refresh(self, *runs: DrivenRun) -> None:
        known = {run.run_id: run.state.points for run in runs}
        for state in self.store.run_states(self.plan.sweep_id, known, known=known):
            self._runs[state.planned.run_id].state = as_granted(state)
        self._picture = None

    @property
    def _ledger(self) -> Ledger:
        """The sweep's budget as its runs stand now."""
        accounts = tuple(run.account for run in self._runs.values())
        return Ledger(self._desk.force.cap_gpu_hours, accounts)

    # ------------------------------------------------------------ orders

    def _take_orders(self) -> None:
        """Settle what people have ordered since the last look, and do what follows from it at once."""
        now = self.clock()
        if now - self._read_orders_at < _ORDERS_S:
            return
        self._read_orders_at = now
        for settled in self._desk.settle(self._states, lambda: self._ledger):
            self._follow(settled)

    def _states(self) -> list[RunState]:
        return [run.state for run in self._runs.values()]

    def _follow(self, settled: Settled) -> None:
        """Make the driver's own picture follow an order; all of it can be read again from SQL."""
        order, self._picture = settled.order, None
        at = f"{self._runs[order.run_id].label}: " if order.run_id is not None else ""
        if settled.refused is not None:
            self.watcher.said(f"{at}{order.kind} ordered by {order.by} is refused: {settled.refused}")
            return
        decided = [(self._runs[decision.run_id], decision) for decision in settled.decisions]
        if decided:
            self._refresh(*(run for run, _ in decided))
        for run, decision in decided:
            # A verdict under way was on how things stood before.
            run.job, run.judge_again, run.failures, run.ordered_down_at = None, False, 0, None
            if run.live and decision.action is Action.EXTEND and self._desk.force.paused is None:
                run.folder.write_orders(Orders(run.state.granted_gpu_hours))
                self._mark_acted(run)
            self.watcher.said(f"{run.label}: {decision.action}: {decision.reason}")
        if order.kind is OrderKind.PAUSE:
            self._say_paused()
        elif order.kind is OrderKind.RESUME:
            for run in self._runs.values():
                if run.live and not run.condemned and not run.ending:
                    run.ordered_down_at = None
                    run.folder.write_orders(Orders(run.state.granted_gpu_hours))
        if not settled.decisions and order.kind is not OrderKind.PAUSE:
            self.watcher.said(f"{at}{order.kind} by order of {order.by}: {order.why}")

    def _say_paused(self) -> None:
        paused = self._desk.force.paused
        assert paused is not None
        self.watcher.said(
            f"paused by {paused.by}: {paused.why}. Trials go down to a checkpoint and nothing is started "
            f"until: lab sweep resume {self.plan.sweep_id}"
        )

    def _mark_acted(self, run: DrivenRun, *actions: Action) -> None:
        """Note that what was decided on a run has been carried out: all of it, or the given actions."""
        for row in self.store.unacted(self.plan.sweep_id):
            if row.decision.run_id == run.run_id and (not actions or row.decision.action in actions):
                self.store.mark_acted(row.decision_id)

    # ------------------------------------------------------------ verdicts

    def _submit(self, run: DrivenRun) -> None:
        if run.job is not None or not run.awaits_verdict(self.plan.sweep):
            return
        if self._picture is None:
            curves = tuple(r.curve for r in self._sound(run))
            free, sweep = self._ledger.free - self._kept_back, self.plan.sweep
            rivals = tuple(
                Step(r.run_id, next_step(r.state, sweep))
                for r in self._runs.values()
                if is_rival(r.state, sweep, free)
            )
            self._picture = (curves, rivals, free)
        curves, rivals, free = self._picture
        job = AnalysisJob(
            sweep=self.plan.sweep,
            run=run.state,
            runs=curves,
            control=self.plan.control,
            free_gpu_hours=free,
            rivals=tuple(step for step in rivals if step.run_id != run.run_id),
        )
        run.job, run.judge_again = self._analyst.analyse(job), False

    def _sound(self, run: DrivenRun | None) -> list[DrivenRun]:
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
        analysis, run.job = answer_of(run.job), None
        if isinstance(analysis, Failure):
            self._go_on_unfitted(run, analysis)
            return
        run.lost_fits = 0
        pin = self._desk.force.pins.get(run.run_id)
        decision = analysis.decision if pin is None else under_pin(analysis.decision, pin, run.state)
        stops = decision.action is Action.KILL and run.over
        if stops or (decision.action is Action.EXTEND and self._desk.force.cancelled):
            # It has ended meanwhile, or the sweep has: there is nothing left to do.
            return
        extra = decision.granted_gpu_hours - run.state.granted_gpu_hours
        if decision.action is Action.EXTEND and not self._ledger.covers(extra + self._kept_back):
            # Another run was given these hours meanwhile: the next turn asks again, with what is left.
            run.judge_again = True
            return
        told = run.last_word
        run.fit = analysis.fit
        fit_id = self.store.record_fit(self.plan.sweep_id, analysis.fit, analysis.forecasts)
        self.store.record_decision(self.plan.sweep_id, decision, fit_id)
        self._refresh(run)
        if told is not None and told[2] is Cause.NO_HOURS and run.last_word != told:
            # It waits for hours no longer, so they are another's.
            self._judge_finished_again()
        says = decision.action is not Action.CONTINUE or decision.cause is Cause.PINNED
        if says and run.last_word != told:
            self.watcher.said(f"{run.label}: {decision.action}: {decision.reason}")

    def _go_on_unfitted(self, run: DrivenRun, failure: Failure) -> None:
        """Let a run go on, or end at its grant, although its points could not be fitted."""
        run.lost_fits += failure.lost
        if failure.lost and run.lost_fits <= _LOST_FITS:
            self.watcher.said(f"{run.label}: the process of the fits died ({failure.why}); asked again")
            run.judge_again = True
            return
        run.lost_fits, run.judge_again = 0, False
        decision = decide_unfitted(run.state, failure.why)
        self.watcher.said(f"{run.label}: {decision.action}: {decision.reason}")
        if not run.over:
            self.store.record_decision(self.plan.sweep_id, decision, None)
            self._refresh(run)

    def _settle(self, run: DrivenRun) -> None:
        """Do what the last decision says, once; whatever was done already is left alone."""
        if run.over:
            return
        if run.condemned:
            self._take_down(run)
        elif run.live and (run.ending or self._desk.force.paused is not None):
            # However long its step takes: what it has trained is to be in the checkpoint.
            if run.ordered_down_at is None:
                run.folder.write_orders(_NOTHING_MORE)
                run.ordered_down_at = self.clock()
        elif run.ending and run.job is None:
            self._close(run, RunStatus.FINISHED)

    def _take_down(self, run: DrivenRun) -> None:
        now = self.clock()
        if run.stop_ordered_at is None:
            # Of a run that seems to have no trial, too: a worker may have outlived its driver. But a trial
            # of another sweep's driver is that sweep's, which goes on with it.
            lock = None if run.live else try_exclusive(run.folder.driver_lock)
            if run.live or lock is not None:
                run.folder.write_orders(Orders(run.state.granted_gpu_hours, stop=True))
            if lock is not None:
                lock.close()
            run.stop_ordered_at = now
        if not run.live:
            self._close(run, RunStatus.KILLED)
        elif now - run.stop_ordered_at > _STOP_GRACE_S:
            self.launcher.stop(run.run_id)
            run.stop_ordered_at = now

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
        self._mark_acted(run)
        self.store.set_status(self.plan.sweep_id, run.run_id, status)
        self._refresh(run)
        self._judge_finished_again()
        if self.plot is not None and run.state.points:
            up_to = max(run.state.planned.budget_gpu_hours, run.state.gpu_hours)
            runs = tuple(r.curve for r in self._sound(run))
            job = self._analyst.draw(self.plot, run.run_id, runs, self.plan.sweep, up_to, run.label)
            self._plots.append((run.run_id, "fit.png", job))

    # ------------------------------------------------------------ a search

    def _search(self) -> bool:
        """Take in what was proposed, and ask for more where it is due; returns whether the search goes on."""
        searcher, force = self._searcher, self._desk.force
        if searcher is None:
            return False
        if force.cancelled:
            searcher.drop()
        sentence = searcher.collect(self._states())
        if sentence is not None:
            new = [r.run_id for r in self.store.plan(self.plan.sweep_id).runs if r.run_id not in self._runs]
            for state in self.store.run_states(self.plan.sweep_id, new) if new else ():
                self._ingest(self._take_in(state))
            self._picture = None
            self.watcher.said(sentence)
            if searcher.is_complete:
                self._judge_finished_again()
        due = searcher.is_due(self._states(), self._ledger, cancelled=force.cancelled)
        if due and not searcher.is_asking and force.paused is None and self._has_room:
            curves = tuple(run.curve for run in self._sound(None))
            searcher.ask(self._analyst, curves, self._states())
        return due or searcher.is_asking

    @property
    def _has_room(self) -> bool:
        """Whether a new run would start at once: one proposed earlier would be chosen from less knowledge."""
        live = sum(run.live or self._undecided(run) for run in self._runs.values())
        return live < self.max_live and not any(self._needs_trial(run) for run in self._runs.values())

    @property
    def _kept_back(self) -> float:
        """Free GPU-hours that the rule may not give away: those of proposals to come."""
        if self._searcher is None:
            return 0.0
        return self._searcher.kept_back(self._ledger, cancelled=self._desk.force.cancelled)

    def _judge_finished_again(self) -> None:
        """Hours came free, or are left to others: let runs that have finished their grant ask for them."""
        if self._desk.force.cancelled:
            return
        free, sweep = self._ledger.free - self._kept_back, self.plan.sweep
        for run in self._runs.values():
            finished = run.state.status is RunStatus.FINISHED and may_be_extended(run.state, sweep)
            run.judge_again |= finished and next_step(run.state, sweep) <= free

    # ------------------------------------------------------------ trials

    def _admit(self) -> None:
        """Start what has compute left to use, as far as the sweep's budget covers it."""
        if self._desk.force.paused is not None:
            return
        # A run whose verdict is on its way keeps its place: after a restart the controls still come first.
        live = sum(run.live or self._undecided(run) for run in self._runs.values())
        ledger: Ledger | None = None
        until = self.clock() + _WORK_S
        for run in self._runs.values():
            if live >= self.max_live:
                return
            if not self._needs_trial(run):
                continue
            wanted = run.state.granted_gpu_hours - run.state.gpu_hours
            ledger = ledger or self._ledger
            if run.state.status is RunStatus.PLANNED and not ledger.admits(wanted):
                continue
            if self._start(run):
                live, ledger = live + 1, None
                # Only starts take time: however many runs there are, the last one has its turn.
                if self.clock() > until:
                    self._behind = True
                    return

    def _undecided(self, run: DrivenRun) -> bool:
        return not run.over and (run.job is not None or run.awaits_verdict(self.plan.sweep))

    def _needs_trial(self, run: DrivenRun) -> bool:
        if run.live or run.job is not None or run.awaits_verdict(self.plan.sweep) or run.over:
            return False
        return not run.condemned and not run.ending and not run.used_its_grant

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
        run.trial += 1
        run.live, run.ended, self._picture = True, None, None
        run.ordered_down_at = run.stop_ordered_at = None
        run.folder.write_orders(Orders(run.state.granted_gpu_hours))
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
        self._mark_acted(run, Action.EXTEND, Action.REVIVE)
        return True

    def _reap(self, over: TrialOver) -> None:
        """A trial's process is done: read its last facts, and see why it ended."""
        run = self._runs[over.run_id]
        if not run.live or over.trial != run.trial:
            return
        self._ingest(run)
        # From here on the curve says how far it came: steps after its last checkpoint are lost.
        run.live, run.gpu_hours_now, self._picture = False, 0.0, None
        if run.driver_lock is not None:
            run.driver_lock.close()
        ended = run.ended if run.ended is not None and run.ended.trial == over.trial else None
        if ended is None or ended.reason is EndReason.FAILED:
            if run.condemned:
                return
            run.failures += 1
            detail = ended.detail if ended is not None else (over.error or "its process died")
            self._retry_or_give_up(run, detail)
        elif ended.reason in {EndReason.NON_FINITE, EndReason.NO_PROMPTS, EndReason.NO_VARIANCE}:
            # An analysis under way is of an earlier point; its verdict must not be the last word.
            run.job = None
            self.store.record_decision(self.plan.sweep_id, decide_ended(run.state, ended), None)
            self._refresh(run)
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
        self._refresh(run)
        self._judge_finished_again()

    # ------------------------------------------------------------ pictures and progress

    def _collect_plots(self) -> None:
        for run_id, name, job in [p for p in self._plots if p[2].done()]:
            picture = answer_of(job)
            if isinstance(picture, Failure):
                self.watcher.said(f"{self._runs[run_id].label}: {name} could not be drawn ({picture.why})")
            else:
                self.store.queue_artifact(self.plan.sweep_id, run_id, name, picture)
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
        for run in self._some(_SHOWN):
            if run.live or run.elsewhere:
                self._read_progress(run)
        rows = tuple(run.row() for run in self._runs.values())
        return ProgressView(
            sweep_id=self.plan.sweep_id,
            sweep_name=self.plan.sweep.name,
            profile_name=self.plan.profile.name,
            rows=rows,
            used_gpu_hours=sum(row.gpu_hours for row in rows),
            budget_gpu_hours=self._desk.force.cap_gpu_hours,
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
