# ruff: noqa: E501 - one verdict a line
"""Golden verdicts on solutions: right, wrong, partial, over a limit, in every format, and forged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from scalerl_lab.config.sandbox import CodeReward, Sandbox, SandboxLimits
from scalerl_lab.errors import DataError
from scalerl_lab.tasks.code import CallCase, Case, CodeVerifier, StdinCase, read_cases
from scalerl_lab.tasks.sandbox import SandboxPool
from tests.tasks.sandbox.host import without_bwrap

LIMITS = SandboxLimits(cpu_s=2, wall_s=2.0, memory_mb=128, processes=8, scratch_mb=4, files=500, output_kb=64)

SUM = (
    StdinCase("1 2\n", "3\n"),
    StdinCase("10 -4\n", "6"),
    StdinCase("0 0\n", "0\n\n"),
    StdinCase("999999999999 1\n", "1000000000000"),
)
"""The sum of two numbers on a line."""
SORT = (
    CallCase("arrange", ([3, 1, 2],), [1, 2, 3]),
    CallCase("arrange", ([],), []),
    CallCase("arrange", ([5, 5, -1],), [-1, 5, 5]),
    CallCase("arrange", (["b", "a"],), ["a", "b"]),
)
"""A sorted list."""
HALF = (StdinCase("1\n", "0.5"), StdinCase("3\n", "1.5"))
MEAN = (CallCase("mean", ([1, 2],), 1.5), CallCase("mean", ([1, 2, 4],), 7 / 3))


def block(code: str, tag: str = "python") -> str:
    return f"Some thoughts.\n```{tag}\n{code}\n```\nThat is it."


READS = "a, b = map(int, input().split())\n"
GOLDEN: list[tuple[str, tuple[Case, ...], str, float, str]] = [
    # right
    ("right", SUM, block(READS + "print(a + b)"), 1.0, "4 of 4"),
    ("right_by_sys_stdin", SUM, block("import sys\nprint(sum(map(int, sys.stdin.read().split())))"), 1.0, ""),
    ("right_by_descriptor", SUM, block("print(sum(map(int, open(0).read().split())))"), 1.0, ""),
    ("right_by_buffer", SUM, block("import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))"), 1.0, ""),
    ("right_in_a_main", SUM, block(f"def main():\n  {READS}  print(a+b)\nif __name__ == '__main__': main()"), 1, ""),
    ("right_without_a_newline", SUM, block("import sys\n" + READS + "sys.stdout.write(str(a + b))"), 1.0, ""),
    ("right_with_space_at_the_ends", SUM, block(READS + "print(a + b, '  \\n\\n')"), 1.0, ""),
    ("right_then_exit_0", SUM, block("import sys\n" + READS + "print(a + b)\nsys.exit(0)"), 1.0, ""),
    ("right_with_stderr", SUM, block("import sys\n" + READS + "print('x', file=sys.stderr)\nprint(a+b)"), 1.0, ""),
    ("right_in_a_thread", SUM, block("import threading\ndef f():\n  " + READS + "  print(a+b)\n"
                                      "threading.Thread(target=f).start()"), 1.0, ""),
    ("right_after_reading_all_lines", SUM, block("import sys\nfor l in sys.stdin: print(sum(map(int,l.split())))"), 1, ""),
    # wrong and partial
    ("wrong", SUM, block(READS + "print(a * b + 7)"), 0.0, "0 of 4 tests passed; test 0: wrong answer"),
    ("one_of_four", SUM, block(READS + "print(3)"), 0.25, "1 of 4 tests passed; test 1: wrong answer"),
    ("two_of_four", SUM, block(READS + "print(a + b if a < 5 else 0)"), 0.5, "2 of 4 tests passed; test 1"),
    ("three_of_four", SUM, block(READS + "print((a + b) % 10**9)"), 0.75, "3 of 4 tests passed; test 3"),
    ("fails_in_the_middle_but_all_run", SUM, block(READS + "assert a != 10\nprint(a + b)"), 0.75, "test 1: exit code 1"),
    ("prints_nothing", SUM, block(READS), 0.0, "wrong answer"),
    ("prints_more", SUM, block(READS + "print('The answer is', a + b)"), 0.0, "wrong answer"),
    ("number_in_other_digits", SUM, block(READS + "print(f'{a + b:020d}')"), 0.0, "wrong answer"),
    ("float_for_a_whole_number", SUM, block(READS + "print(float(a + b))"), 0.0, "wrong answer"),
    ("in_two_lines", (StdinCase("", "1 2"),), block("print(1)\nprint(2)"), 0.0, "wrong answer"),
    ("spaces_between", (StdinCase("", "1 2"),), block("print(1, '\\t', 2)"), 1.0, ""),
    ("empty_line_between", (StdinCase("", "1\n2"),), block("print(1)\nprint()\nprint(2)"), 0.0, "wrong answer"),
    ("expects_nothing", (StdinCase("", ""),), block("pass"), 1.0, ""),
    # decimal numbers
    ("decimal", HALF, block("print(int(input()) / 2)"), 1.0, ""),
    ("decimal_with_more_digits", HALF, block("print(f'{int(input()) / 2:.9f}')"), 1.0, ""),
    ("decimal_with_exponent", HALF, block("print(f'{int(input()) / 2:e}')"), 1.0, ""),
    ("decimal_off_by_a_millionth_of_it", HALF, block("print(int(input()) / 2 * (1 + 9e-7))"), 1.0, ""),
    ("decimal_off_by_more", HALF, block("print(int(input()) / 2 * (1 + 5e-6))"), 0.0, "wrong answer"),
    ("nan_is_nothing", HALF, block("print('nan')"), 0.0, "wrong answer"),
    ("inf_is_nothing", (StdinCase("", "1e300"),), block("print('1e999')"), 0.0, "wrong answer"),
    # exits and limits
    ("right_but_exit_1", SUM, block("import sys\n" + READS + "print(a + b)\nsys.exit(1)"), 0.0, "exit code 1"),
    ("right_but_raises", SUM, block(READS + "print(a + b)\nraise SystemError"), 0.0, "exit code 1"),
    ("syntax_error", SUM, block("print((1"), 0.0, "exit code 1"),
    ("killed", SUM, block("import os\nos.kill(os.getpid(), 9)"), 0.0, "test 0: signal 9"),
    ("too_much_output", SUM[:1], block("while True: print(3)"), 0.0, "too much output"),
    ("memory", SUM, block(READS + "x = [0] * 10**9\nprint(a + b)"), 0.0, "exit code 1"),
    ("sleeps", SUM[:1], block("import time\ntime.sleep(9)"), 0.0, "wall clock"),
    ("sleeps_once", SUM, block(READS + "import time\nif a == 10: time.sleep(9)\nprint(a+b)"), 0.75, "test 1: wall clock"),
    # functions
    ("function", SORT, block("def arrange(x): return sorted(x)"), 1.0, "4 of 4"),
    ("method", SORT, block("class Solution:\n  def arrange(self, x): return sorted(x)"), 1.0, ""),
    ("lambda", SORT, block("arrange = sorted"), 1.0, ""),
    ("tuple_for_a_list", SORT, block("def arrange(x): return tuple(sorted(x))"), 1.0, ""),
    ("function_that_prints", SORT, block("def arrange(x):\n  print('debug', x)\n  return sorted(x)"), 1.0, ""),
    ("main_is_not_called", SORT, block("arrange = sorted\nif __name__ == '__main__': input()"), 1.0, ""),
    ("wrong_function", SORT, block("def arrange(x): return x"), 0.25, "test 0: wrong answer"),
    ("function_that_raises_once", SORT, block("def arrange(x):\n  x[0]\n  return sorted(x)"), 0.75, "test 1: exit code 1"),
    ("no_such_function", SORT, block("def arrang(x): return sorted(x)"), 0.0, "exit code 1"),
    ("returns_what_json_cannot_say", SORT, block("def arrange(x): return set(x)"), 0.0, "exit code 1"),
    ("prints_in_place_of_returning", SORT, block("def arrange(x): print(sorted(x))"), 0.0, "wrong answer"),
    ("exits_in_place_of_returning", SORT, block("import os\ndef arrange(x): os._exit(0)"), 0.0, "no value"),
    ("mean", MEAN, block("def mean(x): return sum(x) / len(x)"), 1.0, ""),
    ("mean_rounded", MEAN, block("def mean(x): return round(sum(x) / len(x), 2)"), 0.5, "test 1"),
    ("true_is_not_1", (CallCase("f", (), 1),), block("def f(): return True"), 0.0, "wrong answer"),
    ("one_is_not_true", (CallCase("f", (), True),), block("def f(): return 1"), 0.0, "wrong answer"),
    ("one_point_zero_is_1", (CallCase("f", (), 1),), block("def f(): return 1.0"), 1.0, ""),
    ("none", (CallCase("f", (), None),), block("def f(): pass"), 1.0, ""),
    ("text_is_no_number", (CallCase("f", (), 1),), block("def f(): return '1'"), 0.0, "wrong answer"),
    ("keys_in_any_order", (CallCase("f", (), {"a": 1, "b": [2]}),), block("def f(): return {'b': (2,), 'a': 1}"), 1, ""),
    ("nan_value", (CallCase("f", (), 0.5),), block("def f(): return float('nan')"), 0.0, "wrong answer"),
    ("huge_whole_number", (CallCase("f", (), 1),), block("def f(): return 10**5000"), 0.0, "exit code 1"),
    ("value_nested_too_deep", (CallCase("f", (), []),), block("def f():\n  x=[]\n  for _ in range(900): x=[x]\n  return x"),
     0.0, "wrong answer"),
    ("value_of_megabytes", (CallCase("f", (), 1),), block("def f(): return 'x' * 10**6"), 0.0, "too much output"),
    # formats
    ("no_block", SUM, "print(3)", 0.0, "no closed fenced block"),
    ("empty_completion", SUM, "", 0.0, "no closed fenced block"),
    ("block_not_closed", SUM, "```python\n" + READS + "print(a + b)", 0.0, "no closed fenced block"),
    ("empty_block", SUM, "```python\n\n```", 0.0, "empty"),
    ("no_tag", SUM, block(READS + "print(a + b)", ""), 1.0, ""),
    ("another_tag", SUM, block(READS + "print(a + b)", "Py3 title=x"), 1.0, ""),
    ("the_last_block_counts", SUM, block("print(0)") + "\nNo:\n" + block(READS + "print(a + b)"), 1.0, ""),
    ("the_first_block_does_not", SUM, block(READS + "print(a + b)") + block("print(8)"), 0.0, "wrong answer"),
    ("the_last_closed_block", SUM, block(READS + "print(a + b)") + "\n```python\nprint(0)", 1.0, ""),
    ("four_backticks", SUM, "````\n" + READS + "x = '''\n```\n'''\nprint(a + b)\n````", 1.0, ""),
    ("indented_in_a_list", SUM, "- so:\n  ```python\n  " + READS + "  print(a + b)\n  ```\n", 1.0, ""),
    ("crlf", SUM, block(READS + "print(a + b)").replace("\n", "\r\n"), 1.0, ""),
    # forged
    ("equal_to_everything", SORT, block("class E(list):\n  def __eq__(self, o): return True\n"
                                         "def arrange(x): return E([9])"), 0.0, "wrong answer"),
    ("number_equal_to_everything", (CallCase("f", (), 7),), block("class E(int):\n  def __eq__(self, o): return True\n"
                                   "  __repr__ = __str__ = lambda s: '7'\ndef f(): return E(3)"), 0.0, "wrong answer"),
    ("patches_the_encoder", (CallCase("f", (), 7),), block("import json, builtins\njson.dumps = lambda *a: '7'\n"
     "builtins.len = lambda x: 0\njson.encoder.JSONEncoder.encode = lambda *a: '[7]'\ndef f(): return 3"), 0.0, ""),
    ("writes_to_the_channel", (CallCase("f", (), 7),), block("import os\nfor fd in (3, 4, 5):\n  try: os.write(fd, b'7')\n"
     "  except OSError: pass\nos._exit(0)"), 0.0, "no value"),
    ("prints_a_verdict", SUM, block("print('4 of 4 tests passed')\nprint('{\"passed\": true, \"score\": 1.0}')"), 0.0, ""),
    ("exits_as_if_all_were_well", SUM, block("import os\nos._exit(0)"), 0.0, "wrong answer"),
    ("prints_every_answer", SUM, block("for n in range(100): print(n)"), 0.0, "wrong answer"),
    ("takes_the_other_tests_from_disk", SUM, block("import os\nopen('seen', 'a').write(input())\n"
     "print(open('seen').read())"), 0.0, "wrong answer"),
]  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(Sandbox(workers=2, limits=LIMITS)) as pool:
        yield pool


@without_bwrap
@pytest.mark.parametrize(
    ("tests", "text", "score", "detail"), [g[1:] for g in GOLDEN], ids=[g[0] for g in GOLDEN]
)
def test_verdict(pool: SandboxPool, tests: tuple[Case, ...], text: str, score: float, detail: str) -> None:
    verdict = CodeVerifier(pool, CodeReward()).verify(tests, text)
    assert verdict.score == score, verdict
    assert detail in verdict.detail
    strict = 1.0 if score == 1.0 else 0.0
    if verdict.cases:
        assert len(verdict.cases) == len(tests)
        assert sum(case.passed for case in verdict.cases) / len(tests) == score
    if 0 < score < 1:
        whole = CodeVerifier(pool, CodeReward(score="all_or_nothing")).verify(tests, text)
        assert whole.score == strict == 0.0


@without_bwrap
def test_all_or_nothing_gives_one_to_a_right_solution(pool: SandboxPool) -> None:
    text = block(READS + "print(a + b)")
    assert CodeVerifier(pool, CodeReward(score="all_or_nothing")).verify(SUM, text).score == 1.0


@without_bwrap
def test_a_batch_keeps_the_order_and_draws_as_it_goes(pool: SandboxPool) -> None:
    texts = [block(READS + f"print(a + b if a != {n} else 'x')") for n in (1, 10, 7, 0)]
    verdicts = list(CodeVerifier(pool, CodeReward()).verify_batch((SUM, text) for text in texts))
    assert [verdict.score for verdict in verdicts] == [0.75, 0.75, 1.0, 0.75]
    assert [verdict.detail.partition("; ")[2] for verdict in verdicts] == [
        "test 0: wrong answer",
        "test 1: wrong answer",
        "",
        "test 2: wrong answer",
    ]


_SEARCHES = """
import gc, os, re, sys
def texts():
    for thing in gc.get_objects():
        try:
            yield repr(thing)[:100_000]
        except Exception:
            pass
    frame = sys._getframe()
    while frame:
        yield repr(frame.f_locals)
        frame = frame.f_back
    for line in open("/proc/self/maps"):
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if line.split()[1].startswith("rw") and end - start < 1 << 26:
            with open("/proc/self/mem", "rb", 0) as memory:
                memory.seek(start)
                yield memory.read(end - start).decode("latin-1")
    for folder, _, names in os.walk("/tmp"):
        yield repr(names)
