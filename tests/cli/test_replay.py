"""``lab replay``, ``lab simulate``, ``lab bench decide``, ``lab sweep plan --power``: what they say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from scalerl_lab.cli.bench_decide import KINDS, RULES
from scalerl_lab.cli.replay import _replay
from scalerl_lab.cli.rules import FORECAST, GRIDS, contender_of, contenders_of
from scalerl_lab.decide.policies import Forecast, NoStop
from scalerl_lab.decide.replay import replay
from scalerl_lab.errors import UserError
from scalerl_lab.fit.drawn import DrawnKind
from scalerl_lab.fit.simulate import SweepKind
from scalerl_lab.plugins.peers import PEERS
from scalerl_lab.report.forecasts import Asked, read_points
from scalerl_lab.report.replay_source import unit_of
from scalerl_lab.report.replayed import Watched
from tests.cli.conftest import Lab
from tests.decide.recorded import level, sweep_of


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """Three runs of four points that stay at 0.4, 0.3 and 0.2."""
    file = tmp_path / "points.csv"
    rows = [
        f"{run},{hours},{value}"
        for run, value in zip("abc", (0.4, 0.3, 0.2), strict=True)
        for hours in range(1, 5)
    ]
    file.write_text("run,gpu_hours,pass_rate\n" + "\n".join(rows) + "\n")
    return file


def test_the_kinds_are_those_of_the_simulation() -> None:
    assert tuple(kind.value for kind in (*SweepKind, *DrawnKind)) == KINDS


def test_every_rule_is_known_by_its_name() -> None:
    names = {FORECAST, "none", "last_value", "paper_point", "top_k", *PEERS}
    assert set(GRIDS) | set(RULES) == names
    for name in names:
        assert contender_of(name).name == name
    assert len(contenders_of(["asha"])) == 15
    assert {one.family for one in contenders_of(list(names))} == names


def test_a_file_is_replayed_by_a_peers_rule(empty: Lab, points: Path) -> None:
    """ASHA with eta 2 and rungs at 1, 2 and 4: b and c lie below the median of those before them."""
    result = empty("replay", str(points), "--rule", "asha:eta=2,grace=0.25", "--rule", "none", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    asha, none = document["rules"]
    assert (asha["rule"], asha["spent_gpu_hours"], asha["full_gpu_hours"]) == (
        "asha:eta=2,grace=0.25",
        6.0,
        12.0,
    )
    assert asha["saved"] == 0.5
    assert [(run["run"], run["used_gpu_hours"], run["killed"]) for run in asha["runs"]] == [
        ("a", 4.0, False),
        ("b", 1.0, True),
        ("c", 1.0, True),
    ]
    assert [order["run"] for order in asha["orders"] if order["move"] == "kill"] == ["b", "c"]
    assert (none["spent_gpu_hours"], none["chosen"]) == (12.0, "a")


def test_what_is_left_out_of_a_file_is_said(empty: Lab, points: Path) -> None:
    points.write_text(points.read_text() + "d,0,0.2\n")
    result = empty("replay", str(points), "--rule", "none")
    assert "1 run without a point past compute 0 left out: d" in result.stderr
    assert "4 runs" not in result.stdout
    # Among curves side by side none is a control; one that is named is.
    assert "minus" not in result.stdout
    assert "minus b" in empty("replay", str(points), "--rule", "none", "--control", "b").stdout


def test_a_file_s_own_unit_and_words_for_causes(empty: Lab, tmp_path: Path) -> None:
    """Curves in steps: one that stays at 0.2 and one that rises to 0.6 are told apart by pass rate."""
    file = tmp_path / "steps.csv"
    rows = [
        f"{run},{step},{0.2 + gain / (1 + (1000 / step) ** 2) + 0.002 * math.sin(37 * step)}"
        for run, gain in (("good", 0.4), ("bad", 0.1))
        for step in range(250, 8001, 250)
    ]
    file.write_text("run,step,pass_rate\n" + "\n".join(rows) + "\n")
    text = " ".join(empty("replay", str(file), "--rule", "forecast", "--rule", "asha").stdout.split())
    assert "of 16,000 steps spent" in text
    assert "bad, kill: The pass rate at 8,000 steps" in text
    assert "of 8,000 steps," in text
    assert "GPU-hours" not in text
    assert "killed: pass rate below" in text
    assert "finished: budget reached" in text
    assert "_" not in text
    assert "killed: stop" not in text


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("gpu_hours", "GPU-hours"),
        ("GPU hours", "GPU-hours"),
        ("train/global_step", "train global steps"),
        ("tokens", "tokens"),
        ("compute", "compute"),
    ],
)
def test_the_unit_is_named_by_its_column(tmp_path: Path, column: str, unit: str) -> None:
    file = tmp_path / "points.csv"
    file.write_text(f"run,{column},pass_rate\na,1,0.5\na,2,0.6\n")
    assert unit_of(read_points(str(file), Asked())) == unit


def test_each_rule_is_told_as_soon_as_it_is_over() -> None:
    """The first report is there before the second rule has been replayed."""
    recorded = sweep_of(level(0.5, 0.4))
    reports = _replay(recorded, ("none", "top_k"), None, None, None)
    first = next(reports)
    assert (first.rule, first.replayed.spent_gpu_hours) == ("none", 8.0)
    assert [report.rule for report in reports] == ["top_k"]


def test_a_replay_tells_how_far_it_is() -> None:
    """Two runs of four points in lock-step: both have reported one, then two, three and four."""
    told: list[tuple[int, int]] = []
    recorded = sweep_of(level(0.5, 0.4))
    total = sum(len(run.points) for run in recorded.runs)
    watched = Watched(NoStop(recorded), recorded, lambda count, of: told.append((count, of)))
    found = replay(recorded, watched)
    assert found == replay(recorded, NoStop(recorded))
    assert told == [(count, total) for count in range(1, total + 1)]


def test_slots_and_budget(empty: Lab, points: Path) -> None:
    result = empty("replay", str(points), "--rule", "none", "--slots", "1", "--budget", "9", "--json")
    (rule,) = json.loads(result.stdout)["rules"]
    # 9 GPU-hours cover two budgets of 4, one after the other.
    assert (rule["spent_gpu_hours"], rule["clock_gpu_hours"]) == (8.0, 8.0)
    assert rule["runs"][2]["fate"] == "never started: not covered by the budget"


def test_a_falling_loss_is_turned_over(empty: Lab, tmp_path: Path) -> None:
    file = tmp_path / "loss.csv"
    rows = [f"{run},{step},{value}" for run, value in (("a", 9.0), ("b", 4.0)) for step in range(1, 5)]
    file.write_text("run,step,loss\n" + "\n".join(rows) + "\n")
    refused = empty("replay", str(file), "--y", "loss", "--rule", "none")
    assert refused.exit_code == 2
    assert "run a has a value of 9, from 0 to 1 is expected; say what" in refused.stderr
    found = empty(
        "replay", str(file), "--y", "loss", "--falling", "--bounds", "0", "10", "--rule", "top_k", "--json"
    )
    (rule,) = json.loads(found.stdout)["rules"]
    assert rule["chosen"] == "b"
    assert [run["last_value"] for run in rule["runs"]] == [pytest.approx(0.1), pytest.approx(0.6)]


def test_a_seed_mixes_the_queue(empty: Lab, points: Path) -> None:
    def order(seed: str) -> list[str]:
        result = empty("replay", str(points), "--rule", "none", "--seed", seed, "--json")
        return [run["run"] for run in json.loads(result.stdout)["rules"][0]["runs"]]

    assert order("0") == ["a", "b", "c"]
    assert {tuple(order(str(seed))) for seed in range(1, 6)} != {("a", "b", "c")}
    assert all(order(str(seed))[0] == "a" for seed in range(1, 4))


def test_a_sweep_of_the_store_is_replayed(full_home: Path) -> None:
    result = Lab(full_home)("replay", "loo_16k", "--rule", "none", "--json")
    assert result.exit_code == 0, result.stderr
    (rule,) = json.loads(result.stdout)["rules"]
    by_run = {run["run"]: run for run in rule["runs"]}
    # Killed at 8,000 when it was run: there its record ends.
    assert by_run["dapo_loss:0"]["used_gpu_hours"] < 8300.0
    assert by_run["control:0"]["role"] == "control"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rule", "ashe"), "no rule 'ashe'; did you mean 'asha'?"),
        (("--rule", "asha:eta"), "found 'eta', a setting such as grace=0.1 is expected"),
        (("--rule", "asha:k=2"), "no setting 'k' of asha; there are: eta, grace"),
        (("--rule", "asha:eta=1"), "eta has to lie from 2 to 100, found 1"),
        (("--rule", "none:eta=2"), "no setting 'eta' of none; there are: none"),
        (("--rule", "top_k:k=1.5"), "k has to lie from 1 to 1e+06, found 1.5"),
        (("--rule", "forecast:margn=0.1"), "settings are: every, quantity"),
        (("--rule", "forecast:every=2"), "every is a share of the budget, above 0 and up to 1, found 2"),
        (("--control", "d"), "no arm 'd'"),
        (("--bounds", "1", "0"), "the first has to be below the second"),
    ],
)
def test_what_is_wrong_is_said(empty: Lab, points: Path, arguments: tuple[str, ...], said: str) -> None:
    result = empty("replay", str(points), *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_what_is_not_there(empty: Lab, full_home: Path) -> None:
    assert "no file nowhere.csv" in empty("replay", "nowhere.csv").stderr
    result = Lab(full_home)("replay", "loo_16k", "--control", "x")
    assert (result.exit_code, "no file loo_16k" in result.stderr) == (2, True)


def test_settings_of_the_forecast_are_keys_of_the_rule() -> None:
    text = "forecast:kill_probability=0.9,reference=best,stop_resolved=1,extension.max_factor=1,every=0.25"
    policy = contender_of(text).make(sweep_of(level(0.5, 0.4)))
    assert isinstance(policy, Forecast)
    rule = policy.recorded.sweep.rule
    assert (rule.kill_probability, rule.reference.type, rule.stop_resolved) == (0.9, "best", True)
    assert (rule.extension.max_factor, policy.every) == (1.0, 0.25)
    with pytest.raises(UserError, match="kill_probability"):
        contender_of("forecast:kill_probability=2")


def test_a_simulated_sweep_and_its_curves(empty: Lab, tmp_path: Path) -> None:
    file = tmp_path / "curves.csv"
    asked = ("--kind", "twelve_recipes", "--run-budget", "2000", "--seed", "4")
    result = empty("simulate", *asked, "--rule", "top_k:k=2", "--csv", str(file), "--json")
    assert result.exit_code == 0, result.stderr
    (rule,) = json.loads(result.stdout)["rules"]
    assert sum(not run["killed"] for run in rule["runs"]) == 2
    assert all(0.40 <= run["true"] <= 0.65 for run in rule["runs"])
    assert file.read_text().startswith("run,arm,gpu_hours,pass_rate,pass_rate_se\nrecipe_00:0,recipe_00,0,")


def test_the_scoreboard(empty: Lab, tmp_path: Path) -> None:
    saved, drawn = tmp_path / "decide.json", tmp_path / "decide.png"
    asked = ("bench", "decide", "--kind", "worse_arms", "--sweeps", "2", "--no-differences")
    rules = ("--rule", "none", "--rule", "top_k:k=3", "--rule", "median:grace=0.5")
    result = empty(*asked, *rules, "--save", str(saved), "--plot", str(drawn))
    assert result.exit_code == 0, result.stderr
    assert "worse_arms: 2 sweeps, 16 arms tied" in result.stdout
    document = json.loads(saved.read_text())
    assert [row["contender"] for row in document["rows"]] == ["none", "top_k:k=3", "median:grace=0.5"]
    none = document["rows"][0]
    assert (none["spent"]["value"], none["tied"], none["tied_killed"], none["collapsed"]) == (1.0, 16, 0, 2)
    assert drawn.exists()
    assert "no sweeps of source 'x'" in _folder_fails(empty, tmp_path)


def _folder_fails(empty: Lab, tmp_path: Path) -> str:
    folder = tmp_path / "curves"
    folder.mkdir()
    (folder / "index.csv").write_text("run_id,group,task\na,g,t\n")
    (folder / "g.csv").write_text("run_id,compute,reward\na,1,0.5\na,2,0.6\n")
    return empty("bench", "decide", "--curves", str(folder), "--source", "x").stderr


def test_power_of_a_plan(empty: Lab) -> None:
    """No time beyond the first simulation: the plan's own design once, and the others not at all."""
    plan = ("sweep", "plan", "sweeps/loo_16k.yaml", "--profile", "cluster", "--power", "--power-seconds", "0")
    result = empty(*plan, "--json")
    assert result.exit_code == 0, result.stderr
    power = json.loads(result.stdout)["power"]
    # Twice the rule's margin.
    assert (power["difference"], power["margin"], power["certainty"]) == (0.04, 0.02, 0.95)
    assert (power["midpoint_gpu_hours"], power["enough_gpu_hours"]) == (2542.0, None)
    own, half, *_ = power["designs"]
    assert (own["control_seeds"], own["arm_seeds"], own["gpu_hours"]) == (3, 1, 176_000.0)
    assert (own["sweeps"], half["sweeps"]) == (1, 0)
    # Three seeds within 0.015 of each other, the curve nearly at its ceiling: about half of 0.02.
    assert 0.005 < own["interval95_half_width"]["value"] < 0.02
    assert 0.05 < own["power"]["value"] < 1.0
    assert half["power"] is None


def test_a_difference_within_the_margin_is_said_to_be_hidden(empty: Lab) -> None:
    plan = ("sweep", "plan", "loo_16k", "--profile", "laptop", "--power", "--power-seconds", "0")
    said = " ".join(empty(*plan, "--difference", "0.02", "--midpoint", "3000").stdout.split())
    assert "The rule's margin of 0.02 hides a difference of 0.02: at the margin itself power is" in said
    assert "midpoint (3,000 GPU-hours; --midpoint sets it) are those that ScaleRL published" in said
    assert "early stops and extensions are not simulated" in said
    refused = empty(*plan, "--difference", "0.7")
    assert (refused.exit_code, "ask for less than 0.21" in refused.stderr) == (2, True)
