"""What the installed torch can compute on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Devices:
    """Torch and its devices."""

    torch: str
    """Version."""
    built_for: str
    """What it was built for: a version of CUDA or ROCm, or CPUs only."""
    gpus: tuple[str, ...]
    """Name and memory of each GPU that it can use."""


def devices() -> Devices:
    """Look; imports torch."""
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs only"
    if torch.version.hip:
        built = f"ROCm {torch.version.hip}"
    gpus = []
    for place in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        of = torch.cuda.get_device_properties(place)
        gpus.append(f"{of.name} with {of.total_memory / 2**30:.0f} GiB")
    return Devices(f"torch {torch.__version__}", built, tuple(gpus))
