"""Trials as Ray Tune trials: placement, processes and resources are Ray's, everything else is ours.

Tune is a disposable executor. It runs in a thread of the driver, takes trials from a queue through
its searcher interface (so a trial exists only once it is admitted: Tune starts every pending trial by
itself), and says when they are over. Its own snapshots are never restored: they lose the scheduler,
restart paused trials and lag behind (ray-project/ray#30838).
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, PlacementGroupFactory, RunConfig, TuneConfig
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scalerl_lab.config.recipe import Resources
from scalerl_lab.errors import ResourceError
from scalerl_lab.launch.launcher import TrialOver, TrialRequest

_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "1e9",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_NO_LIMIT = 1_000_000
"""Tune wants a number of trials; the queue decides."""
_JOIN_S = 30.0
_ANSWER_S = 60.0
_ALL = "*"
"""Stands for every run where one is to be stopped."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Ray has."""

    address: str
    cpus: float
    gpus: float


def connect(address: str, num_cpus: int | None = None) -> Cluster:
    """Start a Ray of our own (``local``) or join a running one.

    Raises:
        ResourceError: no Ray answers at ``address``.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    # Failures reach the driver as facts; Tune's own tracebacks would only repeat them on the terminal.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    if not ray.is_initialized():
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address == "local":
            options |= {"include_dashboard": False, "num_cpus": num_cpus}
        try:
            ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ResourceError(
                f"no Ray cluster answers at {address!r} ({error}); start one with `ray start --head`, "
                "or leave --address away to use this machine"
            ) from None
    have = ray.cluster_resources()
    return Cluster(address, have.get("CPU", 0.0), have.get("GPU", 0.0))


def disconnect() -> None:
    """Leave Ray; a Ray of our own ends."""
    ray.shutdown()


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """What a node of the cluster sees."""

    name: str
    """Its host name."""
    sees_file: bool
    """Whether a file of the driver's lies there at the same path."""
    version: str
    """Of the lab in its Python; empty where there is none."""


def see_from_nodes(file: Path) -> list[NodeSeen]:
    """Look from every living node; each must answer within a minute.

    Raises:
        ResourceError: a node does not answer.
    """

    def look(path: str) -> tuple[str, bool, str]:
        # Sent by value, standard library only: the node may lack the lab.
        import importlib.metadata
        import socket
        from pathlib import Path

        try:
            version = importlib.metadata.version("scalerl-lab")
        except importlib.metadata.PackageNotFoundError:
            version = ""
        return socket.gethostname(), Path(path).exists(), version

    remote = ray.remote(look)
    asked = [
        remote.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(str(file))
        for node in ray.nodes()
        if node["Alive"]
    ]
    try:
        return [NodeSeen(*seen) for seen in ray.get(asked, timeout=_ANSWER_S)]
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise ResourceError(f"a node of the cluster does not answer: {str(error).splitlines()[0]}") from None


def require(cluster: Cluster, resources: Resources, recipe: str, profile: str) -> None:
    """Refuse what the cluster can never place.

    Raises:
        ResourceError: names what is needed and what is there.
    """
    if resources.gpus <= cluster.gpus and resources.cpus <= cluster.cpus:
        return
    raise ResourceError(
        f"recipe {recipe} under profile {profile} needs {resources.gpus} GPUs "
        f"({resources.generator_gpus} generator + {resources.trainer_gpus} trainer) "
        f"and {resources.cpus:g} CPUs per run; Ray at {cluster.address!r} "
        f"has {cluster.gpus:g} GPUs and {cluster.cpus:g} CPUs. "
        "Join a larger cluster with --address, or ask the same question at laptop scale with --profile laptop"
    )


def placement(resources: Resources) -> PlacementGroupFactory:
    """The bundles of one run: the worker's own first, then one per further GPU."""
    head: dict[str, float] = {"CPU": resources.cpus}
    if resources.gpus:
        head["GPU"] = 1.0
    return PlacementGroupFactory([head] + [{"GPU": 1.0}] * (resources.gpus - 1), strategy="PACK")


