"""What the page says of what was measured beside the pass rate, by numbers that are worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from scalerl_lab.decide import ledger_of
from scalerl_lab.fit import Regime
from scalerl_lab.records import Measurement, PassCounts, RunState, RunStatus
from scalerl_lab.report.boundary_page import WIDTH, boundaries, regime_line
from scalerl_lab.report.ceilings import ceilings
from scalerl_lab.report.chart import Axis, Chart, apart, round_ticks, spread
from scalerl_lab.report.domains_page import domains, domains_line
from scalerl_lab.report.outputs_page import outputs_line, outputs_parts
from scalerl_lab.report.page import page
from scalerl_lab.report.transfer import MEAN, arm_gains
from scalerl_lab.report.transfer_page import NAMES, transfer_line, transferred
from scalerl_lab.report.transfer_page import WIDTH as WIDE
from scalerl_lab.report.view import SweepView, assemble
from tests.store import story

STEPS = (0, 30, 60)
BESIDE = ("domains", "boundary", "transfer", "outputs")
Measured = dict[str, list[Measurement]]
Counts = dict[str, list[PassCounts]]

GAINS = {"control": 0.30, "dapo": 0.20, "token": 0.10}


def states() -> list[RunState]:
    """The small sweep: pass rate from 0.2 by the arm's gain, tokens 40 to 46, entropy 0.6 to 0.3."""
    found = []
    for run in story.plan().runs:
        points = tuple(
            replace(
                story.point(step, 0.2 + GAINS[run.arm] * step / 60),
                pass_rate_se=0.003,
                mean_tokens=40.0 + step / 10,
                entropy=0.6 - step / 200,
                truncation_rate=0.0 if run.arm == "control" else step / 300,
            )
            for step in STEPS
        )
        found.append(RunState(run, RunStatus.FINISHED, 100.0, points, 1, 0, None, False))
    return found


def view_of(measured: Measured, counts: Counts, runs: Sequence[RunState] | None = None) -> SweepView:
    shown = states() if runs is None else list(runs)
    plan = story.plan()
    plan = replace(plan, sweep=plan.sweep.model_copy(update={"fit_start_gpu_hours": 5.0}))
    return assemble(plan, shown, (), {}, ledger_of(400.0, shown, ()), None, (), measured, counts)


def ids() -> dict[str, str]:
    return {f"{run.arm}:{run.spec.seed}": run.run_id for run in story.plan().runs}


def passes(step: int, problem_set: str, passed: tuple[int, ...]) -> PassCounts:
    return PassCounts(1, 0.0, step, step / 3, problem_set, "", 4, 4, passed)


def told(step: int, problem_set: str, domain: str, metric: str, value: float) -> Measurement:
    return Measurement(1, 0.0, step, step / 3, problem_set, domain, metric, value, 0.004, 64, 256)


def some_counts() -> Counts:
    """Control: seeds that disagree at pass@1; dapo rises early; token falls."""
    run = ids()
    return {
        run["control:0"]: [passes(step, "heldout", (1,) * 20 + (0,) * 20) for step in STEPS],
        run["control:1"]: [
            passes(0, "heldout", (3,) * 20 + (0,) * 20),
            passes(30, "heldout", (3,) * 30 + (0,) * 10),
            passes(60, "heldout", (4,) * 40),
        ],
        run["dapo:0"]: [
            passes(0, "heldout", (2,) * 10 + (0,) * 30),
            *(passes(step, "heldout", (2,) * 30 + (0,) * 10) for step in STEPS[1:]),
        ],
        run["token:0"]: [
            passes(0, "heldout", (1,) * 30 + (0,) * 10),
            passes(30, "heldout", (4,) * 20 + (0,) * 20),
            passes(60, "heldout", (4,) * 20 + (0,) * 20),
        ],
    }


