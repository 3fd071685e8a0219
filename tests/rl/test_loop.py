"""A run from start to end: its facts, its bill, and every way to end."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from scalerl_lab.errors import ConfigError, NotSupported
from scalerl_lab.records import (
    CheckpointSaved,
    EndReason,
    EvalPoint,
    LedgerEntry,
    LedgerKind,
    TrialEnded,
)
from scalerl_lab.rl import train
from tests.rl.tiny import FLOPS_PER_GPU_HOUR, Recorder, numbers_of, run_to, spec_of, tiny_recipe

GRANT = 45.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder, TrialEnded]:
    root = tmp_path_factory.mktemp("finished")
    recorder = Recorder(GRANT)
    return root, recorder, run_to(recorder, root, tiny_recipe())


def test_the_run_ends_when_its_grant_is_used(finished: tuple[Path, Recorder, TrialEnded]) -> None:
    _, recorder, ended = finished
    assert ended.reason is EndReason.GRANT_REACHED
    assert ended.gpu_hours >= GRANT
    assert recorder.facts[-1] == ended
    last, before = recorder.points[-1], recorder.steps[-2]
    assert last.step == ended.step == recorder.steps[-1]
    assert last.gpu_hours == ended.gpu_hours
    assert before == last.step - 1


def test_points_are_on_schedule_from_step_0_and_at_the_end(
    finished: tuple[Path, Recorder, TrialEnded],
) -> None:
    _, recorder, ended = finished
    steps = [point.step for point in recorder.points]
    assert steps == sorted({*range(0, ended.step + 1, 4), ended.step})
    first = recorder.points[0]
    assert (first.gpu_hours, first.flops, first.train_reward) == (0.0, 0, None)
    assert first.num_samples == 4 * 8 * 2
    for point in recorder.points[1:]:
        assert (point.num_prompts, point.num_samples) == (8, 16)
        assert point.gpu_hours == point.flops / FLOPS_PER_GPU_HOUR
        assert -1.0 <= point.train_reward <= 1.0
        assert 0.0 <= point.prompts_dropped <= 1.0
        assert 0.0 <= point.lag <= 3.0
        assert point.mismatch > 0.0


def test_each_point_is_saved_before_it_is_told(finished: tuple[Path, Recorder, TrialEnded]) -> None:
    root, recorder, _ = finished
    saved = [fact for fact in recorder.facts if isinstance(fact, CheckpointSaved)]
    assert [fact.step for fact in saved] == [point.step for point in recorder.points]
    kept = sorted(path.name for path in (root / "run" / "checkpoints").iterdir())
    assert kept == [Path(fact.path).name for fact in saved[-2:]]
    newest = root / "run" / saved[-1].path
    assert sum(file.stat().st_size for file in newest.iterdir()) == saved[-1].num_bytes


def test_the_bill_adds_up_and_no_entries_overlap(finished: tuple[Path, Recorder, TrialEnded]) -> None:
    _, recorder, ended = finished
    trained = recorder.entries(LedgerKind.TRAIN)
    assert sum(entry.flops for entry in trained) == recorder.points[-1].flops
    assert trained[0].from_step == 0
    assert trained[-1].to_step == ended.step
    assert all(one.to_step == two.from_step for one, two in itertools.pairwise(trained))
    assert len(recorder.entries(LedgerKind.EVALUATE)) == len(recorder.points)
    assert all(entry.flops > 0 for entry in recorder.entries(LedgerKind.EVALUATE))
    assert len(recorder.entries(LedgerKind.CHECKPOINT)) == len(recorder.points)
    assert all(entry.flops == 0 < entry.wall_s for entry in recorder.entries(LedgerKind.CHECKPOINT))
    assert [entry.flops > 0 for entry in recorder.entries(LedgerKind.WARM_START)] == [True]


def test_the_warm_start_is_billed_to_the_run_that_built_it_only(tmp_path: Path) -> None:
    builder, user = Recorder(1.0), Recorder(1.0)
    for run_id, recorder in (("cafe", builder), ("beef", user)):
        train(spec_of(tiny_recipe(), 0, run_id), tmp_path / run_id, tmp_path / "cache", 1, recorder)
    assert len(builder.entries(LedgerKind.WARM_START)) == 1
    assert not user.entries(LedgerKind.WARM_START)


def test_same_seed_same_curve_bit_for_bit(
    finished: tuple[Path, Recorder, TrialEnded], tmp_path: Path
) -> None:
    _, recorder, _ = finished
    again, other = Recorder(GRANT), Recorder(GRANT)
    run_to(again, tmp_path, tiny_recipe())
    assert numbers_of(again.points) == numbers_of(recorder.points)
    shutil.rmtree(tmp_path / "run")
    run_to(other, tmp_path, tiny_recipe(), seed=1)
    assert numbers_of(other.points)[1:] != numbers_of(recorder.points)[1:]


def test_hours_granted_in_parts_give_the_same_points_on_schedule(
    finished: tuple[Path, Recorder, TrialEnded], tmp_path: Path
) -> None:
    _, recorder, _ = finished
    parts = Recorder(GRANT * 0.5)
    first = run_to(parts, tmp_path, tiny_recipe())
    assert first.step % 4, "the first part should end off schedule for this test to say something"
    parts.granted = GRANT
    run_to(parts, tmp_path, tiny_recipe(), trial=2)
    mine = {point.step: point for point in numbers_of(parts.points)}
    assert all(mine[point.step] == point for point in numbers_of(recorder.points))
    assert set(mine) - {point.step for point in recorder.points} == {first.step}
    assert sum(entry.flops for entry in parts.entries(LedgerKind.TRAIN)) == parts.points[-1].flops


def test_a_grant_that_grows_while_the_run_goes_on_is_used(tmp_path: Path) -> None:
    recorder = Recorder(10.0)

    def extend(fact: object) -> None:
        if isinstance(fact, EvalPoint) and fact.gpu_hours >= 10.0:
            recorder.granted = 30.0

    recorder.on_emit = extend
    assert run_to(recorder, tmp_path, tiny_recipe()).gpu_hours >= 30.0


def test_a_stop_is_obeyed_at_once_and_the_rest_is_billed_as_lost(tmp_path: Path) -> None:
    recorder = Recorder(GRANT, stop_at=6)
    ended = run_to(recorder, tmp_path, tiny_recipe())
    assert (ended.reason, ended.step) == (EndReason.STOPPED, 6)
    assert recorder.points[-1].step == 4
    (lost,) = recorder.entries(LedgerKind.LOST)
    assert (lost.from_step, lost.to_step) == (4, 6)
    assert lost.flops / FLOPS_PER_GPU_HOUR + recorder.points[-1].gpu_hours == pytest.approx(ended.gpu_hours)


def test_a_loss_that_is_not_finite_ends_the_run_as_such(tmp_path: Path) -> None:
    recorder = Recorder(GRANT)
    wild = tiny_recipe(optimizer={"lr": 1e30, "warmup_steps": 0})
    ended = run_to(recorder, tmp_path, wild)
    assert ended.reason is EndReason.NON_FINITE
    assert "not finite" in ended.detail
    assert [point.step for point in recorder.points] == [0]


def test_a_curriculum_that_runs_dry_ends_the_run_after_what_is_in_flight(tmp_path: Path) -> None:
    recorder = Recorder(1e9)
    strict = tiny_recipe(curriculum={"type": "no_positive_resampling", "threshold": 0.01})
    ended = run_to(recorder, tmp_path, strict)
    assert ended.reason is EndReason.NO_PROMPTS
    assert "fewer than 4 prompts" in ended.detail
    assert recorder.points[-1].step == ended.step > 16


def test_every_entry_names_its_trial(finished: tuple[Path, Recorder, TrialEnded]) -> None:
    _, recorder, _ = finished
    assert {fact.trial for fact in recorder.facts if isinstance(fact, LedgerEntry)} == {1}


@pytest.mark.parametrize(("role", "asked"), [("generator", "vllm"), ("trainer", "deepspeed")])
def test_an_engine_this_version_lacks_is_refused_before_anything_is_built(
    tmp_path: Path, role: str, asked: str
) -> None:
    recipe = tiny_recipe(engine={role: asked}, resources={f"{role}_gpus": 1})
    with pytest.raises(NotSupported, match="allowed: torch"):
        run_to(Recorder(1.0), tmp_path, recipe)
    assert not list(tmp_path.iterdir())


def test_a_stage_that_cannot_be_filled_is_refused_before_the_warm_start(tmp_path: Path) -> None:
    few = tiny_recipe().tasks.model_dump() | {"num_train": 24}
    hardest = {"type": "uniform", "stages": [{"from_step": 0, "min_difficulty": 6}]}
    spec = spec_of(tiny_recipe(tasks=few, curriculum=hardest, batch={"prompts_per_step": 12}))
    with pytest.raises(ConfigError, match=r"curriculum\.stages\.0"):
        train(spec, tmp_path / "run", tmp_path / "cache", 1, Recorder(1.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": {"type": "ppo_clip"}},
        {"loss": {"type": "gspo"}},
        {"loss": {"type": "reinforce"}, "off_policy": {"type": "sync"}},
        {"off_policy": {"type": "ppo_off_policy", "k": 4}},
        {"aggregation": {"type": "sample"}, "advantage": {"type": "group_std"}},
        {"aggregation": {"type": "token"}, "advantage": {"type": "none"}},
        {"aggregation": {"type": "const"}},
        {"zero_variance": "keep"},
        {"curriculum": {"type": "uniform"}},
        {"length_control": {"type": "penalty", "window_fraction": 0.3}},
        {"length_control": {"type": "truncate"}},
        {"numerics": {"trainer_head": "bf16", "generator_head": "bf16"}},
        {"sampling": {"generations_per_prompt": 4, "max_response_tokens": 10, "temperature": 0.8}},
    ],
    ids=str,
)
def test_every_choice_runs_and_changes_the_curve(
    finished: tuple[Path, Recorder, TrialEnded], tmp_path: Path, changes: dict[str, object]
) -> None:
    _, control, _ = finished
    recorder = Recorder(15.0)
    assert run_to(recorder, tmp_path, tiny_recipe(**changes)).reason is EndReason.GRANT_REACHED
    until = min(len(recorder.points), len(control.points))
    assert numbers_of(recorder.points)[1:until] != numbers_of(control.points)[1:until]
