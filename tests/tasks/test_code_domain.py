"""The domain code from a row of a file to a verdict, and what a run without a sandbox is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from scalerl_lab.config.sandbox import CodeReward, Sandbox, SandboxLimits
from scalerl_lab.config.tasks import Mixture, PromptFiles
from scalerl_lab.errors import DataError, ResourceError
from scalerl_lab.tasks import build_tasks, close_shared_pools, verifiers
from scalerl_lab.tasks.code import likely_code
from scalerl_lab.tasks.data_files import read_items
from scalerl_lab.tasks.item import Item
from scalerl_lab.tasks.sandbox import Kind, SandboxPool, check, pool, shared_pool
from scalerl_lab.tasks.verifiers import Row, verify
from tests.tasks.sandbox.host import without_bwrap

SETTINGS = Sandbox(workers=1, limits=SandboxLimits(cpu_s=2, wall_s=2.0, memory_mb=128))
SUM = Item(
    "sum", "code", "Print the sum.",
    tests=tuple({"stdin": f"{a} {b}", "expected": str(a + b)} for a, b in ((1, 2), (10, -4), (0, 0), (1, 9))),
)  # fmt: skip
SORT = Item(
    "sort", "code", "Sort.",
    tests=tuple(
        {"function": "arrange", "arguments": [given], "expected": sorted(given)}
        for given in ([3, 1, 2], [], [5, 5, -1], [2, 1])
    ),
)  # fmt: skip
RIGHT = "print(sum(map(int, input().split())))"
ONCE = "print(3)"
BLOCK = "```python\n%s\n```"

GOLDEN: list[tuple[str, Item, str, float, float]] = [
    ("right", SUM, f"So:\n{BLOCK % RIGHT}\nDone.", 1.0, 1.0),
    ("wrong", SUM, BLOCK % "print(-1)", 0.0, 0.0),
    ("partial", SUM, BLOCK % ONCE, 0.25, 0.25),
    ("call", SORT, BLOCK % "def arrange(x): return sorted(x)", 1.0, 1.0),
    ("method", SORT, BLOCK % "class Solution:\n  def arrange(self, x): return sorted(x)", 1.0, 1.0),
    # [3, 1, 2] stays wrong by identity, [], and not the others: one of four.
    ("call_partial", SORT, BLOCK % "def arrange(x): return x", 0.25, 0.25),
    ("call_wrong_name", SORT, BLOCK % "def order(x): return sorted(x)", 0.0, 0.0),
    ("last_counts", SUM, f"{BLOCK % RIGHT}\nor\n{BLOCK % ONCE}", 0.25, 0.25),
    ("after_thinking", SUM, f"<think>\n{BLOCK % ONCE}\n</think>\n{BLOCK % RIGHT}", 1.0, 1.0),
    # The format is not kept, the code is right.
    ("no_fence", SUM, RIGHT, 0.0, 1.0),
    ("no_fence_after_words", SUM, f"Here it is.\n{RIGHT}", 0.0, 1.0),
    ("never_closed", SUM, f"```python\n{RIGHT}", 0.0, 1.0),
    ("tildes", SUM, f"~~~\n{RIGHT}\n~~~", 0.0, 1.0),
    ("tag", SUM, f"<answer>{RIGHT}</answer>", 0.0, 1.0),
    ("output_shown_behind", SUM, f"{BLOCK % RIGHT}\nprints\n```text\n3\n```", 0.0, 1.0),
    ("thinking_never_ends", SUM, f"<think>\n{BLOCK % RIGHT}", 0.0, 1.0),
    ("no_fence_and_wrong", SUM, "print(-1)", 0.0, 0.0),
    # One place alone is taken at its word.
    ("hedged", SUM, f"{BLOCK % RIGHT}\n{BLOCK % 'print(-1)'}", 0.0, 0.0),
    ("prose", SUM, "The sum of both numbers is what to print.", 0.0, 0.0),
    ("nothing", SUM, "", 0.0, 0.0),
    ("empty_block", SUM, BLOCK % "", 0.0, 0.0),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _pools_end() -> Iterator[None]:
    yield
    close_shared_pools()


@without_bwrap
def test_golden_verdicts() -> None:
    found = verify([Row(item, text, "boxed", SETTINGS) for _, item, text, *_ in GOLDEN])
    got = {case[0]: (each.score, each.tolerant) for case, each in zip(GOLDEN, found, strict=True)}
    assert got == {case[0]: case[3:] for case in GOLDEN}


@without_bwrap
def test_rows_of_other_settings_and_domains_keep_their_places() -> None:
    strict = CodeReward(score="all_or_nothing")
    rows = [
        Row(SUM, BLOCK % ONCE, "boxed", SETTINGS),
        Row(Item("m", "math", "?", "3"), "\\boxed{3}", "boxed"),
        Row(SUM, BLOCK % ONCE, "boxed", SETTINGS, strict),
        Row(SUM, BLOCK % RIGHT, "boxed", SETTINGS, strict),
    ]
    assert [each.score for each in verify(rows)] == [0.25, 1.0, 0.0, 1.0]


@without_bwrap
def test_the_same_solution_runs_once_and_a_process_has_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Any] = []
    submit = SandboxPool.submit

    def noted(self: SandboxPool, job: Any) -> Any:
        jobs.append(job)
        return submit(self, job)

    monkeypatch.setattr(SandboxPool, "submit", noted)
    assert not pool._SHARED
    verify([Row(SUM, text, "boxed", SETTINGS) for text in [BLOCK % RIGHT] * 8 + [RIGHT] * 8])
    assert [len(job.programs) for job in jobs] == [4]
    made = shared_pool(SETTINGS)
    verify([Row(SUM, BLOCK % ONCE, "boxed", SETTINGS)])
    assert list(pool._SHARED.values()) == [made]
    close_shared_pools()
    assert not pool._SHARED
    with pytest.raises(RuntimeError, match="shutdown"):
        made.submit(jobs[0])
    assert verify([Row(SUM, BLOCK % RIGHT, "boxed", SETTINGS)])[0].score == 1.0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```js\n1\n```\n```python\n2\n```\n```text\n3\n```", "2\n"),
        ("```\n1\n```\n```text\n2\n```\n```\n\n```", "2\n"),
        ("```python\n1\n```python\n2\n", "2\n"),
        ("~~~py\n```\n1\n~~~\n", "```\n1\n"),
        ("  ```Python3\n  1\n  ```", "1\n"),
        ("first\nimport os\nx", "import os\nx"),
        ("a = 1 in prose", "a = 1 in prose"),
        ("important things: from here on", None),
        ("<answer>\n</answer>", None),
    ],
)
def test_where_code_likely_stands(text: str, found: str | None) -> None:
    assert likely_code(text) == found


# ---------------------------------------------------------------- recipes and files


def file_of(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "code.jsonl"
    path.write_text("".join(json.dumps({"id": str(n)} | row) + "\n" for n, row in enumerate(rows)))
    return str(path)


def problems(num: int) -> list[dict[str, Any]]:
    return [{"domain": "code", "prompt": f"Sum {n}.", "tests": list(SUM.tests)} for n in range(num)]


@without_bwrap
@pytest.mark.parametrize(("partial", "scores"), [(False, [0.0, 1.0]), (True, [0.25, 1.0])])
def test_a_fraction_counts_where_the_recipe_asks(tmp_path: Path, partial: bool, scores: list[float]) -> None:
    config = PromptFiles(
        train=file_of(tmp_path, *problems(3)), num_heldout=1, sandbox=SETTINGS, partial_credit=partial
    )
    tasks = build_tasks(config)
    assert tasks.isolation is not None
    assert tasks.isolation.kind is Kind.BUBBLEWRAP
    assert not pool._SHARED  # made when the first solution is judged
    responses = [tasks.tokenizer.encode(BLOCK % code) for code in (ONCE, RIGHT)]
    found = tasks.verdicts([tasks.train[0]] * 2, responses)
    assert [each.score for each in found] == scores
    assert [each.passed for each in found] == [False, True]
    assert [settings for _, settings in pool._SHARED] == [SETTINGS]


def test_all_or_nothing_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="all_or_nothing is a no-op with partial_credit=false"):
        PromptFiles(train="x", code_reward=CodeReward(score="all_or_nothing"))
    PromptFiles(train="x", code_reward=CodeReward(score="all_or_nothing"), partial_credit=True)


UNGIVEN = r"tests\[1\] cannot be given to a program"


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ({"input": "1"}, r"tests\[1\] is .*; allowed: .*stdin"),
        ({"stdin": "1", "expected": 1}, r"tests\[1\] is .*; allowed: .*stdin"),
        ({"function": "f(x)", "arguments": [], "expected": 1}, r"tests\[1\] is .*; allowed"),
        ({"function": "f", "arguments": [], "expected": float("inf")}, UNGIVEN),
        ({"function": "f", "arguments": [float("nan")], "expected": 1}, UNGIVEN),
        ({"stdin": "\ud800", "expected": "1"}, UNGIVEN),
        (
            {"function": "f", "arguments": [], "expected": json.loads("[" * 102 + "]" * 102)},
            r"tests\[1\] expects what no program can give",
        ),
    ],
)
def test_a_test_that_nothing_can_pass_is_named_with_its_line(
    tmp_path: Path, test: dict[str, Any], said: str
) -> None:
    good = {"stdin": "1", "expected": "1"}
    with pytest.raises(DataError, match=rf"code.jsonl:2: {said}"):
        read_items(
            Path(file_of(tmp_path, *problems(1), {"domain": "code", "prompt": "x", "tests": [good, test]}))
        )


# ---------------------------------------------------------------- no sandbox


@pytest.fixture
def denied(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A machine on which bubblewrap is installed and namespaces are denied."""
    bwrap = tmp_path_factory.mktemp("bin") / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: str(bwrap) if name == "bwrap" else which(name))
    for cached in (check.look_around, check.isolation_here):
        cached.cache_clear()
    yield
    for cached in (check.look_around, check.isolation_here):
        cached.cache_clear()


