"""What the reports on the boundary and on transfer say of counts and rates that are known."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from scalerl_lab.fit import Regime
from scalerl_lab.records import Measurement, PassCounts, RunState, RunStatus
from scalerl_lab.report.boundary import (
    OVERALL,
    BoundaryReport,
    boundary_json,
    boundary_report,
    boundary_table,
)
from scalerl_lab.report.transfer import MEAN, Gain, Transfer, transfer, transfer_json, transfer_table
from tests.golden.check import check
from tests.store import story

SAMPLES = 16
STEPS = (0, 30, 60)


def text_of(shown: RenderableType) -> str:
    """As a pipe of 100 columns gets it."""
    out = io.StringIO()
    Console(file=out, width=100, highlight=False, soft_wrap=False).print(shown)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def states(gains: dict[str, float]) -> list[RunState]:
    """Runs of the small sweep whose held-out pass rate rises from 0.2 by the gain of their arm."""
    found = []
    for run in story.plan().runs:
        points = tuple(
            replace(story.point(step, 0.2 + gains.get(run.arm, 0.0) * step / 60), pass_rate_se=0.003)
            for step in STEPS
        )
        found.append(RunState(run, RunStatus.FINISHED, 100.0, points, 1, 0, None, False))
    return found


def counts(step: int, problem_set: str, passed: tuple[int, ...], domain: str = "") -> PassCounts:
    return PassCounts(1, 0.0, step, step / 3, problem_set, domain, SAMPLES, SAMPLES, passed)


def reached(num: int, times: int = 4) -> tuple[int, ...]:
    """Of forty problems so many pass, each so many times of 16."""
    return (times,) * num + (0,) * (40 - num)


def overlap(step: int, value: float) -> Measurement:
    return Measurement(1, 0.0, step, step / 3, "heldout", "", "ngram_overlap", value, 0.0123, 64, 256)


def report() -> BoundaryReport:
    first, second, dapo, token = (state.planned.run_id for state in states({}))
    told = {
        # Math narrows while pass@1 rises, code doubles early, longer chains go on rising.
        first: [
            *(counts(step, "heldout", reached(30 - step // 6, 4 + step // 10), "math") for step in STEPS),
            *(counts(step, "heldout", reached(10 if step == 0 else 20), "code") for step in STEPS),
            *(counts(step, "longer", reached(4 + step // 5)) for step in STEPS),
        ],
        second: [counts(0, "heldout", reached(10)), counts(60, "heldout", reached(20))],
        dapo: [counts(0, "heldout", reached(10))],
    }
    measured = {first: [overlap(0, 0.61), overlap(30, 0.55), overlap(60, 0.52)], token: [overlap(0, 0.6)]}
    return boundary_report("loo-1", "loo", states({}), told, measured, margin=0.02, demanded=0.8)


def test_regimes_are_those_that_were_put_in() -> None:
    found = {(row.label, row.problems): row for row in report().rows}
    assert {key: row.boundary.regime for key, row in found.items()} == {
        ("control:0", "heldout"): Regime.OPEN,
        ("control:0", "heldout/math"): Regime.DIMINISHING,
        ("control:0", "heldout/code"): Regime.PLATEAU,
        ("control:0", "longer"): Regime.SUSTAINED,
        # It rose by 12 of 120 problems, by one of them in the second half: too few to say more.
        ("control:0", OVERALL): Regime.OPEN,
        ("control:1", "heldout"): Regime.OPEN,
    }
    math_row = found["control:0", "heldout/math"]
    # 30 of 40 pass 4 of 16 times, then 20 of 40 pass 10 of 16 times.
    assert math_row.before.pass_rates[0].median == pytest.approx(30 / 40 * 4 / 16)
    assert math_row.after.pass_rates[0].median == pytest.approx(20 / 40 * 10 / 16)
    assert math_row.before.pass_rates[-1].median == pytest.approx(30 / 40)
    assert math_row.after.pass_rates[-1].median == pytest.approx(20 / 40)
    assert math_row.boundary.narrower > 0.99
    assert math_row.middle is not None
    assert math_row.middle.step == 30
    assert found["control:0", OVERALL].num_problems == 120
    assert found["control:1", "heldout"].middle is None
    assert report().unmeasured == ("dapo:0", "token:0")


def test_boundary_text() -> None:
    check("boundary.txt", text_of(boundary_table(report())), "tests/report/test_boundary.py")


def test_boundary_document_is_json_and_holds_every_k() -> None:
    document = json.loads(json.dumps(boundary_json(report()), allow_nan=False))
    row = document["rows"][0]
    assert row["ks"] == [1, 2, 4, 8, 16]
    assert len(row["after"]["pass_rates"]) == 5
    assert row["boundary"]["regime"] == "open"
    assert document["novelty"][0]["after"]["value"] == 0.52


# ------------------------------------------------------------ transfer


def downstream(step: int, problem_set: str, value: float) -> Measurement:
    return Measurement(1, 0.0, step, step / 3, problem_set, "", "pass_rate", value, 0.004, 64, 256)


GAINS = {"control": 0.30, "dapo": 0.20, "token": 0.10}


def found() -> Transfer:
    runs = states(GAINS)
    measured = {}
    for state, longer, other in zip(runs[:4], (0.12, 0.10, 0.05, 0.0), (0.0, 0.02, 0.03, 0.06), strict=True):
        measured[state.planned.run_id] = [
            downstream(0, "longer", 0.1),
            downstream(0, "fewer", 0.4),
            replace(downstream(60, "longer", 0.9), domain="code"),
            downstream(60, "longer", 0.1 + longer),
            downstream(60, "fewer", 0.4 + other),
        ]
    return transfer("loo-1", "loo", runs, measured)


def test_gains_and_their_errors_by_hand() -> None:
    row = found().rows[0]
    assert row.validation.gain == pytest.approx(0.30)
    assert row.validation.standard_error == pytest.approx(0.003 * math.sqrt(2))
    assert row.downstream["longer"].gain == pytest.approx(0.12)
    assert row.downstream["longer"].standard_error == pytest.approx(0.004 * math.sqrt(2))
    assert row.downstream[MEAN].gain == pytest.approx(0.06)
    assert row.downstream[MEAN].standard_error == pytest.approx(0.004)
    # One standard error above zero: Phi(1).
    assert Gain(0.1, 0.2, 0.1, 64, 256).probability_positive == pytest.approx(0.8413447, abs=1e-6)
    assert Gain(0.1, 0.1, 0.0, 64, 256).probability_positive == 0.5


def test_arms_are_ranked_by_the_mean_over_their_seeds() -> None:
    agreed = {each.problem_set: each for each in found().agreements}
    # Validation 0.3, 0.2, 0.1; longer 0.11, 0.05, 0; fewer 0.01, 0.03, 0.06; their mean 0.06, 0.04, 0.03.
    assert agreed["longer"].correlation == pytest.approx(1.0)
    assert agreed["fewer"].correlation == pytest.approx(-1.0)
    assert agreed[MEAN].correlation == pytest.approx(1.0)
    assert agreed["longer"].num_arms == 3
    assert agreed["longer"].interval is not None
    # Three arms in order are no proof.
    assert agreed["longer"].interval.low95 < 0.0


def test_transfer_text() -> None:
    check("transfer.txt", text_of(transfer_table(found())), "tests/report/test_boundary.py")


def test_transfer_document_is_json() -> None:
    document = json.loads(json.dumps(transfer_json(found()), allow_nan=False))
    assert document["runs"][0]["downstream"]["longer"]["gain"] == pytest.approx(0.12)
    assert document["agreements"][0]["num_arms"] == 3


def test_a_sweep_that_asked_for_nothing_says_how_to_ask() -> None:
    none = boundary_report("loo-1", "loo", states({}), {}, {}, margin=0.02, demanded=0.8)
    assert "evaluation.boundary" in text_of(boundary_table(none))
    assert "evaluation.downstream" in text_of(transfer_table(transfer("loo-1", "loo", states({}), {})))
