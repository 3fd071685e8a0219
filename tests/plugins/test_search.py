"""Proposals by Optuna's samplers: functions of what is known, inside the ranges, and better than chance."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest

from scalerl_lab.config.sweep import Search
from scalerl_lab.decide.search import Outcome
from scalerl_lab.plugins.search import propose

OVER: dict[str, Any] = {
    "optimizer.lr": {"low": 1e-6, "high": 1e-3, "scale": "log"},
    "loss.ratio_cap": {"low": 2.0, "high": 10.0},
    "sampling.generations_per_prompt": {"low": 8, "high": 32, "step": 8},
    "optimizer.beta2": {"low": 0.9, "high": 0.98, "step": 0.02},
}
METHODS: tuple[Literal["tpe", "gp", "random"], ...] = ("tpe", "gp", "random")


def search(**changes: Any) -> Search:
    return Search.model_validate({"over": OVER, "arms": 24, "startup": 3} | changes)


def told(question: Search, num: int, pending: int = 0) -> tuple[Outcome, ...]:
    """Outcomes at random places, the last of them without a value."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(num):
        values = propose(Search.model_validate(question.model_dump() | {"method": "random"}), (), number)
        value = None if number >= num - pending else float(rng.random())
        found.append(Outcome(number, tuple(sorted(values.items())), value))
    return tuple(found)


@pytest.mark.parametrize("method", METHODS)
def test_a_proposal_is_a_function_of_what_is_known(method: str) -> None:
    question = search(method=method)
    history = told(question, 10, pending=3)
    first = propose(question, history, 10)
    assert propose(question, history, 10) == first
    if method != "gp":  # its best place may be a corner, whatever the seed
        assert propose(question, history, 11) != first
        assert propose(search(method=method, seed=1), history, 10) != first
    if method != "random":
        assert propose(question, history[:-4], 10) != first


@pytest.mark.parametrize("method", METHODS)
def test_proposals_lie_in_their_ranges_and_on_their_steps(method: str) -> None:
    question = search(method=method)
    history: tuple[Outcome, ...] = ()
    for number in range(12):
        values = propose(question, history, number)
        assert 1e-6 <= values["optimizer.lr"] <= 1e-3
        assert 2.0 <= values["loss.ratio_cap"] <= 10.0
        assert values["sampling.generations_per_prompt"] in {8.0, 16.0, 24.0, 32.0}
        steps = (values["optimizer.beta2"] - 0.9) / 0.02
        assert steps == pytest.approx(round(steps), abs=1e-9)
        history += (Outcome(number, tuple(sorted(values.items())), values["loss.ratio_cap"]),)


def test_what_was_tried_is_not_proposed_again_while_there_is_something_else() -> None:
    over = {"sampling.generations_per_prompt": {"low": 2, "high": 16, "step": 2}}
    question = search(over=over, method="gp")
    history: tuple[Outcome, ...] = ()
    for number in range(9):
        values = propose(question, history, number)
        history += (Outcome(number, tuple(values.items()), 0.1 * values["sampling.generations_per_prompt"]),)
    counts = [dict(outcome.values)["sampling.generations_per_prompt"] for outcome in history]
    assert sorted(counts[:8]) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert counts[8] in counts[:8]


def test_another_process_proposes_the_same() -> None:
    code = (
        "from tests.plugins.test_search import search, told, propose\n"
        "print(propose(search(), told(search(), 9, pending=2), 9))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    question = search()
    assert done.stdout.strip() == str(propose(question, told(question, 9, pending=2), 9))


def test_a_log_scale_is_searched_by_ratio() -> None:
    question = search(method="random")
    low = sum(propose(question, (), number)["optimizer.lr"] < math.sqrt(1e-6 * 1e-3) for number in range(60))
    assert 15 <= low <= 45  # on a linear scale 3 % of draws would lie so low


def hilltop(values: dict[str, float]) -> float:
    """A pass rate with its top of 0.6 at a learning rate of 3e-5 and a cap of 5."""
    return (
        0.6
        - 0.08 * (math.log10(values["optimizer.lr"] / 3e-5)) ** 2
        - 0.01 * (values["loss.ratio_cap"] - 5) ** 2
    )


def best_of(method: str, seed: int, num: int = 24) -> float:
    over = {path: OVER[path] for path in ("optimizer.lr", "loss.ratio_cap")}
    question = search(method=method, over=over, seed=seed, startup=6)
    rng = np.random.default_rng(seed)
    history: tuple[Outcome, ...] = ()
    for number in range(num):
        values = propose(question, history, number)
        seen = hilltop(values) + 0.005 * rng.normal()
        history += (Outcome(number, tuple(sorted(values.items())), seen),)
    return max(hilltop(dict(outcome.values)) for outcome in history)


def test_a_sampler_that_learns_beats_chance() -> None:
    short = {method: [0.6 - best_of(method, seed) for seed in range(10)] for method in ("tpe", "random")}
    within = {method: sum(gap < 0.01 for gap in gaps) for method, gaps in short.items()}
    assert within["tpe"] >= 9
    assert within["tpe"] > within["random"]
    assert np.mean(short["tpe"]) < 0.5 * np.mean(short["random"])