def test_a_recipe_that_refuses_is_refused_before_it_starts(denied: None, tmp_path: Path) -> None:
    config = PromptFiles(train=file_of(tmp_path, *problems(3)), num_heldout=1)
    with pytest.raises(ResourceError, match=r"No permissions to create .* sandbox.fallback=weak"):
        build_tasks(config)
    with pytest.raises(ResourceError, match="No permissions"):
        verify([Row(SUM, BLOCK % RIGHT, "boxed", SETTINGS)])


def test_a_recipe_without_code_needs_no_sandbox(denied: None, tmp_path: Path) -> None:
    sums = [{"domain": "math", "prompt": f"{n} + 1", "answer": n + 1} for n in range(3)]
    assert build_tasks(PromptFiles(train=file_of(tmp_path, *sums), num_heldout=1)).isolation is None


def test_a_weak_recipe_says_that_it_is_weak_and_why(denied: None, tmp_path: Path) -> None:
    weak = {"train": file_of(tmp_path, *problems(3)), "num_heldout": 1, "sandbox": {"fallback": "weak"}}
    chains = {"type": "chain_arithmetic"}
    mixed = Mixture.model_validate(
        {"parts": [{"tasks": chains}, {"tasks": {"type": "prompt_files", **weak}}]}
    )
    for config in (PromptFiles.model_validate(weak), mixed):
        isolation = build_tasks(config).isolation
        assert isolation is not None
        assert isolation.kind is Kind.WEAK
        assert "No permissions" in isolation.why


def test_the_row_is_in_the_table() -> None:
    assert verifiers.VERIFIERS["code"] is verifiers.code
