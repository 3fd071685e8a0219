"""A run whose responses are programs: how it isolates them is a fact, and its sandboxes end with it."""

from __future__ import annotations

from pathlib import Path

from scalerl_lab.records import EndReason, SandboxUsed
from scalerl_lab.tasks.sandbox import isolation_here, pool
from tests.rl.tiny import Recorder, run_to, tiny_recipe
from tests.tasks.sandbox.host import without_bwrap


@without_bwrap
def test_a_run_records_its_isolation_and_closes_its_pool(tmp_path: Path) -> None:
    recipe = tiny_recipe(
        tasks={
            "type": "prompt_files",
            "train": "data/sample_code.jsonl",
            "num_heldout": 2,
            "sandbox": {"workers": 1},
        },
        warm_start={"type": "none"},
        length_control={"type": "truncate"},
        evaluation={"every_steps": 4, "num_prompts": 2, "samples_per_prompt": 2},
    )
    recorder = Recorder(0.0)
    made: list[int] = []
    recorder.on_emit = lambda fact: made.append(len(pool._SHARED))
    ended = run_to(recorder, tmp_path, recipe)
    assert ended.reason is EndReason.GRANT_REACHED
    (used,) = [fact for fact in recorder.facts if isinstance(fact, SandboxUsed)]
    here = isolation_here("refuse")
    assert (used.trial, used.kind, used.own_user, used.seccomp, used.why) == (
        1, "bubblewrap", here.own_user, here.seccomp, "",
    )  # fmt: skip
    # None when the isolation was told, one while it measured, none after.
    assert made[0] == 0
    assert max(made) == 1
    assert not pool._SHARED
