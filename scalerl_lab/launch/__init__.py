"""Where and when runs execute.

Files: ``home`` where the lab keeps things; ``run_folder`` every file of one run; ``worker`` one trial,
from lock to last fact; ``launcher`` what every launcher promises; ``inline`` in this process (tests,
debugger); ``ray_tune`` as Ray Tune trials; ``analysis`` fits in a process of their own; ``watcher``
what is told while it runs; ``driver`` the loop: admit, ingest, fit, decide, act; ``driven_run`` what
it holds of a run; ``searching`` has the arms of a search proposed; ``ordering`` where people give orders,
``order_desk`` where the driver takes them; ``sweep_run`` from a file to an outcome: profile, cluster, lock,
mirror, driver; ``doctor`` what the machine has of what all this needs; ``provenance``, ``locking``.

The way of a fact: the worker appends it to the run's ``facts.jsonl``; the driver reads new lines into
SQL; a fit and a decision follow, are written to SQL, and only then acted on, by ``orders.json`` in the
run's folder. So whatever dies, the next start reads the same truth: files first, then SQL. Ray
remembers nothing that is needed.

To add a launcher: a class that keeps the promises of ``launcher.Launcher``, and a row in the
conformance suite. This room never computes a loss, a fit or a verdict.
"""
