"""The process of the fits: it keeps the curves it was told, and answers as if it were told all of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

from scalerl_lab.decide import analyse, fit_together
from scalerl_lab.fit import FittedCurve
from scalerl_lab.launch.analysis import Analyst
from scalerl_lab.records import EvalPoint
from tests.decide.test_analysis import LOOK, job


class Inline(Executor):
    """Does what it is given at once, and remembers how much it was given."""

    def __init__(self) -> None:
        self.points: list[int] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        for each in args:
            changed = getattr(each, "changed", None)
            if changed is not None:
                self.points.append(sum(len(run.points) for run, _ in changed))
        done: Future[Any] = Future()
        done.set_result(function(*args, **kwargs))
        return done


def test_only_news_travels_and_the_answer_is_that_of_the_whole() -> None:
    inline = Inline()
    analyst = Analyst(inline)
    first, second = job(LOOK), job(LOOK + 1)
    assert analyst.analyse(first).result() == analyse(first)
    assert analyst.analyse(second).result() == analyse(second)
    # Three curves of 39 points, then one more of each, then nothing new.
    assert analyst.analyse(second).result() == analyse(second)
    assert inline.points == [3 * LOOK, 3, 0]


def test_points_that_were_replaced_are_told_anew() -> None:
    inline = Inline()
    analyst = Analyst(inline)
    whole = job(LOOK + 1)
    analyst.analyse(whole).result()
    run = whole.runs[0]
    cut = replace(run, points=run.points[:-5])
    shorter = replace(whole, runs=(cut, *whole.runs[1:]))
    assert analyst.analyse(shorter).result() == analyse(shorter)


def test_a_drawing_is_of_the_fit_of_the_sweep() -> None:
    drawn: list[tuple[FittedCurve, int, float, str]] = []

    def plot(fitted: FittedCurve, points: tuple[EvalPoint, ...], up_to: float, title: str) -> bytes:
        drawn.append((fitted, len(points), up_to, title))
        return b"png"

    found = job(LOOK)
    analyst = Analyst(Inline())
    picture = analyst.draw(plot, "reverted-0", found.runs, found.sweep, 16000.0, "reverted:0")
    assert picture.result() == b"png"
    ((fitted, num, up_to, title),) = drawn
    assert (num, up_to, title) == (LOOK, 16000.0, "reverted:0")
    assert fitted.fit == fit_together(found.runs, found.sweep).runs["reverted-0"].fit
