"""One run: start or resume, then generate, train, and at every evaluation measure, save and tell."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scalerl_lab.engines import require_supported
from scalerl_lab.engines.learner import TorchLearner
from scalerl_lab.engines.policy import build_policy, matrix_params
from scalerl_lab.engines.sampler import Work
from scalerl_lab.records import (
    CheckpointSaved,
    EndReason,
    EvalPoint,
    Fact,
    LedgerEntry,
    LedgerKind,
    Measurement,
    PassCounts,
    RunSpec,
    SandboxUsed,
    TrialEnded,
    fact_from_json,
    fact_to_json,
)
from scalerl_lab.rl.checkpoint import CheckpointWriter, load_tensors, newest_of_run
from scalerl_lab.rl.checkpoint_index import Checkpoint, checkpoints_of, name_of
from scalerl_lab.rl.difficulty import left_out
from scalerl_lab.rl.evaluate import Evaluated, Evaluator
from scalerl_lab.rl.meter import Clock, ModelShape, Pace
from scalerl_lab.rl.rollout import NoBatch, Rollout, curriculum_of
from scalerl_lab.rl.update import Tally, Trainer
from scalerl_lab.rl.warm_start import Start, start_policy
from scalerl_lab.tasks import TaskSet, build_tasks, close_shared_pools

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    from scalerl_lab.rl import Supervisor


def train(spec: RunSpec, folder: Path, cache: Path, trial: int, supervisor: Supervisor) -> TrialEnded:
    """The loop behind ``scalerl_lab.rl.train``, which documents it."""
    try:
        return _train(spec, folder, cache, trial, supervisor)
    finally:
        close_shared_pools()


def _train(spec: RunSpec, folder: Path, cache: Path, trial: int, supervisor: Supervisor) -> TrialEnded:
    require_supported(spec.recipe.engine, spec.recipe.model)
    if not torch.cuda.is_available():
        # One thread: sums are added in one order, and two runs share two cores.
        torch.set_num_threads(1)
    checkpoint = newest_of_run(folder, spec.run_id)
    tasks = build_tasks(spec.recipe.tasks, spec.recipe.model)
    if tasks.isolation is not None:
        supervisor.emit(SandboxUsed(trial, time.time(), **asdict(tasks.isolation)))
    if checkpoint is None:
        curriculum_of(spec.recipe, tasks, spec.seed)  # refused before a warm start is paid for
        start = start_policy(spec.recipe, tasks, spec.run_id, spec.seed, cache)
        run = _Run(spec, tasks, start.policy, folder, trial, supervisor)
        run.begin(start)
    else:
        policy = build_policy(spec.recipe.model, tasks.tokenizer.size, spec.seed)
        run = _Run(spec, tasks, policy, folder, trial, supervisor)
        run.resume(checkpoint)
    reason = run.go_on()
    ended = TrialEnded(trial, time.time(), run.step, run.clock.gpu_hours, reason, run.detail)
    supervisor.emit(ended)
    return ended


class _Run:
    """The state of a run between two steps."""

    def __init__(
        self,
        spec: RunSpec,
        tasks: TaskSet,
        policy: LlamaForCausalLM,
        folder: Path,
        trial: int,
        supervisor: Supervisor,
    ) -> None:
        self._spec = spec
        self._recipe = spec.recipe
        self._tasks = tasks
        self._policy = policy
        self._folder = folder
        self._trial = trial
        self._supervisor = supervisor
        numerics = spec.recipe.numerics
        self._rollout = Rollout(spec.recipe, tasks, policy, spec.seed)
        self._evaluator = Evaluator(spec.recipe, tasks, policy, spec.seed)
        self._shape = ModelShape(
            matrix_params(policy), policy.config.num_hidden_layers, policy.config.hidden_size
        )
        self._learner = TorchLearner(policy, spec.recipe.optimizer, numerics.trainer_head)
        self._trainer = Trainer(spec.recipe, self._learner, self._shape)
        self.step = 0
        self.clock = self._new_clock()
        """Training compute so far: the x-axis."""
        self.detail = ""
        self._tally = Tally()
        self._pace = Pace()
        self._saved_step = 0
        self._saved_clock = self._new_clock()
        """The training compute of the newest checkpoint."""

    # ------------------------------------------------------------ beginning

    def begin(self, start: Start) -> None:
        """From the warm start: the first point, and the bill if this run built it."""
        if start.built_by == self._spec.run_id:
            spent = replace(self._new_clock(), flops=start.flops, wall_s=start.wall_s)
            self._supervisor.emit(self._entry(LedgerKind.WARM_START, spent, 0, 0))
        self._filter_by_difficulty()
        self._measure_and_save(on_schedule=True)

    def _filter_by_difficulty(self) -> None:
        """Leave out training prompts as the recipe says; the checkpoint of step 0 remembers which."""
        began = time.perf_counter()
        prompts, work = left_out(self._recipe, self._tasks, self._policy, self._spec.seed)
        if not work.tokens:
            return
        self._rollout.leave_out(prompts)
        spent = self._new_clock()
        spent.flops = self._shape.forward_flops(work.tokens, work.attended)
        spent.wall_s = time.perf_counter() - began
        self._supervisor.emit(self._entry(LedgerKind.DIFFICULTY, spent, 0, 0))

    def resume(self, checkpoint: Checkpoint) -> None:
        """From a checkpoint, whose facts are told again."""
        state = checkpoint.state
        self.step = self._saved_step = checkpoint.step
        for clock in (self.clock, self._saved_clock):
            clock.flops, clock.wall_s = state["clock"]["flops"], state["clock"]["wall_s"]
        self._tally = Tally(**state["tally"])
        self._pace = Pace(**state["pace"])
        self._policy.load_state_dict(load_tensors(checkpoint, "policy"))
        self._learner.load_optimizer_tensors(load_tensors(checkpoint, "optimizer"))
        self._rollout.load(state["rollout"], load_tensors(checkpoint, "rollout"))
        frozen = load_tensors(checkpoint, "frozen") if self._trainer.tensors() else {}
        self._trainer.load(state["trainer"], frozen)
        for written in state["facts"]:
            self._supervisor.emit(fact_from_json(written))
        self._supervisor.emit(self._saved_fact(checkpoint))

    # ------------------------------------------------------------ going on

    def go_on(self) -> EndReason:
        """Steps, until the grant is used, a stop is asked for, or no step can be taken."""
        while True:
            if self._supervisor.stop_requested():
                return self._abandon(EndReason.STOPPED)
            if self.clock.gpu_hours >= self._supervisor.granted_gpu_hours():
                if self._saved_step == self.step:
                    return EndReason.GRANT_REACHED
                self._measure_and_save(on_schedule=False)
                continue
            reason = self._take_step()
            if reason is EndReason.NON_FINITE:
                return self._abandon(reason)
            if reason is not None:
                if self._saved_step != self.step:
                    self._measure_and_save(on_schedule=False)
                return reason
            self._supervisor.beat(self.step, self.clock.gpu_hours, self.clock.flops)
            if self.step % self._recipe.evaluation.every_steps == 0:
                self._measure_and_save(on_schedule=True)

    def _take_step(self) -> EndReason | None:
        """Generate a rollout and take its steps; a reason where that cannot be done."""
        began = time.perf_counter()
        self._rollout.sampler.work = Work()
        batch = self._recipe.batch
        rewarded_s = self._rollout.reward_s
        with self._pace.timed("generation_s"):
            verified = self._rollout.next_batch(self.step // batch.steps_per_rollout)
        work = self._rollout.sampler.work
        flops = self._shape.forward_flops(work.tokens, work.attended)
        if isinstance(verified, NoBatch):
            self.detail = verified.detail
            if flops:
                spent = replace(self._new_clock(), flops=flops, wall_s=time.perf_counter() - began)
                self._supervisor.emit(self._entry(LedgerKind.LOST, spent, self.step, self.step + 1))
            return verified.reason
        trained_before = self._tally.tokens
        with self._pace.timed("update_s"):
            trained = self._trainer.train_on(verified, self.step, self._tally)
        if trained is None:
            self.detail = f"the loss or a gradient is not finite, in the rollout of step {self.step + 1}"
            return EndReason.NON_FINITE
        self.step += batch.steps_per_rollout
        self.clock.flops += flops + trained
        wall_s = time.perf_counter() - began
        self.clock.wall_s += wall_s
        self._pace.whole_s += wall_s
        self._pace.reward_s += self._rollout.reward_s - rewarded_s
        self._pace.tokens += int(verified.completions.num_tokens_B.sum())
        self._pace.trained += self._tally.tokens - trained_before
        return None

    def _abandon(self, reason: EndReason) -> EndReason:
        """Bill the steps since the checkpoint, which a later attempt would have to take again."""
        if self.step > self._saved_step:
            self._supervisor.emit(
                self._entry(LedgerKind.LOST, self._since_saved(), self._saved_step, self.step)
            )
        return reason

    # ------------------------------------------------------------ measuring and saving

    def _measure_and_save(self, *, on_schedule: bool) -> None:
        """Evaluate, write a checkpoint that holds what is to be told, then tell it."""
        # Where the grant is used or no prompt is left, the run ends for now.
        ends = not on_schedule or self.clock.gpu_hours >= self._supervisor.granted_gpu_hours()
        facts, pass_rate = self._measure(last=ends)
        if on_schedule:
            # A point off schedule leaves the sums alone, so that the next one on schedule is the same
            # whether or not the run was granted its hours in parts.
            self._tally, self._pace = Tally(), Pace()
            self._trainer.measured(self.step, pass_rate)
        checkpoint = self._save(facts)
        self._saved_step = self.step
        self._saved_clock = replace(self.clock)
        for fact in (*facts, self._saved_fact(checkpoint)):
            self._supervisor.emit(fact)

    def _measure(self, *, last: bool) -> tuple[list[Fact], float]:
        """The facts of a point, and its pass rate."""
        began = time.perf_counter()
        found = self._evaluator.measure(self.step, last=last)
        spent = self._new_clock()
        spent.flops = self._shape.forward_flops(found.work.tokens, found.work.attended)
        spent.wall_s = time.perf_counter() - began
        facts: list[Fact] = [self._point(found, spent.wall_s), *self._beside(found)]
        if self.step > self._saved_step:
            facts.append(self._entry(LedgerKind.TRAIN, self._since_saved(), self._saved_step, self.step))
        facts.append(self._entry(LedgerKind.EVALUATE, spent, self.step, self.step))
        return facts, found.pass_rate

    def _beside(self, found: Evaluated) -> list[Fact]:
        """What was measured beside the point."""
        place: dict[str, Any] = {
            "trial": self._trial,
            "at": time.time(),
            "step": self.step,
            "gpu_hours": self.clock.gpu_hours,
        }
        named: list[Fact] = [Measurement(**place, **asdict(each)) for each in found.named]
        return named + [PassCounts(**place, **asdict(each)) for each in found.counted]

    def _point(self, found: Evaluated, evaluation_s: float) -> EvalPoint:
        return EvalPoint(
            trial=self._trial,
            at=time.time(),
            step=self.step,
            gpu_hours=self.clock.gpu_hours,
            pass_rate=found.pass_rate,
            pass_rate_se=found.pass_rate_se,
            num_prompts=found.num_prompts,
            num_samples=found.num_samples,
            truncation_rate=found.truncation_rate,
            mean_tokens=found.mean_tokens,
            entropy=found.entropy,
            flops=self.clock.flops,
            **self._tally.means(),
            **self._pace.means(evaluation_s),
        )

    def _save(self, facts: list[Fact]) -> Checkpoint:
        """Write a checkpoint; its own cost joins ``facts``, and is counted until its state is sealed."""
        began = time.perf_counter()
        writer = CheckpointWriter(self._folder, self._spec.run_id, self.step)
        writer.add("policy", dict(self._policy.state_dict()))
        writer.add("optimizer", self._learner.optimizer_tensors())
        writer.add("rollout", self._rollout.sampler.tensors())
        if frozen := self._trainer.tensors():
            writer.add("frozen", frozen)
        spent = replace(self._new_clock(), wall_s=time.perf_counter() - began)
        facts.append(self._entry(LedgerKind.CHECKPOINT, spent, self.step, self.step))
        state: dict[str, Any] = {
            "clock": {"flops": self.clock.flops, "wall_s": self.clock.wall_s},
            "tally": asdict(self._tally),
            "pace": asdict(self._pace),
            "rollout": self._rollout.state(),
            "trainer": self._trainer.state(),
            "facts": [fact_to_json(fact) for fact in facts],
            "trial": self._trial,
            "at": time.time(),
        }
        return writer.seal(state)

    # ------------------------------------------------------------ facts

    def _new_clock(self) -> Clock:
        return Clock(self._spec.meter, max(self._recipe.resources.gpus, 1))

    def _since_saved(self) -> Clock:
        return replace(
            self.clock,
            flops=self.clock.flops - self._saved_clock.flops,
            wall_s=self.clock.wall_s - self._saved_clock.wall_s,
        )

    def _entry(self, kind: LedgerKind, spent: Clock, from_step: int, to_step: int) -> LedgerEntry:
        return LedgerEntry(
            trial=self._trial,
            at=time.time(),
            kind=kind,
            gpu_hours=spent.gpu_hours,
            wall_s=spent.wall_s,
            flops=spent.flops,
            from_step=from_step,
            to_step=to_step,
        )

    def _saved_fact(self, checkpoint: Checkpoint) -> CheckpointSaved:
        return CheckpointSaved(
            trial=checkpoint.state["trial"],
            at=checkpoint.state["at"],
            step=checkpoint.step,
            gpu_hours=self.clock.gpu_hours,
            path=str(checkpoints_of(Path()) / name_of(checkpoint.step)),
            digest=checkpoint.digest,
            num_bytes=checkpoint.num_bytes,
        )