def some_measured() -> Measured:
    """Two downstream sets, two domains, and an n-gram overlap that falls."""
    found: Measured = {}
    gains = {
        "control:0": (0.12, 0.0),
        "control:1": (0.10, 0.02),
        "dapo:0": (0.05, 0.03),
        "token:0": (0.0, 0.06),
    }
    for label, (longer, fewer) in gains.items():
        of_run = found.setdefault(ids()[label], [])
        for step in STEPS:
            share = step / 60
            of_run += [
                told(step, "longer", "", "pass_rate", 0.1 + longer * share),
                told(step, "fewer", "", "pass_rate", 0.4 + fewer * share),
                told(step, "heldout", "code", "pass_rate", 0.1 + 2 * longer * share),
                told(step, "heldout", "math", "pass_rate", 0.3 + 2 * fewer * share),
                told(step, "heldout", "", "ngram_overlap", 0.6 - 0.1 * share),
            ]
    return found


@pytest.fixture(scope="module")
def seen() -> SweepView:
    return view_of(some_measured(), some_counts())


@pytest.fixture(scope="module")
def root(seen: SweepView) -> ElementTree.Element:
    return parse(seen)


def parse(view: SweepView) -> ElementTree.Element:
    return ElementTree.fromstring(page(view, ceilings(view), made_at=1.0).removeprefix("<!DOCTYPE html>\n"))


