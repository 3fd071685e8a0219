"""Environment of every test: one thread each, nothing fetched, nothing phoned home."""

from __future__ import annotations

import os

from hypothesis import settings

for name, value in {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(name, value)

# Examples are the same in every run of the gate, and a busy machine is no failure.
settings.register_profile("gate", deadline=None, derandomize=True, database=None)
settings.load_profile("gate")
