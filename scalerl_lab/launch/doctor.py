"""What a machine or cluster has of what the lab needs, and how to mend what is lacking."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from scalerl_lab.errors import LabError
from scalerl_lab.launch.home import Home

_PYTHON = (3, 11)
_LEAST_GB, _FEW_GB = 1.0, 10.0
_NETWORK_FILESYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "lustre", "fuse.sshfs", "9p", "beegfs"})


class Health(StrEnum):
    """How a thing is."""

    GOOD = "good"
    LACKING = "lacking"
    """Sweeps run, but not all of them, or not everywhere."""
    BROKEN = "broken"
    """Nothing runs before this is mended."""


@dataclass(frozen=True, slots=True)
class Examined:
    """One thing that was looked at."""

    what: str
    health: Health
    found: str
    mend: str = ""
    """What to do; empty where it is good."""


def examine(home: Home, address: str) -> Iterator[Examined]:
    """Look at everything, one after the other; nothing is left behind.

    Args:
        home: where the lab keeps its things.
        address: of Ray: ``local`` starts one and ends it; ``auto`` or host:port joins.
    """
    for look in (_python, _torch, _disk, _database, _mlflow, _sandbox, _verifiers):
        yield _looked(look, home)
    yield from _ray(home, address)


def _looked(look: Callable[[Home], Examined], home: Home) -> Examined:
    try:
        return look(home)
    except LabError as error:
        return Examined(look.__name__.strip("_"), Health.BROKEN, str(error), "see the message")


def _python(home: Home) -> Examined:
    version = importlib.metadata.version("scalerl-lab")
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, scalerl-lab {version}"
    if sys.version_info < _PYTHON:
        least = ".".join(map(str, _PYTHON))
        return Examined("Python", Health.BROKEN, found, f"install Python {least} or later")
    return Examined("Python", Health.GOOD, found)


def _torch(home: Home) -> Examined:
    from scalerl_lab.engines.devices import devices

    found = devices()
    told = f"{found.torch}, " + (", ".join(found.gpus) or "no GPU: sweeps run at laptop scale")
    if not found.gpus and shutil.which("nvidia-smi"):
        return Examined(
            "torch",
            Health.LACKING,
            f"{told}, though nvidia-smi is here",
            f"this torch is built for {found.built_for}: install the build for this driver's CUDA, or mend "
            "the driver (nvidia-smi must list the GPUs)",
        )
    return Examined("torch", Health.GOOD, told)


def _disk(home: Home) -> Examined:
    there = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    if not os.access(there, os.W_OK):
        return Examined(
            "disk", Health.BROKEN, f"{there} cannot be written to", "point LAB_HOME at a folder of yours"
        )
    free_gb = shutil.disk_usage(there).free / 1e9
    found = f"{free_gb:,.1f} GB free for {home.root}"
    mend = "free some, or point LAB_HOME at a larger disk: runs keep checkpoints there"
    if free_gb < _LEAST_GB:
        return Examined("disk", Health.BROKEN, found, mend)
    return Examined("disk", *((Health.LACKING, found, mend) if free_gb < _FEW_GB else (Health.GOOD, found)))


def _database(home: Home) -> Examined:
    from scalerl_lab.store import look_at_database

    name = "database"
    if home.database_url.startswith("sqlite:///"):
        file = Path(home.database_url.removeprefix("sqlite:///"))
        kind = _filesystem(file.parent)
        if kind in _NETWORK_FILESYSTEMS:
            return Examined(
                name,
                Health.LACKING,
                f"{file} lies on {kind}, where SQLite's locks cannot be relied on",
                "point LAB_HOME at a local disk, or LAB_DATABASE_URL at a PostgreSQL server",
            )
        if not file.exists():
            return Examined(name, Health.GOOD, f"none yet at {file}; the first sweep makes it")
    seen = look_at_database(home.database_url)
    if seen.version is None:
        return Examined(name, Health.GOOD, f"{seen.shown} answers; the first sweep makes its tables")
    if not seen.known:
        return Examined(
            name,
            Health.BROKEN,
            f"{seen.shown} has schema {seen.version}, this version of the lab knows up to {seen.head}",
            "upgrade scalerl-lab, or give another LAB_DATABASE_URL",
        )
    behind = "" if seen.version == seen.head else f"; the next command brings it to {seen.head}"
    return Examined(name, Health.GOOD, f"{seen.shown} answers, schema {seen.version}{behind}")


def _filesystem(folder: Path) -> str:
    """Kind of the file system of a folder, by the longest mount point above it; empty if unknown."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    above = {str(each) for each in (folder.resolve(), *folder.resolve().parents)}
    kinds = [(len(words[1]), words[2]) for words in mounts if len(words) > 2 and words[1] in above]
    return max(kinds)[1] if kinds else ""


def _mlflow(home: Home) -> Examined:
    from scalerl_lab.store import look_at_mlflow

    try:
        return Examined("MLflow", Health.GOOD, look_at_mlflow(home.mlflow_uri))
    except LabError as error:
        return Examined(
            "MLflow",
            Health.LACKING,
            str(error),
            "sweeps run without it and it is told later; start the server, or mend LAB_MLFLOW_URI",
        )


def _sandbox(home: Home) -> Examined:
    from scalerl_lab.tasks.sandbox import look_around

    try:
        left_open = [each.what for each in look_around() if not each.holds]
    except LabError as error:
        return Examined("sandbox", Health.LACKING, "model-written code cannot be run safely here", str(error))
    if left_open:
        found = f"it works but does not keep this: {', '.join(left_open)}"
        return Examined(
            "sandbox", Health.LACKING, found, "recipes with code refuse to run; lab sandbox check"
        )
    return Examined("sandbox", Health.GOOD, "bubblewrap works and keeps what it promises")


def _verifiers(home: Home) -> Examined:
    wanted = {"math_verify": "mathematics", "reasoning_gym": "puzzles"}
    absent = [what for module, what in wanted.items() if find_spec(module) is None]
    if absent:
        return Examined(
            "verifiers",
            Health.LACKING,
            f"those of {' and '.join(absent)} are not installed",
            "pip install 'scalerl-lab[tasks]' where recipes have such prompts",
        )
    return Examined("verifiers", Health.GOOD, "mathematics and puzzles can be verified")


def _ray(home: Home, address: str) -> Iterator[Examined]:
    from scalerl_lab.launch.ray_tune import connect, disconnect, see_from_nodes

    try:
        cluster = connect(address)
    except LabError as error:
        yield Examined("Ray", Health.BROKEN, str(error), "see the message")
        return
    try:
        where = "started and ended here" if address == "local" else f"joined at {address}"
        yield Examined("Ray", Health.GOOD, f"{where}: {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs")
        if address != "local":
            home.root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=home.root, prefix=".doctor-") as mark:
                for node in see_from_nodes(Path(mark.name)):
                    yield _node(home, node.name, node.sees_file, node.version)
    finally:
        disconnect()


def _node(home: Home, name: str, sees_file: bool, version: str) -> Examined:
    own = importlib.metadata.version("scalerl-lab")
    if version != own:
        return Examined(
            f"node {name}",
            Health.BROKEN,
            f"has scalerl-lab {version or 'not'} installed, the driver has {own}",
            "install the same version in the Python that Ray runs on every node",
        )
    if not sees_file:
        return Examined(
            f"node {name}",
            Health.BROKEN,
            f"does not see {home.root}",
            "point LAB_HOME at storage that driver and workers mount at the same path",
        )
    return Examined(f"node {name}", Health.GOOD, f"sees {home.root}, same version of the lab")
