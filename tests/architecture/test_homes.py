"""Each heavy dependency has one home, and starting up loads none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.architecture.source import ROOMS, imported_packages, python_files, room_of

HOMES = {
    "torch": {"engines", "rl"},
    "safetensors": {"engines", "rl"},
    "transformers": {"engines"},
    "tokenizers": {"engines", "tasks"},
    "math_verify": {"tasks"},
    "reasoning_gym": {"tasks"},
    "pyarrow": {"tasks"},
    "vllm": {"engines"},
    "deepspeed": {"engines"},
    "ray": {"launch", "plugins"},
    "optuna": {"plugins"},
    "sqlalchemy": {"store", "db"},
    "alembic": {"store", "db"},
    "psycopg": {"store"},
    "mlflow": {"store"},
    "pydantic": {"config"},
    "pydantic_core": {"config"},
    "yaml": {"config"},
    "scipy": {"fit"},
    "matplotlib": {"report"},
    "click": {"cli"},
    "rich": {"cli", "report"},
}

HEAVY = (
    *("torch", "transformers", "vllm", "deepspeed", "ray", "optuna", "mlflow", "scipy", "matplotlib"),
    *("tokenizers", "math_verify", "reasoning_gym", "sympy", "pyarrow"),
)


@pytest.mark.parametrize("package", HOMES)
def test_one_home(package: str) -> None:
    strangers = [
        f"{path}:{line}"
        for path in python_files()
        for imported, line in imported_packages(path)
        if imported == package and room_of(path) not in HOMES[package]
    ]
    assert not strangers, f"{package} lives in {sorted(HOMES[package])}, but is imported at {strangers}"


def test_homes_are_lived_in() -> None:
    """The reader of imports finds the packages where they are known to be."""
    seen = {(imported, room_of(path)) for path in python_files() for imported, _ in imported_packages(path)}
    for package, room in (
        ("torch", "rl"),
        ("transformers", "engines"),
        ("ray", "launch"),
        ("mlflow", "store"),
        ("yaml", "config"),
        ("click", "cli"),
    ):
        assert (package, room) in seen


def test_doors_and_driver_import_without_heavy_packages() -> None:
    modules = (
        *(f"scalerl_lab.{room}" for room in ROOMS),
        "scalerl_lab.launch.driver",
        "scalerl_lab.launch.sweep_run",
        "scalerl_lab.rl.checkpoint_index",
        "scalerl_lab.rl.curriculum",
        "scalerl_lab.store.store",
        "scalerl_lab.report.ceilings",
    )
    code = (
        "import importlib, sys\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        f"    loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    if loaded: sys.exit(f'importing {module} loads {loaded}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
