"""What a profile may say: on which machine a sweep runs, at which scale, and how compute is metered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from scalerl_lab.config.strict import Name, Strict


class WallMeter(Strict):
    """GPU-hours are hours held times devices; a run without GPUs counts its CPUs' devices as one."""

    type: Literal["wall"] = "wall"


class FlopsMeter(Strict):
    """GPU-hours are counted floating-point operations over a declared exchange rate; deterministic."""

    type: Literal["flops"] = "flops"
    flops_per_gpu_hour: PositiveFloat
    """How many counted floating-point operations stand for one lab GPU-hour."""


Meter = Annotated[WallMeter | FlopsMeter, Field(discriminator="type")]


class RayCluster(Strict):
    """Where Ray runs."""

    address: str = "local"
    """``local`` starts a Ray of its own; ``auto`` or host:port joins a running cluster."""
    num_cpus: PositiveInt | None = None
    """CPUs of a local Ray; all the machine's when absent."""


class Profile(Strict):
    """A machine, a scale and a meter."""

    name: Name
    about: str = ""
    scale: Name = "full"
    """Recipes with a stand-in for this scale are replaced by it; ``full`` replaces nothing."""
    meter: Meter = WallMeter()
    ray: RayCluster = RayCluster()
    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often a run is tried again from its checkpoint after its worker failed."""