def _trainable(config: dict[str, Any]) -> None:
    """One trial, in an actor of Ray's."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from scalerl_lab.launch.worker import execute

    request = config["request"]
    execute(
        Path(request["folder"]),
        Path(request["cache"]),
        request["trial"],
        code_version=request["code_version"],
        on_point=lambda point: tune.report({"gpu_hours": point.gpu_hours, "pass_rate": point.pass_rate}),
    )


def _trial_folder(trial: Any) -> str:
    request = trial.config["request"]
    return f"{request['run_id']}-{request['trial']}"


class _Channel:
    """What passes between the driver and Tune's thread.

    Tune pickles and copies its searcher, scheduler and callbacks; a channel that is pickled comes
    back as itself, so every copy talks to the same driver.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests: queue.Queue[TrialRequest | None] = queue.Queue()
        self.to_stop: queue.Queue[str] = queue.Queue()
        self.ends: queue.Queue[TrialOver] = queue.Queue()
        _CHANNELS[name] = self

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _CHANNELS.__getitem__, (self.name,)


_CHANNELS: dict[str, _Channel] = {}


class _Admission(Searcher):  # type: ignore[misc]
    """Hands queued requests to Tune, one whenever it has room."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__(metric="pass_rate", mode="max")
        self._channel = channel

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        try:
            request = self._channel.requests.get_nowait()
        except queue.Empty:
            return None
        if request is None:
            return str(Searcher.FINISHED)
        return {
            "request": {
                "run_id": request.run_id,
                "trial": request.trial,
                "folder": str(request.folder),
                "cache": str(request.cache),
                "code_version": request.code_version,
                "resources": request.resources.model_dump(),
            }
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing to learn: the driver reads the run's folder."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing worth keeping: SQL knows what is unfinished."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to bring back."""


class _StopOnOrder(FIFOScheduler):  # type: ignore[misc]
    """First come, first served, plus taking down trials that were ordered down."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self._channel = channel

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        while not self._channel.to_stop.empty():
            run_id = self._channel.to_stop.get_nowait()
            for trial in list(tune_controller.get_live_trials()):
                if run_id in (_ALL, trial.config["request"]["run_id"]):
                    tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)


class _Ends(Callback):  # type: ignore[misc]
    """Passes on that a trial is over."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._pass_on(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._pass_on(trial, "the worker failed, or its process died")

    def _pass_on(self, trial: Any, error: str | None) -> None:
        request = trial.config["request"]
        self._channel.ends.put(TrialOver(request["run_id"], request["trial"], error))


class RayTuneLauncher:
    """Executes trials through one Tune experiment in a thread; see ``launcher.Launcher``."""

    def __init__(self, storage: Path, name: str) -> None:
        self._channel = _Channel(name)
        self._storage = storage
        self._thread = threading.Thread(target=self._execute, name="ray-tune", daemon=True)
        self._thread.start()

    def start(self, request: TrialRequest) -> None:
        """Queue a trial."""
        self._channel.requests.put(request)

    def over(self) -> list[TrialOver]:
        """Trials that ended since the last call.

        Raises:
            ResourceError: Tune itself has died.
        """
        if not self._thread.is_alive():
            raise ResourceError("Ray Tune has stopped; the same command continues the sweep")
        ended: list[TrialOver] = []
        while not self._channel.ends.empty():
            ended.append(self._channel.ends.get_nowait())
        return ended

    def stop(self, run_id: str) -> None:
        """Take down a run's trial: Tune kills its actor and frees its placement group."""
        self._channel.to_stop.put(run_id)

    def close(self) -> None:
        """End the experiment, and every trial that still runs."""
        self._channel.requests.put(None)
        self._channel.to_stop.put(_ALL)
        self._thread.join(_JOIN_S)
        shutil.rmtree(self._storage / self._channel.name, ignore_errors=True)

    def _execute(self) -> None:
        self._experiment().fit()

    def _experiment(self) -> tune.Tuner:
        trainable = tune.with_resources(
            _trainable, lambda config: placement(Resources(**config["request"]["resources"]))
        )
        return tune.Tuner(
            trainable,
            tune_config=TuneConfig(
                search_alg=_Admission(self._channel),
                scheduler=_StopOnOrder(self._channel),
                num_samples=_NO_LIMIT,
                reuse_actors=True,
                trial_dirname_creator=_trial_folder,
            ),
            run_config=RunConfig(
                name=self._channel.name,
                storage_path=str(self._storage),
                verbose=0,
                callbacks=[_Ends(self._channel)],
            ),
        )
