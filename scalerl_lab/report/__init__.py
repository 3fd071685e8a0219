"""Read-only: what a sweep found, as tables, files and pages.

    view        all that a report is made from, read from the store; fits are recomputed from the points
    ceilings    the table of arms; ``verdict`` its words and thresholds, ``speed`` hours to a common level
    terminal    that table as text; ``export`` as JSON and CSV
    page        as a self-contained HTML page: ``page_parts``, ``curves``, ``forest``, ``caveats``,
                ``markup``, page.css, page.js; what was measured beside the pass rate: ``boundary_page``,
                ``transfer_page``, ``domains_page`` and ``outputs_page``, drawn by ``chart``
    fit_plot    one run's fit as a picture, for MLflow
    forecasts   a folder: curves of any file, read, fitted, forecast and shown, for ``lab fit``
    replayed    a replay as a table and as JSON; ``replay_source`` curves of a file or sweep to be replayed
    bench       a folder: how good forecasts are, on real curves and where the answer is known
    power       what a plan could see, by simulation; ``power_table`` says it
    plan_table  a sweep before it starts; ``progress`` while it runs; ``status`` where it stands;
    budget      the ledger of GPU-hours as a table, a line and JSON
    boundary    pass@k before and after by set of problems, run by run; ``arm_boundary`` arm by arm;
                ``transfer`` gains beyond the held-out prompts; ``domains`` the curve of each domain
    story       a run from its first trial to what was decided last; ``why`` tells it in a terminal,
                ``decisions`` lists those of a sweep; ``story_picture`` what was known then, drawn by
                ``story_plot`` in characters and by ``story_svg`` for ``story_page``, its part of the page;
                ``held_against`` names what arms are compared by, and with what
    words       how numbers are written, everywhere

To add a report: a pure function of ``SweepView`` or ``Ceilings``, and a flag in ``cli``. The same points
give the same report. This room never writes to the store, never decides, and its pages ask the network
for nothing.
"""
