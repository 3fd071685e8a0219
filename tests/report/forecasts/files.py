"""Files of points for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write(folder: Path, text: str | bytes, name: str = "points.csv") -> str:
    """A file with this text; its path."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return str(path)


def sigmoid(compute: np.ndarray, r0: float, ceiling: float, midpoint: float, efficiency: float) -> np.ndarray:
    """The law, written out: for compute > 0."""
    return r0 + (ceiling - r0) / (1.0 + (midpoint / compute) ** efficiency)


def two_runs(noise: float = 0.004) -> str:
    """Runs a (ceiling 0.6) and b (0.5), each with a start of 0.3 and 20 points from 200 to 4,000."""
    rng = np.random.default_rng(7)
    lines = ["run_id,gpu_hours,pass_rate"]
    for name, ceiling in (("a", 0.6), ("b", 0.5)):
        lines.append(f"{name},0,0.3")
        at = np.arange(1, 21) * 200.0
        values = sigmoid(at, 0.3, ceiling, 900.0, 1.8) + noise * rng.standard_normal(at.size)
        lines += [f"{name},{c:g},{v:.5f}" for c, v in zip(at, values, strict=True)]
    return "\n".join(lines) + "\n"
