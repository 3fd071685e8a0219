"""The lab's rule as objects of other people's tools: stop a trial when its forecast says that it will lose.

Files: ``verdict`` which trials are to stop, and the sentence that says why; pure, and the same for every
tool; ``ray_tune`` a Ray Tune scheduler, with ``tracked`` what it knows of a trial, ``trial_log`` what it
keeps on disk and ``forecaster`` its fits in a process of their own; ``optuna_pruner`` an Optuna pruner.
And the other way round, ``peers``: rules of Ray Tune and Optuna, by their own code, as policies of a replay;
``search``: Optuna's samplers as functions that propose the next arm of a search.

To add a tool: a file with an object of that tool's kind that hands ``verdict.judge`` its trials as
``History``, and a conformance test against the installed tool. Nothing here knows what is trained, and
importing this room never imports the tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalerl_lab.plugins.optuna_pruner import ForecastPruner
    from scalerl_lab.plugins.ray_tune import ForecastScheduler

__all__ = ["ForecastPruner", "ForecastScheduler"]


def __getattr__(name: str) -> Any:
    # The classes derive from the tools' own, so the tool is imported with the class and not before.
    if name == "ForecastScheduler":
        from scalerl_lab.plugins.ray_tune import ForecastScheduler

        return ForecastScheduler
    if name == "ForecastPruner":
        from scalerl_lab.plugins.optuna_pruner import ForecastPruner

        return ForecastPruner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