def sections(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {e.attrib["id"]: e for e in root.iter("section")}


def words(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def figures(section: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """By what their captions begin with."""
    return {next(figure.iter("b")).text or "": figure for figure in section.iter("figure")}


# ------------------------------------------------------------ the reasoning boundary


def test_the_boundary_of_an_arm_is_that_of_its_seeds_problem_by_problem(seen: SweepView) -> None:
    rows = {row.arm: row for row in boundaries(seen)}
    control = rows["control"]
    assert control.seeds == (0, 1)
    assert control.ks == (1, 2, 4)
    # Before: 20 of 40 problems pass 1 of 4 times under one seed and 3 of 4 under the other.
    assert control.before[0].median == pytest.approx(0.5 * (1 / 4 + 3 / 4) / 2)
    # pass@2 with 1 of 4: 1 - C(3, 2) / C(4, 2) = 1/2; with 3 of 4: 1.
    assert control.before[1].median == pytest.approx(0.5 * (1 / 2 + 1) / 2)
    # pass@4 after: 20 of 40 under the first seed, 40 of 40 under the second.
    assert control.after[2].median == pytest.approx((0.5 + 1.0) / 2)
    assert control.middle is not None
    assert control.middle[2].median == pytest.approx((0.5 + 0.75) / 2)
    assert control.boundary.last_gain.median == pytest.approx(0.25, abs=0.03)
    assert control.gpu_hours == pytest.approx(20.0)
    assert {arm: row.boundary.regime for arm, row in rows.items()} == {
        "control": Regime.SUSTAINED,
        "dapo": Regime.PLATEAU,
        "token": Regime.DIMINISHING,
    }


def test_a_seed_without_a_middle_leaves_the_arm_without_one() -> None:
    counts = some_counts()
    counts[ids()["control:1"]].pop(1)
    control = boundaries(view_of({}, counts))[0]
    assert control.middle is None
    assert control.boundary.regime is Regime.OPEN


def test_a_seed_of_other_problems_is_not_averaged_with_the_first() -> None:
    counts = some_counts()
    counts[ids()["control:1"]] = [passes(step, "heldout", (4,) * 30) for step in STEPS]
    control = boundaries(view_of({}, counts))[0]
    assert (control.seeds, control.num_problems) == ((0,), 40)
    # 20 of 40 problems pass 1 of 4 times.
    assert control.after[0].median == pytest.approx(0.5 / 4)
    # In the middle, too: then nothing is said of it.
    counts = some_counts()
    counts[ids()["control:1"]][1] = passes(30, "heldout", (4,) * 30)
    assert boundaries(view_of({}, counts))[0].middle is None


def test_a_chart_of_pass_at_k_per_arm_with_the_regime_and_the_sizes(root: ElementTree.Element) -> None:
    drawn = figures(sections(root)["boundary"])
    assert list(drawn) == ["control", "dapo", "token"]
    said = words(next(drawn["control"].iter("figcaption")))
    assert "sustained" in said
    assert "pass@1 0.250 → 0.562" in said
    assert "pass@4 0.500 → 0.750 at 20.0 GPU-hours" in said
    assert "40 problems × 4 samples, 2 seeds" in said
    assert "plateau" in words(next(drawn["dapo"].iter("figcaption")))
    # Three values of k, before and after; each with its numbers.
    spots = [e for e in drawn["token"].iter("circle") if e.attrib["class"] == "hit"]
    assert len(spots) == 6
    # 30 of 40 pass 1 of 4 times, then 20 of 40 always.
    assert spots[0].attrib["data-tip"].startswith("token, pass@1 before 0.188 ")
    assert "after 0.500 " in spots[0].attrib["data-tip"]
    at = sorted({float(e.attrib["cx"]) for e in spots})
    # On a log axis 2 lies halfway between 1 and 4.
    assert at[1] == pytest.approx((at[0] + at[2]) / 2, abs=0.01)
    assert [e.attrib["class"] for e in drawn["token"].iter("path")].count("band80 was") == 1
    assert [e.attrib["class"] for e in drawn["token"].iter("path")].count("line halfway") == 1


def test_what_was_found_of_the_boundary_is_told_first(seen: SweepView, root: ElementTree.Element) -> None:
    line = (
        "pass@4 from before to after training, heldout (40 problems, 4 samples of each): diminishing in 1 "
        "arm (token); plateau in 1 arm (dapo); sustained in 1 arm (control)."
    )
    assert regime_line(boundaries(seen)) == line
    found = sections(root)["found"]
    assert line in words(found)
    assert "#boundary" in {e.attrib.get("href") for e in found.iter("a")}


def test_many_charts_are_folded_away_but_for_the_first_set() -> None:
    of_set = {
        run_id: [
            replace(each, problem_set=name)
            for name in ("heldout", "longer", "fewer", "other")
            for each in of_run
        ]
        for run_id, of_run in some_counts().items()
    }
    section = sections(parse(view_of({}, of_set)))["boundary"]
    # All of them together, then four sets of three arms: fifteen charts.
    assert len(list(section.iter("figure"))) == 15
    assert [words(e).split(" (")[0] for e in section.iter("summary")] == [
        "pass@k, heldout", "pass@k, longer", "pass@k, fewer", "pass@k, other",
    ]  # fmt: skip
    assert (
        words(next(section.iter("h3"))) == "pass@k, all problems together (160 problems, 4 samples of each)"
    )


# ------------------------------------------------------------ transfer


def test_gains_of_an_arm_by_hand(seen: SweepView) -> None:
    arms = {each.arm: each for each in arm_gains(transferred(seen).rows)}
    control = arms["control"]
    assert control.num_seeds == 2
    assert control.downstream["longer"].gain == pytest.approx(0.11)
    # Each gain has an error of 0.004 sqrt(2); the mean of two has 0.004.
    assert control.downstream["longer"].standard_error == pytest.approx(0.004)
    assert control.downstream["longer"].num_prompts == 64
    assert control.downstream["longer"].num_samples == 512
    assert control.downstream[MEAN].gain == pytest.approx(0.06)
    assert control.downstream[MEAN].num_prompts == 128


def test_a_chart_per_downstream_set_with_a_dot_per_arm(root: ElementTree.Element) -> None:
    drawn = figures(sections(root)["transfer"])
    assert list(drawn) == [MEAN, "longer", "fewer"]
    figure = drawn["longer"]
    said = words(next(figure.iter("figcaption")))
    assert "64 prompts with 256 to 512 samples in all" in said
    assert "rank correlation with the held-out gain +1.00" in said
    tips = [e.attrib["data-tip"] for e in figure.iter("circle") if e.attrib["class"] == "hit"]
    assert len(tips) == 3
    # 0.11 ± 1.2816 * 0.004 for the control; 0.05 ± 1.2816 * 0.004 * sqrt(2) for the second arm.
    assert tips[0].endswith("downstream +0.110 [+.105, +.115]")
    assert tips[1].endswith("downstream +0.050 [+.043, +.057]")
    names = [e for e in figure.iter("text") if e.attrib["class"] == "name"]
    assert [e.text for e in names] == ["control", "dapo", "token"]
    assert all(float(e.attrib["x"]) > WIDE - NAMES for e in names)
    places = {
        e.attrib["cx"]: float(e.attrib["cy"]) for e in figure.iter("circle") if "gaindot" in e.attrib["class"]
    }
    # Higher gains stand higher, and further right: 0.10, 0.20 and 0.30 on held-out prompts.
    across = sorted(float(x) for x in places)
    assert across[1] == pytest.approx((across[0] + across[2]) / 2, abs=0.01)
    assert max(across) < WIDE - NAMES
    assert [places[x] for x in sorted(places, key=float)] == sorted(places.values(), reverse=True)


def test_what_was_found_of_transfer(seen: SweepView) -> None:
    line = transfer_line(transferred(seen), 0.95)
    # token did not gain on longer, and the control only 0.01 ± 0.004 on fewer: Phi(2.5) = 0.994.
    assert "longer: rose in 2 of 3 arms; rank correlation with the held-out gain +1.00 [" in line
    assert "fewer: rose in 3 of 3 arms; rank correlation with the held-out gain −1.00 [" in line


def test_two_arms_have_no_order(seen: SweepView) -> None:
    measured = some_measured()
    del measured[ids()["token:0"]]
    line = transfer_line(transferred(view_of(measured, {})), 0.95)
    assert "too few arms to compare their order" in line
    assert "correlation" not in line


# ------------------------------------------------------------ domains and outputs


def test_each_domain_has_its_curve(seen: SweepView, root: ElementTree.Element) -> None:
    assert domains(seen) == ["code", "math"]
    drawn = figures(sections(root)["domains"])
    assert list(drawn) == ["control", "dapo", "token"]
    said = words(next(drawn["control"].iter("figcaption")))
    # Means of the seeds: 0.1 + 2 * 0.11 and 0.3 + 2 * 0.01.
    assert (
        said
        == "controlcode 0.100 → 0.320; math 0.300 → 0.320. Each: 64 prompts, 256 samples a point; 2 seeds"
    )
    lines = [e.attrib["class"] for e in drawn["control"].iter("path")]
    assert lines.count("line by-kind k0") == lines.count("line by-kind k1") == 2
    assert domains_line(seen) == (
        "Gain from start to end: code +0.220 under control, least 0.000 (token); "
        "math +0.020 under control, most +0.120 (token)."
    )


def test_an_answer_in_another_format_is_dashed() -> None:
    measured = some_measured()
    for of_run in measured.values():
        of_run += [replace(m, metric="tolerant_pass_rate", value=m.value + 0.1) for m in of_run if m.domain]
    drawn = figures(sections(parse(view_of(measured, {})))["domains"])
    assert [e.attrib["class"] for e in drawn["dapo"].iter("path")].count("line by-kind k0 dash") == 1


def test_outputs_are_drawn_over_compute(seen: SweepView, root: ElementTree.Element) -> None:
    section = sections(root)["outputs"]
    heads = [e.text for e in next(section.iter("div")).iter("b")]
    assert heads[:4] == ["Output length", "Entropy", "Truncated", "n-gram overlap"]
    row = figures(section)["dapo"]
    assert [e.text for e in row.iter("small")] == [
        "1 seed",
        "40.0 → 46.0",
        "0.60 → 0.30",
        "0 % → 20 %",
        "60 % → 50 %",
    ]
    svgs = list(row.iter("svg"))
    # The control's two seeds behind the arm's own.
    assert [e.attrib["class"] for e in svgs[0].iter("path")] == ["line c-control"] * 2 + ["line c-arm"]
    assert outputs_line(seen) == (
        "From start to end the control's completions: output length 40.0 → 46.0; entropy 0.60 → 0.30; "
        "truncated 0 % → 0 % (farthest from it: dapo, 20 %); n-gram overlap 60 % → 50 %."
    )


def test_right_answers_in_a_wrong_format_are_a_share_of_their_own() -> None:
    measured = {
        run_id: [told(step, "heldout", "", "tolerant_pass_rate", 0.3 + 0.3 * step / 60) for step in STEPS]
        for run_id in (ids()["control:0"], ids()["control:1"])
    }
    seen = view_of(measured, {})
    # Strict 0.2 to 0.5, tolerant 0.3 to 0.6 under the control; the other arms were not measured.
    assert "lost to format 10 % → 10 %" in outputs_line(seen)
    row = figures(sections(parse(seen))["outputs"])["token"]
    assert "not measured" in words(row)


def test_nothing_is_shown_where_nothing_was_measured() -> None:
    alone = view_of({}, {})
    assert set(BESIDE) & set(sections(parse(alone))) == {"outputs"}
    once = {run_id: of_run[:1] for run_id, of_run in some_counts().items()}
    first = {run_id: [m for m in of_run if m.step == 0] for run_id, of_run in some_measured().items()}
    assert set(BESIDE) & set(sections(parse(view_of(first, once)))) == {"domains", "outputs"}
    unmeasured = [replace(state, points=(), status=RunStatus.PLANNED) for state in states()]
    bare = view_of({}, {}, unmeasured)
    assert not set(BESIDE) & set(sections(parse(bare)))
    assert outputs_parts(bare) == []


def test_the_page_stays_one_well_formed_file(seen: SweepView, root: ElementTree.Element) -> None:
    document = page(seen, ceilings(seen), made_at=1.0)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", document)
    anchors = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(anchors) == len(set(anchors))
    links = {e.attrib["href"] for e in root.iter() if "href" in e.attrib}
    assert links <= {f"#{name}" for name in anchors}
    for name in BESIDE:
        for svg in sections(root)[name].iter("svg"):
            width, height = (float(each) for each in svg.attrib["viewBox"].split()[2:])
            assert svg.attrib["aria-label"]
            for path in svg.iter("path"):
                pairs = re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.attrib["d"])
                assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in pairs)


# ------------------------------------------------------------ charts


def test_places_on_a_chart_by_hand() -> None:
    chart = Chart(Axis(1.0, 64.0, is_log=True), Axis(0.0, 1.0), WIDTH, 190)
    # 8 lies halfway between 1 and 64 in the logarithm; the frame goes from 34 to 288.
    assert chart.x(8.0) == pytest.approx((34 + WIDTH - 12) / 2)
    # From 164 at 0 to 10 at 1.
    assert chart.y(0.25) == pytest.approx(164 - 0.25 * 154)
    assert chart.y(7.0) == chart.y(1.0)
    assert chart.path([(1.0, 0.0), (64.0, 1.0)]) == "M34.0,164.0L288.0,10.0"


def test_axes_and_ticks_by_hand() -> None:
    # A range of 0.01 is widened to 0.05 around its middle; one that would go below its floor starts there.
    narrow = spread(0.50, 0.51, 0.05)
    assert (narrow.first, narrow.last) == pytest.approx((0.48, 0.53))
    assert (spread(0.0, 0.01, 0.05, floor=0.0).first, spread(0.0, 0.01, 0.05, floor=0.0).last) == (0.0, 0.05)
    wide = spread(0.0, 1.0, 0.05)
    assert (wide.first, wide.last) == pytest.approx((-0.06, 1.06))
    assert round_ticks(Axis(0.18, 0.96)) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert round_ticks(Axis(57.0, 108.0), 3) == pytest.approx([60.0, 80.0, 100.0])


def test_names_keep_their_distance() -> None:
    assert apart([10.0, 12.0, 40.0], 11.0, 100.0) == [10.0, 21.0, 40.0]
    assert apart([40.0, 98.0, 99.0], 11.0, 100.0) == [40.0, 89.0, 100.0]
    assert apart([], 11.0, 100.0) == []
