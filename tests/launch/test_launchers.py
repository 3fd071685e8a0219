"""Every launcher keeps the promises of ``Launcher``, with the real trainer on a very small run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalerl_lab.config.evaluation import Evaluation
from scalerl_lab.config.profile import FlopsMeter
from scalerl_lab.config.recipe import Optimizer, Recipe, Resources
from scalerl_lab.config.rewards import Interruption
from scalerl_lab.config.sampling import Batch, Sampling
from scalerl_lab.config.start import Demonstrations, LlamaModel
from scalerl_lab.config.tasks import ChainArithmetic
from scalerl_lab.errors import ResourceError
from scalerl_lab.launch.inline import InlineLauncher
from scalerl_lab.launch.launcher import Launcher, TrialOver, TrialRequest
from scalerl_lab.launch.run_folder import Orders, RunFolder
from scalerl_lab.records import EndReason, EvalPoint, RunSpec, TrialEnded

SMALL = Recipe(
    name="very_small",
    model=LlamaModel(layers=1, width=16, heads=2, mlp_width=32),
    tasks=ChainArithmetic(max_steps=3, num_train=64, num_heldout=16),
    warm_start=Demonstrations(steps=2, demonstrations_per_step=4),
    sampling=Sampling(generations_per_prompt=4, max_response_tokens=12),
    batch=Batch(prompts_per_step=4),
    length_control=Interruption(phrase="#"),
    optimizer=Optimizer(lr=1e-4, warmup_steps=1),
    evaluation=Evaluation(every_steps=2, num_prompts=8, samples_per_prompt=2),
)
SECONDS = 270.0


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[object]:
    from scalerl_lab.launch import ray_tune

    yield ray_tune.connect("local", 2)
    ray_tune.disconnect()


@pytest.fixture(params=["inline", "ray_tune"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Launcher]:
    made: Launcher
    if request.param == "inline":
        made = InlineLauncher()
    else:
        request.getfixturevalue("ray_cluster")
        from scalerl_lab.launch.ray_tune import RayTuneLauncher

        made = RayTuneLauncher(tmp_path / "ray", f"conformance-{tmp_path.name}")
    yield made
    made.close()


def request_for(tmp_path: Path, run_id: str, gpu_hours: float, seed: int = 0) -> TrialRequest:
    folder = RunFolder(tmp_path / run_id)
    folder.create(RunSpec(run_id, SMALL, seed, FlopsMeter(flops_per_gpu_hour=1e6)))
    folder.write_orders(Orders(gpu_hours))
    return TrialRequest(run_id, 1, folder.path, tmp_path / "cache", Resources(), "test", run_id)


def wait_for(launcher: Launcher, num: int) -> list[TrialOver]:
    over: list[TrialOver] = []
    deadline = time.monotonic() + SECONDS
    while len(over) < num and time.monotonic() < deadline:
        over += launcher.over()
        time.sleep(0.02)
    return over


def test_each_request_is_executed_once_and_its_end_told_once(launcher: Launcher, tmp_path: Path) -> None:
    requests = [request_for(tmp_path, f"run{i}", 20.0, seed=i) for i in range(3)]
    for request in requests:
        launcher.start(request)
    over = wait_for(launcher, 3)
    assert sorted((o.run_id, o.trial, o.error) for o in over) == [(f"run{i}", 1, None) for i in range(3)]
    assert launcher.over() == []
    for request in requests:
        facts = RunFolder(request.folder).read_facts()
        points = [fact for fact in facts if isinstance(fact, EvalPoint)]
        assert points[-1].gpu_hours >= 20.0
        assert [f.reason for f in facts if isinstance(f, TrialEnded)] == [EndReason.GRANT_REACHED]


def test_a_trial_that_fails_is_over_with_an_error(launcher: Launcher, tmp_path: Path) -> None:
    request = request_for(tmp_path, "broken", 20.0)
    (request.folder / "spec.json").write_text("{}")
    launcher.start(request)
    (over,) = wait_for(launcher, 1)
    assert over.error is not None
    ended = RunFolder(request.folder).read_facts()[-1]
    assert isinstance(ended, TrialEnded)
    assert ended.reason is EndReason.FAILED


def test_orders_to_stop_end_a_trial_and_free_what_it_held(ray_cluster: object, tmp_path: Path) -> None:
    import ray

    from scalerl_lab.launch.ray_tune import RayTuneLauncher

    launcher = RayTuneLauncher(tmp_path / "ray", f"stop-{tmp_path.name}")
    heeds, ignores = request_for(tmp_path, "heeds", 1e9), request_for(tmp_path, "ignores", 1e9, seed=1)
    for request in (heeds, ignores):
        launcher.start(request)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and not all(
        any(isinstance(f, EvalPoint) for f in RunFolder(r.folder).read_facts()) for r in (heeds, ignores)
    ):
        time.sleep(0.1)
    RunFolder(heeds.folder).write_orders(Orders(1e9, stop=True))
    assert [o.run_id for o in wait_for(launcher, 1)] == ["heeds"]
    launcher.stop("ignores")
    assert [o.run_id for o in wait_for(launcher, 1)] == ["ignores"]
    launcher.close()
    deadline = time.monotonic() + 20.0
    while ray.available_resources().get("CPU", 0.0) < 2.0 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 2.0


def test_what_the_cluster_can_never_place_is_refused(ray_cluster: object) -> None:
    from scalerl_lab.launch import ray_tune

    needs = Resources(cpus=1, generator_gpus=64, trainer_gpus=16)
    with pytest.raises(ResourceError, match=r"needs 80 GPUs \(64 generator \+ 16 trainer\).* has 0 GPUs"):
        ray_tune.require(ray_cluster, needs, "scalerl_8b", "cluster")  # type: ignore[arg-type]
    ray_tune.require(ray_cluster, Resources(), "scalerl_tiny", "laptop")  # type: ignore[arg-type]


def test_a_run_on_many_gpus_is_one_bundle_per_gpu() -> None:
    from scalerl_lab.launch.ray_tune import placement

    bundles = placement(Resources(cpus=2, generator_gpus=3, trainer_gpus=1)).bundles
    assert bundles == [{"CPU": 2.0, "GPU": 1.0}, {"GPU": 1.0}, {"GPU": 1.0}, {"GPU": 1.0}]
    assert placement(Resources()).bundles == [{"CPU": 1.0}]
