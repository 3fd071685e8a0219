"""decide: policy about money; curves, fits and a rule in, a decision with its reason out.

    analysis.py    ``analyse``: the verdict on a run from the points of its whole sweep
    rule.py        ``decide``: what becomes of a run; ``decide_ended``: of one whose trial ended by itself;
                   ``decide_unfitted``: of one whose fit failed
    divergence.py  collapse from the peak, and truncation: stops that need no forecast
    looks.py       when a run is looked at together with its whole sweep
    quantity.py    ``Measure``: what arms are compared by (ceiling, pass rate, GPU-hours), and with what
    compare.py     the run's arm against the reference: the numbers that a decision rests on
    extension.py   which runs may be given more compute, and by how much at a time
    worth.py       what the next GPU-hours of a run would say about the sweep's question
    ledger.py      ``Ledger``: the sweep's budget in GPU-hours; what was used, saved and lost, what is free
    orders.py      what people may order, when it is allowed, and what follows from it
    search.py      what a search knows when it proposes its next arm, and whether that is due
    recorded.py    ``Recorded``: a sweep whose points are known to the end
    replay.py      ``replay``: such a sweep under a policy, on a fake clock, with slots and a cap
    policies.py    the lab's rule and simple ones as policies
    conclude.py    what a replayed sweep says in the end: differences, and which arm to take
    wording.py     compute, intervals and probabilities as parts of a sentence

The order is fixed: divergence, then the forecast up to the run's budget, then the grant; else the run goes
on. A control that is the reference is never killed for its forecast, and nobody is while a ceiling is not
identified.

To add a rule: a function in a file of its own that returns what it found or None, its row in
``Cause``, and its place in ``decide``. Everything here is pure: no store, no clock, no
randomness, nothing acted on; the same facts give the same decision.
"""

from scalerl_lab.decide.analysis import Analysis, AnalysisJob, analyse, fit_together
from scalerl_lab.decide.compare import Comparison, compare
from scalerl_lab.decide.divergence import Diverged, find_divergence
from scalerl_lab.decide.extension import Step, is_rival, may_be_extended, next_step
from scalerl_lab.decide.ledger import Account, Hours, Ledger, account_of, ledger_of
from scalerl_lab.decide.looks import is_look_due
from scalerl_lab.decide.orders import (
    InForce,
    check_order,
    decisions_of,
    in_force,
    raised_cap,
    under_pin,
)
from scalerl_lab.decide.rule import Prospects, decide, decide_ended, decide_unfitted

__all__ = [
    "Account",
    "Analysis",
    "AnalysisJob",
    "Comparison",
    "Diverged",
    "Hours",
    "InForce",
    "Ledger",
    "Prospects",
    "Step",
    "account_of",
    "analyse",
    "check_order",
    "compare",
    "decide",
    "decide_ended",
    "decide_unfitted",
    "decisions_of",
    "find_divergence",
    "fit_together",
    "in_force",
    "is_look_due",
    "is_rival",
    "ledger_of",
    "may_be_extended",
    "next_step",
    "raised_cap",
    "under_pin",
]
