"""From a sweep's file to its outcome: profile, cluster, plan, lock, mirror, driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scalerl_lab.engines import require_supported
from scalerl_lab.launch.analysis import Plot, analyst
from scalerl_lab.launch.driver import Driver, slots
from scalerl_lab.launch.home import Home
from scalerl_lab.launch.locking import exclusive
from scalerl_lab.launch.provenance import code_version
from scalerl_lab.launch.searching import Proposer
from scalerl_lab.launch.watcher import Watcher
from scalerl_lab.plan import plan_file
from scalerl_lab.records import RunState, RunStatus
from scalerl_lab.store import Store

_MIRROR_DRAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a sweep stands after its driver ended."""

    sweep_id: str
    runs: tuple[RunState, ...]
    mirror_behind: bool
    """Whether MLflow still lacks some of it; nothing is lost, the next command sends it."""

    @property
    def failed(self) -> tuple[RunState, ...]:
        """Runs that failed for good."""
        return tuple(run for run in self.runs if run.status is RunStatus.FAILED)

    @property
    def unfunded(self) -> tuple[RunState, ...]:
        """Runs that the sweep's budget did not cover."""
        return tuple(run for run in self.runs if run.status is RunStatus.PLANNED)


def run_sweep(
    path: str,
    profile_name: str | None,
    *,
    address: str | None,
    watcher: Watcher,
    plot: Plot | None = None,
    proposer: Proposer | None = None,
) -> Outcome:
    """Run a sweep, or go on with it, until every run has its verdict.

    Args:
        path: the sweep's file, or the name of a shipped one.
        profile_name: profile to run under; chosen by what Ray sees when absent and no address is given.
        address: Ray to join; the profile's own when absent. ``RAY_ADDRESS`` counts as given.
        watcher: told of the plan, of progress and of events.
        plot: draws each ended run's fit for MLflow.
        proposer: chooses the arms of a search; needed where the sweep is one.

    Raises:
        ConfigError: the sweep, a recipe or the profile says something that is not allowed.
        ResourceError: the cluster lacks what a recipe needs.
        NotSupported: a recipe asks for an engine that this version lacks.
        LockHeld: another process drives this sweep.
        StoreError: the database cannot be reached.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    open_choice = profile_name is None and address is None
    # Whatever is wrong with the question is found before Ray is started.
    plan = plan_file(path, "laptop" if open_choice else profile_name or "cluster")
    from scalerl_lab.launch import ray_tune

    home = Home.from_environment()
    where = address or ("local" if open_choice else plan.profile.ray.address)
    cluster = ray_tune.connect(where, plan.profile.ray.num_cpus if where == "local" else None)
    # Ray answers SIGTERM with a stack trace; here it means the same as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        headline = []
        if open_choice and cluster.gpus:
            plan = plan_file(path, "cluster")
        elif open_choice:
            headline.append("Ray sees no GPU here: running with profile laptop.")
        for run in plan.runs:
            ray_tune.require(cluster, run.spec.recipe.resources, run.spec.recipe.name, plan.profile.name)
            require_supported(run.spec.recipe.engine, run.spec.recipe.model)
        with exclusive(home.sweep_lock(plan.sweep_id), wait_s=2.0, what=f"sweep {plan.sweep_id}"):
            store = Store.open(home.database_url)
            headline.append(
                f"Ray at {cluster.address}: {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs. "
                f"Database {store.database.shown}"
            )
            store.record_plan(plan)
            watcher.started(plan, headline)
            with (
                store.driving(plan.sweep_id),
                _mirror(home, plan.sweep_id) as mirror,
                analyst() as fits,
            ):
                runs = Driver(
                    plan=plan,
                    store=store,
                    launcher=ray_tune.RayTuneLauncher(home.ray, plan.sweep_id),
                    analyst=fits,
                    home=home,
                    watcher=watcher,
                    code_version=code_version(),
                    max_live=slots(cluster.cpus, cluster.gpus, plan) + 1,
                    plot=plot,
                    proposer=proposer,
                ).drive()
                ray_tune.disconnect()
                behind = not _drained(mirror, home, plan.sweep_id)
    finally:
        ray_tune.disconnect()
    return Outcome(plan.sweep_id, tuple(runs), behind)


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _mirror(home: Home, sweep_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """Keep a process beside the driver that copies rows to MLflow; its troubles are its own."""
    log = home.log("mirror")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            _mirror_command(home, sweep_id, ["--parent", str(os.getpid())]),
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_yield_to_runs,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _mirror_command(home: Home, sweep_id: str, more: list[str]) -> list[str]:
    mirror = [sys.executable, "-m", "scalerl_lab.store.mirror"]
    places = ["--database", home.database_url, "--mlflow", home.mlflow_uri]
    return [*mirror, *places, "--artifacts", str(home.mlflow_artifacts), "--sweep", sweep_id, *more]


def _yield_to_runs() -> None:
    os.nice(19)  # below the workers, which Ray starts at 15


def _drained(mirror: subprocess.Popen[bytes], home: Home, sweep_id: str) -> bool:
    """Send what is left, bounded in time."""
    mirror.terminate()
    mirror.wait()
    try:
        last = subprocess.run(
            _mirror_command(home, sweep_id, ["--once"]),
            timeout=_MIRROR_DRAIN_S,
            check=False,
            capture_output=True,
        )
    except subprocess.TimeoutExpired:
        return False
    return last.returncode == 0
