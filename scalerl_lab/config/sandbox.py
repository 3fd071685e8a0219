"""What a recipe may say about running model-written code, and about the reward of a solution."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from scalerl_lab.config.strict import Strict


class SandboxLimits(Strict):
    """What one test of one solution may use; past a limit the test fails, the others still run."""

    cpu_s: PositiveInt = 2
    """CPU seconds of a process (RLIMIT_CPU counts whole seconds)."""
    wall_s: PositiveFloat = 4.0
    """Seconds from the start of a test to its end, at which every process of it is killed."""
    memory_mb: Annotated[int, Field(ge=64)] = 512
    """Address space of a process, and resident memory of all processes of a test together."""
    processes: Annotated[int, Field(ge=1, le=256)] = 16
    """Processes and threads together, the solution's first one included."""
    open_files: Annotated[int, Field(ge=16, le=1024)] = 64
    scratch_mb: PositiveInt = 16
    """Size of the private temporary folder, the only place that can be written to."""
    files: PositiveInt = 2048
    """Files and folders in the temporary folder: names cost memory that its size does not count."""
    output_kb: PositiveInt = 1024
    """Bytes on stdout and stderr together, and of a returned value."""


class Sandbox(Strict):
    """How untrusted code is run: bubblewrap with namespaces, or refused."""

    fallback: Literal["refuse", "weak"] = "refuse"
    """Where bubblewrap cannot work: ``refuse`` stops the run before it starts; ``weak`` runs the code in a
    separate process with resource limits, which isolates neither files nor network. Which one was used is
    a fact of the run."""
    workers: PositiveInt | None = None
    """Solutions tested at a time; one per available core unless given."""
    limits: SandboxLimits = SandboxLimits()


class CodeReward(Strict):
    """The score of a solution from the tests that it passes."""

    score: Literal["fraction", "all_or_nothing"] = "fraction"
    """``fraction`` of the tests passed, all of which run (ProRL v1, 2505.24864, Table 4)."""
    total_s: PositiveFloat = 5.0
    """Running time of all tests of a solution together; past it the score is 0 (ProRL v1, Table 4)."""
    float_tolerance: NonNegativeFloat = 1e-6
    """Relative and absolute difference at which two decimal numbers are still the same."""
