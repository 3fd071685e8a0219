"""The RL algorithm as axes, and the loop that runs one recipe to the compute it was granted.

Files, one table each: ``losses``, ``advantages``, ``aggregation``, ``mismatch`` what ratios are against and
the sampler's mismatch, ``kl`` its estimators, ``reference`` when the reference policy is reset, ``filters``,
``curriculum``, ``lengths``, ``off_policy``, ``difficulty``; ``rewards`` has three, and the order in which a
reward is shaped. What runs them: ``rollout`` prompts to verified completions, ``groups`` rows by prompt,
``batch`` what a rollout and one optimiser step consume, ``update`` the steps on a rollout and the objective
whose gradient they take, ``evaluate`` held-out points and what else is measured, ``overlap`` n-grams found in
a corpus, ``meter`` counted operations and hours, ``warm_start`` the shared supervised start, ``checkpoint``
complete states on disk, ``checkpoint_index`` finding them without torch, ``streams`` random numbers, ``loop``
all of it.

To add a choice: a tagged model in ``config``, one function, one row in the matching table, one
hand-computed test. This room never knows SQL, MLflow or Ray: facts go to the supervisor it is handed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from scalerl_lab.records import Fact, RunSpec, TrialEnded

__all__ = ["Supervisor", "train"]


class Supervisor(Protocol):
    """What the loop asks of whoever runs it."""

    def emit(self, fact: Fact) -> None:
        """Put a fact on file; one that is on file already (same kind, step and name) is dropped."""
        ...

    def granted_gpu_hours(self) -> float:
        """Compute this run may use; it may grow while the run goes on."""
        ...

    def stop_requested(self) -> bool:
        """Whether the run is to stop now."""
        ...

    def beat(self, step: int, gpu_hours: float, flops: int) -> None:
        """Told after every optimiser step; must be cheap."""
        ...


def train(spec: RunSpec, folder: Path, cache: Path, trial: int, supervisor: Supervisor) -> TrialEnded:
    """Train one run from its newest checkpoint until its grant is used, it is stopped, or it fails.

    At each evaluation step: evaluate, write a checkpoint that holds the facts of that step, then emit
    those facts. After a crash the checkpoint's facts are emitted again, so that no point is lost, and
    the supervisor drops what it has, so that none is doubled. Under a ``flops`` meter the run goes on
    bit for bit as if it had never stopped.

    Args:
        spec: what is to be run.
        folder: the run's folder; checkpoints lie in ``folder/checkpoints``.
        cache: folder of shared warm starts.
        trial: number of this attempt, written into its facts.
        supervisor: takes the facts, and says how much compute is granted and whether to stop.

    Returns:
        How the attempt ended, which is also the last fact emitted.

    Raises:
        NotSupported: the recipe needs an engine, model or task family this version lacks.
        CheckpointError: the newest checkpoint belongs to another run.
    """
    from scalerl_lab.rl.loop import train as run_loop

    return run_loop(spec, folder, cache, trial, supervisor)
