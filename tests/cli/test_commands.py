"""Commands: what they print, where, and with which exit code."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest

from scalerl_lab.cli import lab
from scalerl_lab.errors import BudgetError, LabError, LockHeld, ResourceError, StoreError
from scalerl_lab.launch.sweep_run import Outcome
from scalerl_lab.records import RunState, RunStatus
from scalerl_lab.store import Store
from tests.cli.conftest import Lab

ROOT = Path(__file__).parents[2]


def commands(group: click.Group, path: str = "lab") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


ALL = dict(commands(lab))


def test_the_commands_are_these() -> None:
    assert sorted(ALL) == [
        "lab bench", "lab bench decide", "lab bench forecast", "lab bench published", "lab bench speed",
        "lab bench sweeps", "lab decisions", "lab doctor", "lab fit", "lab replay", "lab report",
        "lab report boundary",
        "lab report budget", "lab report ceilings", "lab report domains", "lab report transfer",
        "lab run", "lab run extend",
        "lab run kill", "lab run pin", "lab run revive", "lab run unpin", "lab sandbox", "lab sandbox check",
        "lab simulate", "lab sweep",
        "lab sweep cancel", "lab sweep list", "lab sweep pause", "lab sweep plan", "lab sweep resume",
        "lab sweep run", "lab sweep status", "lab tasks", "lab tasks audit",
        "lab tasks check", "lab ui", "lab why",
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_command_and_option_has_help(name: str, empty: Lab) -> None:
    command = ALL[name]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
    shown = empty(*name.split()[1:], "--help")
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: lab {' '.join(name.split()[1:])}")


@pytest.mark.parametrize("name", sorted(name for name, c in ALL.items() if not isinstance(c, click.Group)))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert name in (ROOT / "README.md").read_text(encoding="utf-8")


def test_version(empty: Lab) -> None:
    assert re.fullmatch(r"lab, version \d+\.\d+\.\d+\n", empty("--version").output)


# ------------------------------------------------------------ what is wrong is said, and nothing is created


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "list"),
        ("sweep", "status"),
        ("why", "dapo_loss:0"),
        ("decisions",),
        ("report", "ceilings", "--html", "x.html"),
    ],
)
def test_without_any_sweep_there_is_a_sentence_and_no_folder(arguments: tuple[str, ...], empty: Lab) -> None:
    result = empty(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("lab: no sweeps in ")
    assert "lab sweep run" in result.stderr
    assert result.stdout == ""
    assert not empty.home.exists()


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("why", "dapo_los:0"), "dapo_loss:0"),
        (("sweep", "status", "loo_61k"), "loo_16k"),
        (("report", "ceilings", "loo_61k"), "loo_16k"),
        (("report", "boundary", "loo_61k"), "loo_16k"),
        (("report", "transfer", "dapo_los:0"), "dapo_loss:0"),
        (("why", "dapo_loss:0", "--sweep", "loo_61k"), "loo_16k"),
        (("decisions", "loo_61k"), "loo_16k"),
        (("decisions", "--run", "dapo_los:0"), "dapo_loss:0"),
        (("decisions", "--action", "kil"), "'kill'"),
        (("sweep", "plan", "loo_61k"), "loo_16k"),
        (("sweep", "plan", "no/such/file.yaml"), "no/such/file.yaml"),
        (("sweep", "plan", "loo_16k", "--profile", "lapdog"), "laptop"),
    ],
)
def test_an_unknown_name_names_the_nearest(arguments: tuple[str, ...], nearest: str, full: Lab) -> None:
    result = full(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("lab: ")
    assert nearest in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_misspelt_key_names_file_line_key_and_nearest(tmp_path: Path, empty: Lab) -> None:
    sweep = (ROOT / "sweeps" / "loo_16k.yaml").read_text(encoding="utf-8")
    line = next(n for n, text in enumerate(sweep.splitlines(), 1) if text.startswith("rule:"))
    bad = tmp_path / "bad.yaml"
    bad.write_text(sweep.replace("kill_probability", "kill_probabilty"), encoding="utf-8")
    result = empty("sweep", "plan", str(bad), "--profile", "laptop")
    assert result.exit_code == 2
    assert f"bad.yaml:{line}" in result.stderr
    assert "kill_probabilty" in result.stderr
    assert "kill_probability" in result.stderr
    assert not empty.home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "paln"),
        ("sweep", "plan"),
        ("sweep", "plan", "loo_16k", "--price", "-1"),
        ("ui", "--port", "0"),
    ],
)
def test_wrong_usage_is_2(arguments: tuple[str, ...], empty: Lab) -> None:
    result = empty(*arguments)
    assert result.exit_code == 2
    assert "Usage: lab" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LabError, 1),
        (ResourceError, 3),
        (BudgetError, 3),
        (StoreError, 4),
        (LockHeld, 4),
        (KeyboardInterrupt, 130),
    ],
)
def test_exit_codes_of_failures(
    error: type[BaseException], code: int, full: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("what is there and what is needed")

    monkeypatch.setattr("scalerl_lab.launch.sweep_run.run_sweep", fail)
    result = full("sweep", "run", "loo_16k")
    assert result.exit_code == code
    assert "Traceback" not in result.output
    expected = "goes on where it stopped" if code == 130 else "lab: what is there and what is needed"
    assert expected in result.stderr


def test_what_is_not_a_known_failure_is_not_hidden(full: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("scalerl_lab.launch.sweep_run.run_sweep", fail)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        full("sweep", "run", "loo_16k")


# ---------------------------------------------------------------- what is right


def test_plan_says_the_profile_first(empty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scalerl_lab.cli.sweep._gpu_visible", lambda: False)
    result = empty("sweep", "plan", "loo_16k", "--price", "2.5")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "No GPU is visible here: planned for profile laptop."
    assert "440,000" in result.stdout
    assert not empty.home.exists()
    monkeypatch.setattr("scalerl_lab.cli.sweep._gpu_visible", lambda: True)
    assert json.loads(empty("sweep", "plan", "loo_16k", "--json").stdout)["profile"] == "cluster"


def test_plan_json_has_the_documented_keys(empty: Lab) -> None:
    document = json.loads(empty("sweep", "plan", "loo_16k", "--profile", "laptop", "--json").stdout)
    _documented(ALL["lab sweep plan"], document, document["arms"][0], document["runs"][0])


def test_status_and_list(full: Lab) -> None:
    (row,) = json.loads(full("sweep", "list", "--json").stdout)
    _documented(ALL["lab sweep list"], row)
    document = json.loads(full("sweep", "status", "--json").stdout)
    _documented(ALL["lab sweep status"], document, document["runs"][0])
    assert document["sweep_id"] == row["sweep_id"]
    text = full("sweep", "status", row["sweep_id"][:9]).stdout
    assert "dapo_loss:0" in text
    assert "\x1b" not in text
    assert row["sweep_id"] in full("sweep", "list").stdout


def test_why(full: Lab) -> None:
    text = full("why", "dapo_loss:0").stdout
    assert "kill (ceiling below)" in text
    assert "looks: nothing decided" in text
    assert "Forecast at 16,000 GPU-hours" in text
    assert "control's ceiling less 0.02" in text
    plain = full("why", "dapo_loss:0", "--no-plot").stdout
    assert "control's ceiling less 0.02" not in plain
    every = full("why", "dapo_loss:0", "--no-plot", "--all").stdout
    assert "looks: nothing decided" not in every
    assert every.count("continue (") == text.count("continue (") + int(text.split(" looks:")[0].split()[-1])
    (case,) = json.loads(full("why", "dapo_loss:0", "--json").stdout)
    _documented(ALL["lab why"], case, case["decisions"][0], case["trials"][0])
    assert full("why", case["run_id"][:8]).stdout == text


def test_decisions(full: Lab) -> None:
    text = full("decisions").stdout
    # Eight arms and three seeds of the control: one killed, ten finished.
    assert [text.count(f" {action} ") for action in ("kill", "finish", "extend")] == [1, 10, 0]
    assert max(map(len, text.splitlines())) <= 100
    document = json.loads(full("decisions", "--json").stdout)
    (killed,) = json.loads(full("decisions", "--json", "--action", "kill").stdout)["decisions"]
    assert killed in document["decisions"]
    assert (killed["arm"], killed["gpu_hours"], killed["saved_gpu_hours"]) == ("dapo_loss", 8000.0, 8000.0)
    assert document["saved_gpu_hours"] == 8000.0
    _documented(ALL["lab decisions"], document)
    (case,) = json.loads(full("why", "dapo_loss:0", "--json").stdout)
    mine = json.loads(full("decisions", "--json", "--all", "--run", "dapo_loss:0").stdout)["decisions"]
    extra = {"run_id", "arm", "seed", "budget_gpu_hours"}
    assert [{k: v for k, v in row.items() if k not in extra} for row in mine] == case["decisions"]
    assert "none of its" in full("decisions", "--action", "extend").stdout


def test_ceilings_as_table_json_csv_and_page(full: Lab, tmp_path: Path) -> None:
    table = full("report", "ceilings").stdout
    assert "lowers the ceiling" in table
    assert max(map(len, table.splitlines())) <= 100
    document = json.loads(full("report", "ceilings", "--json").stdout)
    arm = {
        key: value for key, value in document["arms"][0].items() if not key.startswith("pass_rate_at_budget_")
    }
    arm = {key: value for key, value in arm.items() if not key.startswith("gpu_hours_to_level_")}
    _documented(ALL["lab report ceilings"], document, document["sweep"], document["totals"], arm)
    rows = list(csv.DictReader(io.StringIO(full("report", "ceilings", "--csv").stdout)))
    assert [row["verdict"] for row in rows] == [arm["verdict"] for arm in document["arms"]]
    target = tmp_path / "report.html"
    result = full("report", "ceilings", "--html", str(target))
    assert (result.exit_code, result.stdout) == (0, f"Wrote {target}\n")
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    both = full("report", "ceilings", "--html", str(target), "--json")
    assert json.loads(both.stdout) == document


def test_a_page_that_cannot_be_written(full: Lab, tmp_path: Path) -> None:
    result = full("report", "ceilings", "--html", str(tmp_path / "no" / "folder.html"))
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
    assert full("report", "ceilings", "--json", "--csv").exit_code == 2


def test_a_run_ends_with_what_was_found_and_what_is_left(full: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(f"sqlite:///{full.home / 'lab.db'}")
    sweep_id = store.sweeps()[0].sweep_id
    states = store.run_states(sweep_id)
    store.close()
    asked: list[tuple[object, ...]] = []

    def answer(runs: tuple[RunState, ...], behind: bool) -> None:
        def run_sweep(
            path: str,
            profile: str | None,
            *,
            address: str | None,
            watcher: object,
            plot: object,
            proposer: object,
        ) -> Outcome:
            asked.append((path, profile, address))
            return Outcome(sweep_id, runs, behind)

        monkeypatch.setattr("scalerl_lab.launch.sweep_run.run_sweep", run_sweep)

    answer(tuple(states), False)
    done = full("sweep", "run", "loo_16k", "--profile", "laptop", "--address", "auto")
    assert (done.exit_code, asked) == (0, [("loo_16k", "laptop", "auto")])
    assert "lowers the ceiling" in done.stdout
    assert f"lab report ceilings {sweep_id} --html" in done.stdout
    assert "MLflow still lacks" not in done.stdout

    first, second, *rest = states
    failed, unfunded = replace(first, status=RunStatus.FAILED), replace(second, status=RunStatus.PLANNED)
    answer((failed, unfunded, *rest), True)
    bad = full("sweep", "run", "loo_16k")
    assert bad.exit_code == 1
    assert bad.stderr == f"lab: failed for good: control:0. See: lab why {first.planned.run_id}\n"
    assert "Not started, as the sweep's budget does not cover them: control:1" in bad.stdout
    assert "MLflow still lacks" in bad.stdout


def test_ui_serves_this_home(full: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[object, ...]] = []

    def serve_ui(uri: str, artifacts: Path, *, port: int, open_browser: bool) -> None:
        served.append((uri, artifacts, port, open_browser))

    monkeypatch.delenv("LAB_MLFLOW_URI", raising=False)
    monkeypatch.setattr("scalerl_lab.store.serve_ui", serve_ui)
    assert full("ui", "--port", "5055", "--no-browser").exit_code == 0
    home = full.home.resolve()
    assert served == [(f"sqlite:///{home / 'mlflow.db'}", home / "mlartifacts", 5055, False)]


def test_ui_without_a_mirror_says_so(empty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_MLFLOW_URI", raising=False)
    result = empty("ui", "--no-browser")
    assert result.exit_code == 2
    assert result.stderr.startswith("lab: no MLflow database")


def _documented(command: click.Command, *documents: dict[str, object]) -> None:
    """Every key of the documents is named in the command's help."""
    named = set(re.findall(r"\w+", command.help or ""))
    for document in documents:
        assert set(document) <= named, set(document) - named
