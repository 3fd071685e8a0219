"""How good forecasts and decisions are, measured: on real curves, and where the answer is known.

    forecasts    methods on a folder of real curves (``folder``), shown by ``forecast_tables``
    digitised    the points of the paper's figures as curves
    published    forecasts of the published runs from the first half of their compute
    coverage     how often intervals hold the truth, on simulated sweeps
    pooling      what a young run gains from its siblings, on simulated sweeps and on the published one
    decision_cases   sweeps on record whose outcome is known, simulated and real
    decisions        rules of stopping replayed on them; ``decision_rows`` the findings put together and
                     at equal cost, ``decision_tables`` as text, JSON and picture
    speed        seconds of fits, beside the paper's procedure, and how they grow
    passes       seconds of verdicts on some runs of a large sweep
    fitting      the two ways of fitting that are measured, and measurements spread over processes
    tables       the findings on sweeps, published runs and speed, as text and as JSON

The same curves, or the same seed, give the same numbers, whatever the number of processes; seconds differ.
"""
