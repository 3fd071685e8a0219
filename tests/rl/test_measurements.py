"""What is measured beside the points: when, of what, and that it changes nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from scalerl_lab.fit import pass_at_k
from scalerl_lab.records import LedgerKind, Measurement, PassCounts
from scalerl_lab.rl.checkpoint_index import newest_whole
from scalerl_lab.rl.evaluate import (
    Counted,
    Named,
    Outcome,
    domain_rates,
    pass_counts,
    pass_rates_at_k,
    sampling_error,
)
from scalerl_lab.tasks import Problem
from tests.rl.tiny import Killed, Recorder, numbers_of, run_to, tiny_recipe

GRANT = 45.0
TASKS = tiny_recipe().tasks.model_dump() | {
    "downstream": {"longer": {"min_steps": 7, "max_steps": 8, "num_prompts": 6}}
}
EVALUATION: dict[str, Any] = {
    "every_steps": 4,
    "num_prompts": 8,
    "samples_per_prompt": 2,
    "downstream": {"every_steps": 4, "samples_per_prompt": 2, "max_response_tokens": 20},
    "boundary": {"every_steps": 8, "num_prompts": 5, "samples_per_prompt": 8, "max_k": 4},
    "ngram_overlap": {"every_steps": 8, "min_length": 2, "max_length": 3},
}


def everything() -> Any:
    """The tiny recipe with all that can be asked for."""
    return tiny_recipe(tasks=TASKS, evaluation=EVALUATION)


def beside(recorder: Recorder) -> list[Measurement | PassCounts]:
    """Measurements and counts without the attempt and the time they were made in."""
    return [
        dataclasses.replace(fact, trial=0, at=0.0)
        for fact in recorder.facts
        if isinstance(fact, Measurement | PassCounts)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorder, Path]:
    root = tmp_path_factory.mktemp("whole")
    recorder = Recorder(GRANT)
    run_to(recorder, root, everything())
    return recorder, root


def test_training_and_points_are_the_same_bit_for_bit_whatever_else_is_measured(
    whole: tuple[Recorder, Path], tmp_path: Path
) -> None:
    asked, root = whole
    plain = Recorder(GRANT)
    run_to(plain, tmp_path, tiny_recipe())
    assert beside(plain) == []
    assert numbers_of(asked.points) == numbers_of(plain.points)
    mine, theirs = newest_whole(root / "run"), newest_whole(tmp_path / "run")
    assert mine is not None
    assert theirs is not None
    for name in ("policy", "optimizer", "rollout"):
        file = f"{name}.safetensors"
        assert mine.state["files"][file] == theirs.state["files"][file]
    # It is billed as evaluation, in the one entry of its step.
    more, less = (each.entries(LedgerKind.EVALUATE) for each in (asked, plain))
    assert [e.to_step for e in more] == [e.to_step for e in less]
    assert all(a.flops > b.flops for a, b in zip(more, less, strict=True))
    trained = [[e.flops for e in each.entries(LedgerKind.TRAIN)] for each in (asked, plain)]
    assert trained[0] == trained[1]


def test_each_is_measured_at_its_cadence_and_where_the_grant_is_used(whole: tuple[Recorder, Path]) -> None:
    asked, _ = whole
    steps = [point.step for point in asked.points]
    last = steps[-1]
    told = beside(asked)
    of_set = [f.step for f in told if isinstance(f, Measurement) and f.problem_set == "longer"]
    assert sorted(set(of_set)) == steps
    counted = [f for f in told if isinstance(f, PassCounts) and f.problem_set == "heldout"]
    assert [f.step for f in counted] == sorted({step for step in steps if step % 8 == 0} | {last})
    overlap = [f for f in told if isinstance(f, Measurement) and f.metric == "ngram_overlap"]
    assert [f.step for f in overlap] == [f.step for f in counted]
    assert overlap[0].num_samples == 8 * 2 * 4
    assert all(0.0 < f.value <= 1.0 for f in overlap)
    # Chains of seven steps, worked, need 17 tokens; training allows 10.
    tokens = [f.value for f in told if isinstance(f, Measurement) and f.metric == "mean_tokens"]
    assert max(tokens) > 10.0


def test_pass_at_k_is_recomputed_from_the_counts(whole: tuple[Recorder, Path]) -> None:
    told = beside(whole[0])
    counts = [fact for fact in told if isinstance(fact, PassCounts)]
    assert {(f.problem_set, len(f.passed)) for f in counts} == {("heldout", 5), ("longer", 5)}
    for fact in counts:
        value_PK = pass_at_k(8, fact.passed, (1, 2, 4))
        for place, k in enumerate((1, 2, 4)):
            (found,) = (
                f
                for f in told
                if isinstance(f, Measurement)
                and (f.step, f.problem_set, f.metric) == (fact.step, fact.problem_set, f"pass_at_{k}")
            )
            assert found.value == pytest.approx(value_PK[:, place].mean())
            assert (found.num_prompts, found.num_samples) == (5, 40)


@pytest.mark.parametrize("kills", [(5,), (8, 10)], ids=str)
def test_after_a_crash_nothing_is_doubled_or_lost(
    whole: tuple[Recorder, Path], tmp_path: Path, kills: tuple[int, ...]
) -> None:
    broken = Recorder(GRANT)
    for trial, step in enumerate(kills, 1):
        broken.kill_at = step
        with pytest.raises(Killed):
            run_to(broken, tmp_path, everything(), trial)
    run_to(broken, tmp_path, everything(), len(kills) + 1)
    assert beside(broken) == beside(whole[0])


# ------------------------------------------------------------ by hand


def outcome(domains: str, passed: list[list[float]]) -> Outcome:
    problems = tuple(Problem((place,), (0,), domain) for place, domain in enumerate(domains))
    passed_PK = torch.tensor(passed, dtype=torch.float64)
    return Outcome(problems, passed_PK, passed_PK, 0.0, 1.0, 0.0, [])


def test_domains_have_rates_and_counts_of_their_own() -> None:
    drawn = outcome("mcm", [[1, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0]])
    error = sampling_error(torch.tensor([0.75, 0.25]), 4)
    assert domain_rates("heldout", drawn) == [
        Named("heldout", "c", "pass_rate", 0.25, pytest.approx(0.25), 1, 4),
        Named("heldout", "m", "pass_rate", 0.5, pytest.approx(error), 2, 8),
    ]
    parts = pass_counts("heldout", drawn, 2)
    assert parts == [
        Counted("heldout", "c", 4, 2, (1,)),
        Counted("heldout", "m", 4, 2, (3, 1)),
    ]
    found = {(each.domain, each.metric): each.value for each in pass_rates_at_k("heldout", parts)}
    # c = 1 of 4: pass@2 = 1/2. c = 3 of 4: 1.
    assert found == {
        ("c", "pass_at_1"): pytest.approx(0.25),
        ("c", "pass_at_2"): pytest.approx(0.5),
        ("m", "pass_at_1"): pytest.approx(0.5),
        ("m", "pass_at_2"): pytest.approx(0.75),
        ("", "pass_at_1"): pytest.approx(5 / 12),
        ("", "pass_at_2"): pytest.approx(2 / 3),
    }


def test_a_set_of_one_kind_has_no_parts() -> None:
    drawn = outcome("mm", [[1, 0], [1, 1]])
    assert domain_rates("heldout", drawn) == []
    assert pass_counts("heldout", drawn, 2) == [Counted("heldout", "", 2, 2, (1, 2))]
