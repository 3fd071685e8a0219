"""The shared start: learned, cached by content, built once by whoever comes first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from scalerl_lab.engines.policy import build_policy
from scalerl_lab.errors import RunFailed
from scalerl_lab.rl.evaluate import Evaluator
from scalerl_lab.rl.warm_start import content_key, start_policy
from scalerl_lab.tasks import build_tasks
from tests.rl.tiny import tiny_recipe


def built(root: Path, run_id: str = "one", **changes: object):  # type: ignore[no-untyped-def]
    recipe = tiny_recipe(**changes)
    return start_policy(recipe, build_tasks(recipe.tasks), run_id, 0, root)


def test_a_start_is_built_once_and_says_who_paid(tmp_path: Path) -> None:
    first, second = built(tmp_path), built(tmp_path, "two")
    assert (first.built_by, second.built_by) == ("one", "one")
    assert first.flops == second.flops > 0
    mine, theirs = first.policy.state_dict(), second.policy.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert len(list((tmp_path / "warm_start").glob("*.safetensors"))) == 1


def test_the_start_has_learned(tmp_path: Path) -> None:
    longer = {"type": "demonstrations", "steps": 150, "demonstrations_per_step": 32, "lr": 1e-2}
    recipe = tiny_recipe(warm_start=longer)
    tasks = build_tasks(recipe.tasks)
    fresh = Evaluator(recipe, tasks, build_policy(recipe.model, tasks.tokenizer.size, 0), 0).measure(0)
    start = Evaluator(recipe, tasks, built(tmp_path, warm_start=longer).policy, 0).measure(0)
    assert start.pass_rate > fresh.pass_rate + 0.2
    assert start.entropy < fresh.entropy - 0.5


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"sampling": {"generations_per_prompt": 2, "max_response_tokens": 5}}, True),
        ({"off_policy": {"type": "sync"}}, True),
        ({"name": "other", "about": "prose"}, True),
        ({"model": {"type": "llama", "layers": 2, "width": 16, "heads": 2, "mlp_width": 16}}, False),
        ({"warm_start": {"type": "demonstrations", "steps": 61}}, False),
    ],
    ids=str,
)
def test_the_key_is_of_model_tasks_and_warm_start_alone(changes: dict[str, object], same: bool) -> None:
    assert (content_key(tiny_recipe(**changes)) == content_key(tiny_recipe())) is same


def test_without_a_warm_start_the_runs_seed_decides(tmp_path: Path) -> None:
    start = built(tmp_path, warm_start={"type": "none"})
    assert (start.built_by, start.flops) == ("", 0)
    assert not list(tmp_path.iterdir())
    recipe = tiny_recipe(warm_start={"type": "none"})
    other = start_policy(recipe, build_tasks(recipe.tasks), "one", 1, tmp_path)
    assert not torch.equal(start.policy.lm_head.weight, other.policy.lm_head.weight)


def test_a_start_that_diverges_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    wild = {"type": "demonstrations", "steps": 60, "demonstrations_per_step": 4, "lr": 1e30}
    with pytest.raises(RunFailed, match="diverged at step"):
        built(tmp_path, warm_start=wild)
    assert not list((tmp_path / "warm_start").glob("*.safetensors"))


def test_runs_that_start_together_build_it_once(tmp_path: Path) -> None:
    # The lock belongs to an open file, so two threads compete for it as two processes do.
    with ThreadPoolExecutor(2) as pool:
        starts = list(pool.map(lambda run_id: built(tmp_path, run_id), "ab"))
    assert starts[0].built_by == starts[1].built_by
    files = sorted(path.suffix for path in (tmp_path / "warm_start").iterdir())
    assert files == [".lock", ".safetensors"]
