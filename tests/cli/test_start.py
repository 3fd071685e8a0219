"""The command starts at once: nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "ray", "mlflow", "transformers", "scipy", "matplotlib"),
    *("math_verify", "reasoning_gym", "sympy", "pyarrow", "tokenizers"),
)
LISTED = f"import json, sys; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"


def python(code: str) -> str:
    """What a fresh interpreter prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip().splitlines()[-1]


HELP = """
import sys
from click.testing import CliRunner
from scalerl_lab.cli import lab
assert CliRunner().invoke(lab, ["--help"]).exit_code == 0
"""


@pytest.mark.parametrize(
    "code", [HELP, "import scalerl_lab.launch.driver", "import scalerl_lab.launch.sweep_run"],
    ids=["lab --help", "driver", "sweep_run"],
)  # fmt: skip
def test_nothing_heavy_is_imported(code: str) -> None:
    assert json.loads(python(f"{code}\n{LISTED}")) == []


def test_help_needs_neither_numpy_nor_pydantic() -> None:
    names = ("numpy", "pydantic", "sqlalchemy", "rich")
    light = f"import json; print(json.dumps([m for m in {names!r} if m in sys.modules]))"
    assert json.loads(python(f"{HELP}\n{light}")) == []


def test_help_is_immediate() -> None:
    """Processor time, not wall time: other work on the machine must not fail this."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(3):
        before = spent()
        subprocess.run(
            [sys.executable, "-c", "from scalerl_lab.cli import main; main()", "--help"],
            stdout=subprocess.DEVNULL, timeout=60, check=True,
        )  # fmt: skip
        times.append(spent() - before)
    assert min(times) < 0.3
