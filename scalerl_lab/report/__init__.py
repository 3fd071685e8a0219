"""Read-only: what a sweep found, as tables, files and pages.

Files: ``view`` all that a report is made from, read from the store; ``ceilings`` the table of arms, with
``verdict`` its words and ``efficiency`` B at a given ceiling; ``terminal`` and ``export`` the table as
text, JSON and CSV; ``page`` the self-contained HTML page with its drawings (``svg``, ``curves``, ``forest``,
``spend``); ``fit_plot`` one run's fit as a picture; ``plan_table`` a sweep before it starts; ``why`` the
decisions of a run; ``progress`` a sweep while it runs; ``words`` how numbers are written.

To add a report: a pure function of ``SweepView`` or ``Ceilings``, and a flag in ``cli``. Fits are
recomputed from the points, so every number can be traced to rows. This room never writes to the store,
never decides, and never asks the network for anything.
"""
