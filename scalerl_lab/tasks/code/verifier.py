"""From a problem's tests and a completion to a verdict."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee

from scalerl_lab.config.sandbox import CodeReward
from scalerl_lab.tasks.code.cases import CallCase, Case
from scalerl_lab.tasks.code.comparison import same_text, same_value
from scalerl_lab.tasks.code.extraction import last_block
from scalerl_lab.tasks.sandbox import Call, Ending, Job, Outcome, Program, SandboxPool


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One test of one solution."""

    passed: bool
    why: str
    """``passed``, ``wrong answer``, ``exit code 1``, ``signal 9``, ``no value`` or the limit it passed."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a solution is worth."""

    score: float
    """In [0, 1]."""
    detail: str
    """One line: tests passed, and what the first failure was."""
    cases: tuple[CaseResult, ...] = ()
    """One for each test; empty where there was no code to run or the time was up."""


class CodeVerifier:
    """Scores completions by running their last fenced block against all tests of the problem.

    Args:
        pool: the sandboxes; several verifiers may share one.
        reward: fraction or all-or-nothing, total time, tolerance.
    """

    def __init__(self, pool: SandboxPool, reward: CodeReward) -> None:
        self._pool = pool
        self._reward = reward

    def verify(self, tests: Sequence[Case], text: str) -> Verdict:
        """The verdict on one completion; see ``verify_batch``."""
        return next(iter(self.verify_batch([(tests, text)])))

    def verify_batch(self, completions: Iterable[tuple[Sequence[Case], str]]) -> Iterator[Verdict]:
        """Verdicts in the order of the completions, which are drawn as fast as verdicts are taken.

        Args:
            completions: the tests of a problem with a completion for it.

        Raises:
            ValueError: a problem has no test.
            ResourceError: a sandbox cannot be started.
        """
        return self.verify_sources((tests, last_block(text)) for tests, text in completions)

    def verify_sources(self, solutions: Iterable[tuple[Sequence[Case], str | None]]) -> Iterator[Verdict]:
        """The same for code that is already taken out of its completion; None where there was none."""
        given, judged = tee(solutions)
        outcomes = self._pool.map(self._job(tests, source) for tests, source in given)
        for (tests, source), got in zip(judged, outcomes, strict=True):
            yield self._verdict(tests, source, got)

    def _job(self, tests: Sequence[Case], source: str | None) -> Job:
        if not tests:
            raise ValueError("a programming problem needs at least one test, got none")
        if source is None or not source.strip():
            return Job(())
        return Job([_program(source, case) for case in tests], self._reward.total_s)

    def _verdict(self, tests: Sequence[Case], source: str | None, outcomes: list[Outcome]) -> Verdict:
        if source is None:
            return Verdict(0.0, "no closed fenced block")
        if not source.strip():
            return Verdict(0.0, "the fenced block is empty")
        seconds = sum(outcome.seconds for outcome in outcomes)
        if seconds > self._reward.total_s:
            return Verdict(0.0, f"the tests took more than {self._reward.total_s:g} s together")
        results = tuple(self._result(case, outcome) for case, outcome in zip(tests, outcomes, strict=True))
        num_passed = sum(result.passed for result in results)
        score = num_passed / len(results)
        if self._reward.score == "all_or_nothing":
            score = float(num_passed == len(results))
        detail = f"{num_passed} of {len(results)} tests passed"
        failure = next(((n, r.why) for n, r in enumerate(results) if not r.passed), None)
        if failure is not None:
            detail += f"; test {failure[0]}: {failure[1]}"
        return Verdict(score, detail, results)

    def _result(self, case: Case, outcome: Outcome) -> CaseResult:
        why = _failure(outcome) or self._compare(case, outcome)
        return CaseResult(why is None, why or "passed", outcome.seconds)

    def _compare(self, case: Case, outcome: Outcome) -> str | None:
        """What is wrong with the answer of a program that ran through; None if nothing is."""
        tolerance = self._reward.float_tolerance
        if not isinstance(case, CallCase):
            return None if same_text(outcome.stdout, case.expected, tolerance) else "wrong answer"
        if outcome.value is None:
            return "no value"
        try:
            value = json.loads(outcome.value)
        except (ValueError, RecursionError):  # untrusted text; a whole number may have too many digits
            return "no value"
        return None if same_value(value, case.expected, tolerance) else "wrong answer"


def _program(source: str, case: Case) -> Program:
    if isinstance(case, CallCase):
        return Program(source, call=Call(case.function, case.arguments))
    return Program(source, stdin=case.stdin)


def _failure(outcome: Outcome) -> str | None:
    if outcome.ran_through:
        return None
    if outcome.ending is Ending.SIGNALLED:
        return f"signal {outcome.signal}"
    if outcome.ending is Ending.EXITED:
        return f"exit code {outcome.exit_code}"
    return outcome.ending.value.replace("_", " ")