found = [text for text in texts() if re.search("EXPECTED_[O]F_[0-9]", text)]
print("HARM" if found else "tried")
"""


@without_bwrap
def test_expected_answers_are_nowhere_in_the_sandbox(pool: SandboxPool) -> None:
    tests = (StdinCase("1", "EXPECTED_OF_1"), StdinCase("2", "tried"), CallCase("f", (1,), "EXPECTED_OF_3"))
    verifier = CodeVerifier(pool, CodeReward(total_s=60.0))
    assert [case.why for case in verifier.verify(tests, block(_SEARCHES)).cases] == [
        "wrong answer",
        "passed",
        "exit code 1",
    ]
    # The search would find them: here the test gives one away in its input.
    given = (StdinCase("EXPECTED_OF_4", "HARM"),)
    assert verifier.verify(given, block("given = input()" + _SEARCHES)).score == 1.0


@without_bwrap
def test_past_the_total_time_the_score_is_zero_whatever_passed_before(pool: SandboxPool) -> None:
    text = block(READS + "import time\ntime.sleep(0.4)\nprint(a + b)")
    verdict = CodeVerifier(pool, CodeReward(total_s=0.7)).verify(SUM, text)
    assert (verdict.score, verdict.detail) == (0.0, "the tests took more than 0.7 s together")
    assert CodeVerifier(pool, CodeReward(total_s=30.0)).verify(SUM, text).score == 1.0


@without_bwrap
def test_a_problem_without_tests_is_refused(pool: SandboxPool) -> None:
    with pytest.raises(ValueError, match="at least one test"):
        CodeVerifier(pool, CodeReward()).verify((), block("pass"))


def test_there_are_at_least_forty_verdicts_of_every_kind() -> None:
    assert len(GOLDEN) >= 40
    assert len({name for name, *_ in GOLDEN}) == len(GOLDEN)


def test_tests_are_read_from_json() -> None:
    document = json.loads(
        '[{"stdin": "1", "expected": "2"}, {"function": "f", "arguments": [1, [2]], "expected": null}]'
    )
    assert read_cases(document) == (StdinCase("1", "2"), CallCase("f", (1, [2]), None))


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        None,
        [1],
        [{"stdin": "1"}],
        [{"stdin": 1, "expected": "1"}],
        [{"stdin": "", "expected": "", "more": 1}],
        [{"function": "f", "arguments": 1, "expected": 1}],
        [{"function": "import os", "arguments": [], "expected": 1}],
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(document: Any) -> None:
    with pytest.raises(DataError, match=r"allowed|must be a list"):
        read_cases(document)
