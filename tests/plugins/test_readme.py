"""The examples of the README, word for word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def example(mark: str) -> str:
    found = re.findall(
        rf"<!-- {mark} -->\n```python\n(.*?)```\n",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert len(found) == 1
    return str(found[0])


def run(folder: Path, code: str) -> str:
    """Run a script as a person would, in a folder of its own."""
    script = folder / "example.py"
    script.write_text(code, encoding="utf-8")
    environment = os.environ | {
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ray_tune(tmp_path: Path) -> None:
    said = run(tmp_path, example("ray"))
    assert re.search(r" 1 stopped, 0 paused; recorded in .*/forecast_scheduler\.jsonl\n", said)
    assert re.search(
        r"_00001 stop: At 40 training_iteration it is forecast at 0\.3\d* \[.*_00000, at 0\.5", said
    )


def test_optuna(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        example("optuna")
        + "\nfor trial in study.trials:"
        + "\n    print(trial.state.name, trial.params['best'], trial.user_attrs.get('forecast', '-'))\n",
    )
    ended = [line.split(" ", 2) for line in said.splitlines()]
    best = max(float(value) for _, value, _ in ended)
    for state, value, reason in ended:
        # At the target a trial is at 1600 / 1649 of its best.
        shortfall = (best - float(value)) * 1600 / 1649
        if state == "PRUNED":
            assert shortfall > 0.02
            assert reason.startswith("At 40 steps it is forecast at ")
        else:
            assert (state, reason) == ("COMPLETE", "-")
    assert {state for state, _, _ in ended} == {"PRUNED", "COMPLETE"}
