"""Completions per second of generation plus update: our loop beside TRL's GRPOTrainer, in one process.

    python -m pip install 'scalerl-lab[trl]'
    python -m tests.rl.throughput --rounds 20

Both train from one warm start: the same Llama with the same weights, the same vocabulary and prompts, 16
prompts x 8 generations a step, at most 17 response tokens, ended by the same token, float32, fused AdamW at
the same rates, one thread. They take turns of 8 steps, so that a busy machine slows both. What the recipes
have and TRL has not is left out: interruptions, and a head in bfloat16.

TRL has settings that favour it: the whole batch in one forward and backward pass, no gradient
checkpointing, no reference model, nothing logged or saved, generation with a KV cache. Three schedules:

- ``alone``: ``grpo_tiny``, but one batch is generated, then trained on (TRL's ``steps_per_generation`` 1);
- ``together``: ``grpo_tiny``; eight batches are generated at once, then trained on one after the other (8).
  TRL then computes the old log-probabilities with one more pass forward; we have the sampler's;
- ``pipelined``: ``scalerl_tiny``, which generates while it trains and drops prompts without variance, beside
  TRL's CISPO, which has neither and takes batches alone.

Ours is what a run does between two evaluations: ``Rollout.next_batch`` and ``Trainer.train_on``, rewards
included, as they are in TRL's step.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from scalerl_lab.config.reading import read_recipe
from scalerl_lab.config.recipe import Recipe
from scalerl_lab.engines.learner import TorchLearner
from scalerl_lab.engines.policy import matrix_params
from scalerl_lab.rl.meter import ModelShape
from scalerl_lab.rl.rollout import NoBatch, Rollout
from scalerl_lab.rl.update import Tally, Trainer
from scalerl_lab.rl.warm_start import start_policy
from scalerl_lab.tasks import TaskSet, build_tasks

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

STEPS = 8
"""Optimiser steps of a turn: a whole round of generating eight batches and training on them."""
GRPO = {"loss_type": "grpo", "epsilon": 0.2}


@dataclass(frozen=True, slots=True)
class Schedule:
    """The same training in the words of both."""

    recipe: str
    changes: dict[str, Any]
    """Of the recipe."""
    settings: dict[str, Any]
    """Of TRL's configuration."""


SCHEDULES = {
    # On one batch alone every ratio is 1, and the recipe's clip, which could not act, is refused: CISPO's
    # gradient is then the same.
    "alone": Schedule(
        "grpo_tiny",
        {"off_policy": {"type": "sync"}, "loss": {"type": "cispo"}},
        {**GRPO, "steps_per_generation": 1},
    ),
    "together": Schedule(
        "grpo_tiny",
        {"off_policy": {"type": "ppo_off_policy", "k": STEPS}},
        {**GRPO, "steps_per_generation": STEPS},
    ),
    "pipelined": Schedule(
        "scalerl_tiny",
        {},
        {"loss_type": "cispo", "epsilon_high": 5.0, "scale_rewards": "batch", "steps_per_generation": 1},
    ),
}


@dataclass(slots=True)
class Turns:
    """What one side did, a number a turn."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """Response tokens."""

    def add(self, wall_s: float, cpu_s: float, tokens: int) -> None:
        """One more turn."""
        self.wall_s.append(wall_s)
        self.cpu_s.append(cpu_s)
        self.tokens.append(tokens)


class Watch:
    """Wall and processor seconds since it was made; one thread does all the work."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Seconds of both."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def recipe_of(schedule: str, prompts: int, generations: int) -> Recipe:
    """The recipe of a schedule with what TRL can do too, and the given batch."""
    found = read_recipe(SCHEDULES[schedule].recipe).model_dump(mode="json")
    plain = {
        "batch": found["batch"] | {"prompts_per_step": prompts},
        "sampling": found["sampling"] | {"generations_per_prompt": generations},
        "length_control": {"type": "truncate"},
        "numerics": {"trainer_head": "fp32", "generator_head": "fp32"},
    }
    return Recipe.model_validate(found | plain | SCHEDULES[schedule].changes)


class Ours:
    """Our loop, without evaluations and checkpoints."""

    def __init__(self, recipe: Recipe, tasks: TaskSet, policy: LlamaForCausalLM) -> None:
        self._rollout = Rollout(recipe, tasks, policy, seed=0)
        shape = ModelShape(matrix_params(policy), recipe.model.layers, recipe.model.width)
        learner = TorchLearner(policy, recipe.optimizer, recipe.numerics.trainer_head)
        self._trainer = Trainer(recipe, learner, shape)
        self._step = 0
        self.turns = Turns()

    def take_turn(self) -> None:
        """``STEPS`` optimiser steps."""
        watch, tokens = Watch(), 0
        for _ in range(STEPS):
            verified = self._rollout.next_batch(self._step)
            assert not isinstance(verified, NoBatch), verified
            assert self._trainer.train_on(verified, self._step, Tally()) is not None
            self._step += 1
            tokens += int(verified.completions.num_tokens_B.sum())
        self.turns.add(*watch.read(), tokens)


