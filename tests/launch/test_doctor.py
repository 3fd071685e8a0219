"""The doctor: what it finds here, and what it says of things that are lacking or broken."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from scalerl_lab.cli import lab
from scalerl_lab.errors import ResourceError
from scalerl_lab.launch import doctor, ray_tune
from scalerl_lab.launch.doctor import Examined, Health, examine
from scalerl_lab.launch.home import Home
from scalerl_lab.launch.ray_tune import Cluster, NodeSeen
from scalerl_lab.store import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that does not exist yet."""
    for name in ("LAB_DATABASE_URL", "LAB_MLFLOW_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    return Home.from_environment(create=False)


def without_ray(monkeypatch: pytest.MonkeyPatch, nodes: list[NodeSeen] | None = None) -> None:
    monkeypatch.setattr(ray_tune, "connect", lambda address: Cluster(address, 4.0, 1.0))
    monkeypatch.setattr(ray_tune, "disconnect", lambda: None)
    monkeypatch.setattr(ray_tune, "see_from_nodes", lambda file: nodes or [])


def all_of(home: Home, address: str = "local") -> dict[str, Examined]:
    return {each.what: each for each in examine(home, address)}


def test_everything_is_named_once_and_nothing_is_left_behind(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    found = list(examine(home, "local"))
    assert [each.what for each in found] == [
        *("Python", "torch", "disk", "database", "MLflow", "sandbox", "verifiers", "Ray"),
    ]
    assert all(bool(each.mend) == (each.health is not Health.GOOD) for each in found)
    assert found[-1].found == "started and ended here: 4 CPUs, 1 GPUs"
    assert not home.root.exists()


def test_a_database_of_a_newer_version_is_broken_and_an_own_one_is_good(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    home.root.mkdir()
    Store.open(home.database_url)
    assert all_of(home)["database"].health is Health.GOOD
    with sqlite3.connect(home.root / "lab.db") as connection:
        connection.execute("UPDATE scalerl_alembic_version SET version_num = '9999'")
    found = all_of(home)["database"]
    assert (found.health, "has schema 9999" in found.found) == (Health.BROKEN, True)
    assert "upgrade scalerl-lab" in found.mend


def test_servers_that_do_not_answer(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """No database, no sweep; MLflow is told later."""
    without_ray(monkeypatch)
    monkeypatch.setenv("LAB_DATABASE_URL", "postgresql+psycopg://me:hidden@127.0.0.1:9/lab")
    monkeypatch.setenv("LAB_MLFLOW_URI", "http://127.0.0.1:9")
    found = all_of(Home.from_environment(create=False))
    assert found["database"].health is Health.BROKEN
    assert "hidden" not in found["database"].found
    assert found["MLflow"].health is Health.LACKING
    assert "http://127.0.0.1:9 does not answer" in found["MLflow"].found
    monkeypatch.setenv("LAB_MLFLOW_URI", "postgresql+psycopg://me:hidden@127.0.0.1:9/mlflow")
    found = all_of(Home.from_environment(create=False))
    assert found["MLflow"].health is Health.LACKING
    assert "hidden" not in found["MLflow"].found


def test_a_network_disk_a_full_disk_and_a_folder_of_others(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    monkeypatch.setattr(doctor, "_filesystem", lambda folder: "nfs4")
    assert "PostgreSQL" in all_of(home)["database"].mend
    for free_gb, health in ((0.5, Health.BROKEN), (5.0, Health.LACKING), (50.0, Health.GOOD)):
        usage = type("Usage", (), {"free": free_gb * 1e9})
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert all_of(home)["disk"].health is health
    monkeypatch.setattr(doctor.os, "access", lambda folder, mode: False)
    assert "cannot be written to" in all_of(home)["disk"].found


def test_the_mount_point_nearest_above_tells_the_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = "a / ext4 rw 0 0\nb /mnt nfs4 rw 0 0\nc /mnt/own xfs rw 0 0\nd /mnt/ownership tmpfs rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda self: mounts)
    kinds = [doctor._filesystem(Path(each)) for each in ("/home/x", "/mnt/x", "/mnt/own/x")]
    assert kinds == ["ext4", "nfs4", "xfs"]


def test_nodes_that_lack_the_storage_or_the_version(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    own = doctor.importlib.metadata.version("scalerl-lab")
    nodes = [NodeSeen("a", True, own), NodeSeen("b", False, own), NodeSeen("c", True, "")]
    without_ray(monkeypatch, nodes)
    found = all_of(home, "auto")
    assert [found[f"node {name}"].health for name in "abc"] == [Health.GOOD, Health.BROKEN, Health.BROKEN]
    assert "does not see" in found["node b"].found
    assert "not installed" in found["node c"].found
    assert list(home.root.iterdir()) == []


def test_no_cluster_is_said_and_ends_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> Cluster:
        raise ResourceError(f"no Ray cluster answers at {address!r}")

    monkeypatch.setattr(ray_tune, "connect", refuse)
    found = all_of(home, "10.0.0.1:6379")["Ray"]
    assert (found.health, found.found) == (Health.BROKEN, "no Ray cluster answers at '10.0.0.1:6379'")


def test_a_node_is_really_asked(tmp_path: Path) -> None:
    ray_tune.connect("local", 1)
    try:
        here = tmp_path / "mark"
        here.touch()
        (node,) = ray_tune.see_from_nodes(here)
        (lost,) = ray_tune.see_from_nodes(tmp_path / "nowhere")
    finally:
        ray_tune.disconnect()
    assert (node.sees_file, lost.sees_file) == (True, False)
    assert node.version == doctor.importlib.metadata.version("scalerl-lab")


def test_the_command_says_how_to_mend_and_fails_where_something_is_broken(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    done = CliRunner().invoke(lab, ["doctor"])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("8 looked at: 0 broken, ")
    monkeypatch.setattr(doctor.os, "access", lambda folder, mode: False)
    done = CliRunner().invoke(lab, ["doctor"])
    assert done.exit_code == 3
    assert "mend it: point LAB_HOME at a folder of yours" in done.stdout
    told = json.loads(CliRunner().invoke(lab, ["doctor", "--json"]).stdout)["examined"]
    assert {"what", "health", "found", "mend"} == set(told[0])
    assert [each["what"] for each in told if each["health"] == "broken"] == ["disk"]
