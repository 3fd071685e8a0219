"""From a question to the runs that answer it, with stable ids and a bill; nothing is spent here.

Files: ``expand`` the way from a sweep to a plan; ``arms`` what each kind of question asks for; ``variant``
an arm before its seeds are drawn; ``axis`` points and coupled fields; ``searched`` from what a search
proposes to its runs; ``changes`` in what two recipes differ; ``identity`` the hashes; ``sweep_plan`` the
result; ``describe`` the rows of the bill.

To add a kind of question: a model in ``config.sweep`` and a case in ``arms``. The same question gives the
same plan, whatever the order of its keys. This room reads no database and starts nothing.
"""

from scalerl_lab.plan.describe import PlanRow, describe
from scalerl_lab.plan.expand import expand, plan_file
from scalerl_lab.plan.identity import RESULTS_VERSION, digest, run_identity
from scalerl_lab.plan.searched import control_values, rounded, searched_runs
from scalerl_lab.plan.sweep_plan import SweepPlan

__all__ = [
    "RESULTS_VERSION",
    "PlanRow",
    "SweepPlan",
    "control_values",
    "describe",
    "digest",
    "expand",
    "plan_file",
    "rounded",
    "run_identity",
    "searched_runs",
]