def fast_tokenizer(tasks: TaskSet) -> Any:
    """Our vocabulary as transformers knows tokenizers: words between spaces, with the same ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {tasks.tokenizer.decode([place]): place for place in range(tasks.tokenizer.size)}
    fast = Tokenizer(models.WordLevel(words, unk_token=None))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {place: word for word, place in words.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token=names[tasks.tokenizer.pad_id],
        eos_token=names[tasks.tokenizer.end_id],
        padding_side="left",
    )


def train_theirs(
    recipe: Recipe,
    tasks: TaskSet,
    policy: LlamaForCausalLM,
    settings: dict[str, Any],
    rounds: int,
    between: Callable[[], None],
) -> Turns:
    """TRL's trainer for ``rounds`` turns, with ``between`` after each, outside its time."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    turns, written = Turns(), 0
    tokenizer, rows = fast_tokenizer(tasks), range(len(tasks.train))
    prompts = [tasks.tokenizer.decode(tasks.train[row].prompt) for row in rows]
    assert tuple(tokenizer(prompts[0])["input_ids"]) == tuple(tasks.train[0].prompt)

    def reward(completion_ids: list[list[int]], row: list[int], **_: Any) -> list[float]:
        nonlocal written
        written += sum(map(len, completion_ids))
        found = tasks.verdicts([tasks.train[each] for each in row], completion_ids)
        return [2.0 * verdict.score - 1.0 for verdict in found]

    class Alternate(TrainerCallback):  # type: ignore[misc]
        """Ends a turn of TRL's after every ``STEPS`` steps, and gives us ours."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self._watch = Watch()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            nonlocal written
            if state.global_step % STEPS == 0:
                turns.add(*self._watch.read(), written)
                written = 0
                between()
                self._watch = Watch()

    batch = recipe.batch.prompts_per_step * recipe.sampling.generations_per_prompt
    optimizer = recipe.optimizer
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            max_steps=rounds * STEPS,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=1,
            num_generations=recipe.sampling.generations_per_prompt,
            max_completion_length=recipe.sampling.longest_response_tokens,
            temperature=recipe.sampling.temperature,
            beta=0.0,
            **settings,
            gradient_checkpointing=False,
            learning_rate=optimizer.lr,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=optimizer.warmup_steps,
            adam_beta1=optimizer.beta1,
            adam_beta2=optimizer.beta2,
            adam_epsilon=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            max_grad_norm=optimizer.grad_clip,
            optim="adamw_torch_fused",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=policy,
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": prompts, "row": list(rows)}),
            processing_class=tokenizer,
            callbacks=[Alternate()],
        )
        trainer.train()
    return turns


def compare(schedule: str, recipe: Recipe, rounds: int, cache: Path) -> tuple[Turns, Turns]:
    """Turns of ours and of TRL's, in alternation; the first of each, in which caches are filled, left out.

    Args:
        schedule: a key of ``SCHEDULES``.
        recipe: its recipe.
        rounds: turns of each side that are kept.
        cache: folder of warm starts.
    """
    tasks = build_tasks(recipe.tasks, recipe.model)
    policy = start_policy(recipe, tasks, "timed", 0, cache).policy
    ours, peer = Ours(recipe, tasks, copy.deepcopy(policy)), copy.deepcopy(policy)
    settings = SCHEDULES[schedule].settings
    theirs = train_theirs(recipe, tasks, peer, settings, rounds + 1, ours.take_turn)
    for turns in (ours.turns, theirs):
        for values in (turns.wall_s, turns.cpu_s, turns.tokens):
            del values[0]
    return ours.turns, theirs


def told(schedule: str, recipe: Recipe, ours: Turns, theirs: Turns) -> list[str]:
    """Lines of the comparison: medians over turns, the ratio turn by turn."""
    completions = STEPS * recipe.batch.prompts_per_step * recipe.sampling.generations_per_prompt
    lines = []
    for name, turns in (("ours", ours), ("TRL", theirs)):
        wall_s, cpu_s = statistics.median(turns.wall_s), statistics.median(turns.cpu_s)
        length = sum(turns.tokens) / len(turns.tokens) / completions
        lines.append(
            f"{schedule:9} {name:5} {completions / wall_s:7.0f} completions/s by the clock, "
            f"{completions / cpu_s:7.0f} per processor second, {length:.1f} tokens each"
        )
    for name, one, other in (
        ("by the clock", ours.wall_s, theirs.wall_s),
        ("per processor second", ours.cpu_s, theirs.cpu_s),
    ):
        ratios = sorted(slow / fast for fast, slow in zip(one, other, strict=True))
        low, *_, high = statistics.quantiles(ratios, n=10, method="inclusive")
        lines.append(
            f"{schedule:9} ratio {statistics.median(ratios):.2f} {name}; "
            f"80 % of {len(ratios)} turns within {low:.2f} to {high:.2f}"
        )
    return lines


@click.command()
@click.option(
    "--rounds", type=click.IntRange(min=2), default=20, show_default=True, help="Turns of each side."
)
@click.option("--schedule", type=click.Choice([*SCHEDULES]), multiple=True, default=[*SCHEDULES])
@click.option("--prompts", type=click.IntRange(min=1), default=16, show_default=True, help="Of a step.")
@click.option("--generations", type=click.IntRange(min=2), default=8, show_default=True, help="Of a prompt.")
def main(rounds: int, schedule: tuple[str, ...], prompts: int, generations: int) -> None:
    """Print completions per second of both, and the ratio with its spread over turns."""
    try:
        import trl
    except ImportError:
        raise click.ClickException(
            "TRL is not installed; it is an optional extra: python -m pip install 'scalerl-lab[trl]'"
        ) from None
    torch.set_num_threads(1)
    batch = f"{prompts} prompts x {generations} generations a step"
    click.echo(f"TRL {trl.__version__}, torch {torch.__version__}, one thread, {batch}")
    with tempfile.TemporaryDirectory() as cache:
        for name in schedule:
            recipe = recipe_of(name, prompts, generations)
            for line in told(name, recipe, *compare(name, recipe, rounds, Path(cache))):
                click.echo(line)


if __name__ == "__main__":
    main()
