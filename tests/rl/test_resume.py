"""Killed anywhere and resumed, a run is bit for bit the run that never stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scalerl_lab.errors import CheckpointError
from scalerl_lab.records import EvalPoint, LedgerKind
from scalerl_lab.rl import train
from scalerl_lab.rl.checkpoint_index import newest_whole, resumable_step
from tests.rl.tiny import Killed, Recorder, numbers_of, run_to, spec_of, tiny_recipe

GRANT = 45.0
SCHEDULES = [
    {"type": "pipeline", "max_lag": 3},
    {"type": "ppo_off_policy", "k": 3},
    {"type": "sync"},
]


@pytest.fixture(scope="module", params=SCHEDULES, ids=lambda each: each["type"])
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, object], Recorder, Path]:
    root = tmp_path_factory.mktemp("undisturbed")
    recorder = Recorder(GRANT)
    run_to(recorder, root, tiny_recipe(off_policy=request.param))
    return request.param, recorder, root


@pytest.mark.parametrize("kills", [(1,), (4,), (5, 7, 9)], ids=str)
def test_killed_after_any_step_the_curve_is_the_same(
    undisturbed: tuple[dict[str, object], Recorder, Path], tmp_path: Path, kills: tuple[int, ...]
) -> None:
    schedule, whole, _ = undisturbed
    recipe = tiny_recipe(off_policy=schedule)
    broken = Recorder(GRANT)
    for trial, step in enumerate(kills, 1):
        broken.kill_at = step
        with pytest.raises(Killed):
            run_to(broken, tmp_path, recipe, trial)
    run_to(broken, tmp_path, recipe, len(kills) + 1)
    assert numbers_of(broken.points) == numbers_of(whole.points)
    trained = broken.entries(LedgerKind.TRAIN)
    assert [e.flops for e in trained] == [e.flops for e in whole.entries(LedgerKind.TRAIN)]


def test_weights_and_all_that_is_in_flight_end_up_the_same(
    undisturbed: tuple[dict[str, object], Recorder, Path], tmp_path: Path
) -> None:
    schedule, _, root = undisturbed
    broken = Recorder(GRANT, kill_at=6)
    with pytest.raises(Killed):
        run_to(broken, tmp_path, tiny_recipe(off_policy=schedule))
    run_to(broken, tmp_path, tiny_recipe(off_policy=schedule), 2)
    mine, theirs = newest_whole(tmp_path / "run"), newest_whole(root / "run")
    assert mine is not None
    assert theirs is not None
    for name in ("policy", "optimizer"):
        file = f"{name}.safetensors"
        assert mine.state["files"][file] == theirs.state["files"][file]
    assert mine.state["rollout"] == theirs.state["rollout"]
    assert mine.state["tally"] == theirs.state["tally"]


def test_a_point_saved_but_not_told_is_told_after_the_crash(tmp_path: Path) -> None:
    recorder = Recorder(GRANT)

    def die_untold(fact: object) -> None:
        if isinstance(fact, EvalPoint) and fact.step == 8:
            recorder.facts = [each for each in recorder.facts if each is not fact]
            recorder.on_emit = lambda fact: None
            raise Killed

    recorder.on_emit = die_untold
    with pytest.raises(Killed):
        run_to(recorder, tmp_path, tiny_recipe())
    assert [point.step for point in recorder.points] == [0, 4]
    assert resumable_step(tmp_path / "run") == 8
    run_to(recorder, tmp_path, tiny_recipe(), 2)
    steps = [point.step for point in recorder.points]
    assert steps[:4] == [0, 4, 8, 12]
    assert len(set(steps)) == len(steps)
    assert [e.to_step for e in recorder.entries(LedgerKind.TRAIN)] == steps[1:]
    assert [p.trial for p in recorder.points[:4]] == [1, 1, 1, 2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    recorder = Recorder(GRANT)
    run_to(recorder, tmp_path_factory.mktemp("whole"), tiny_recipe())
    return recorder


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "half_state", "wrong_name"])
def test_a_torn_checkpoint_is_passed_over_for_the_one_before(
    whole: Recorder, tmp_path: Path, damage: str
) -> None:
    recorder = Recorder(GRANT, kill_at=10)
    with pytest.raises(Killed):
        run_to(recorder, tmp_path, tiny_recipe())
    newest = tmp_path / "run" / "checkpoints" / "step-00000008"
    weights, state = newest / "policy.safetensors", newest / "state.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "flipped":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    elif damage == "missing":
        weights.unlink()
    elif damage == "half_state":
        state.write_text(state.read_text()[:100])
    else:
        newest.rename(newest.with_name("step-00000099"))
    assert resumable_step(tmp_path / "run") == 4
    run_to(recorder, tmp_path, tiny_recipe(), 2)
    assert numbers_of(recorder.points) == numbers_of(whole.points)


def test_a_checkpoint_half_written_is_not_seen_and_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "run" / "checkpoints" / ".writing-step-00000004"
    left.mkdir(parents=True)
    (left / "policy.safetensors").write_bytes(b"half")
    assert resumable_step(tmp_path / "run") == 0
    run_to(Recorder(10.0), tmp_path, tiny_recipe())
    assert not left.exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run_to(Recorder(5.0), tmp_path, tiny_recipe())
    with pytest.raises(CheckpointError, match="belongs to run cafe, but this folder is to hold run beef"):
        train(spec_of(tiny_recipe(), 0, "beef"), tmp_path / "run", tmp_path / "cache", 1, Recorder(9.0))


def test_a_finished_run_started_again_does_nothing_but_say_so(tmp_path: Path) -> None:
    recorder = Recorder(10.0)
    first = run_to(recorder, tmp_path, tiny_recipe())
    facts = len(recorder.facts)
    again = run_to(recorder, tmp_path, tiny_recipe(), 2)
    assert (again.step, again.gpu_hours, again.reason) == (first.step, first.gpu_hours, first.reason)
    assert recorder.facts[facts:] == [again]


def test_the_newest_step_is_found_without_torch(tmp_path: Path) -> None:
    run_to(Recorder(5.0), tmp_path, tiny_recipe())
    code = (
        "import sys; from pathlib import Path; from scalerl_lab.rl.checkpoint_index import resumable_step;"
        "print(resumable_step(Path(sys.argv[1])), 'torch' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [str(resumable_step(tmp_path / "run")), "False"]
