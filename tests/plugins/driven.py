"""A Ray Tune experiment on recorded curves, as someone's own script would have it: no ``__main__`` guard.

``python -m tests.plugins.driven FOLDER ACTION`` starts it, with losers to "stop" or to "pause", or goes on
with it where it was started before. It writes one JSON line: the iterations that the trials of each ceiling
got to, how often each started, and the number of errors.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray
from ray import tune

from scalerl_lab.plugins import ForecastScheduler

LAST, WORSE = 40, 0.45
WAIT_S = 60.0


def replay(config: dict[str, Any]) -> None:
    """A recorded curve of a loss.

    Near its end the good trial waits for the file ``go``, so that the driver can be killed before it ends;
    the worse one dawdles from step 18 on, so that it is ended by an order if it is.
    """
    folder, ceiling, seed = Path(config["folder"]), *config["arm"]
    noise = np.random.default_rng(seed).standard_normal(LAST)
    with (folder / f"starts-{ceiling}-{seed}").open("a") as file:
        file.write("x")
    for step in range(1, LAST + 1):
        gain = (ceiling - 0.3) / (1.0 + (7.0 / step) ** 2)
        tune.report({"loss": float(2.7 - gain - 0.005 * noise[step - 1]), "gpu_hours": 0.5 * step})
        if ceiling == WORSE and step >= 18:
            time.sleep(0.7)
        until = time.monotonic() + WAIT_S
        while ceiling != WORSE and step == 36 and not (folder / "go").exists() and time.monotonic() < until:
            time.sleep(0.05)


def experiment(folder: Path, action: Literal["stop", "pause"]) -> None:
    """Start it, or restore it, and run it to its end."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    trainable = tune.with_resources(replay, {"cpu": 0.5})
    if tune.Tuner.can_restore(str(folder / "x")):
        tuner = tune.Tuner.restore(str(folder / "x"), trainable)
    else:
        scheduler = ForecastScheduler(
            margin=0.02, target=20.0, compute_attr="gpu_hours", action=action, warm_up=8.0
        )
        tuner = tune.Tuner(
            trainable,
            param_space={
                "folder": str(folder),
                "arm": tune.grid_search([(0.6, 1), (WORSE, 2)]),
            },
            tune_config=tune.TuneConfig(metric="loss", mode="min", scheduler=scheduler),
            run_config=tune.RunConfig(storage_path=str(folder), name="x", verbose=0),
        )
    results = tuner.fit()
    reached: defaultdict[str, list[int]] = defaultdict(list)
    for result in results:
        # Of a trial that did not run after the restore, Tune's snapshot may know nothing.
        if result.metrics and result.config:
            reached[str(result.config["arm"][0])].append(result.metrics["training_iteration"])
    starts = {path.name: len(path.read_text()) for path in folder.glob("starts-*")}
    sys.stdout.write(json.dumps({"reached": reached, "errors": results.num_errors, "starts": starts}) + "\n")


experiment(Path(sys.argv[1]), "stop" if sys.argv[2] == "stop" else "pause")
