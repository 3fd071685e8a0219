"""What a scheduler has seen and ordered, as lines of JSON in a file that is only ever appended to.

One line per point, ``{"trial", "compute", "value"}``, where a value that is no finite number is text, and one
per order, ``{"trial", "order", "reason"}`` with the forecast's numbers. Ray Tune saves no scheduler's state;
this file is what a restored one reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from scalerl_lab.plugins.verdict import Verdict


class Order(StrEnum):
    """What a trial is ordered to do."""

    GO_ON = "go on"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class PointLine:
    """A trial reported a value, a finite number or not."""

    trial: str
    compute: float
    value: float


@dataclass(frozen=True, slots=True)
class OrderLine:
    """A trial was given an order."""

    trial: str
    order: Order
    verdict: Verdict


class TrialLog:
    """The file; one process writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def read(self) -> Iterator[PointLine | OrderLine]:
        """All whole lines, in order; what a dying process wrote by half is passed over."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                line = _parsed(text)
                if line is not None:
                    yield line

    def write(self, line: PointLine | OrderLine) -> None:
        """Append a line and hand it to the operating system, so that a kill of this process keeps it."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
            if self._file.tell() > 0:
                # Ends a line that was written by half; an empty one is passed over.
                self._file.write("\n")
        self._file.write(json.dumps(_document(line)) + "\n")
        self._file.flush()


def _document(line: PointLine | OrderLine) -> dict[str, str | float | bool | None]:
    if isinstance(line, PointLine):
        # JSON has no word for what is not finite; ``float`` reads "nan" and "inf".
        value = line.value if math.isfinite(line.value) else str(line.value)
        return {"trial": line.trial, "compute": line.compute, "value": value}
    verdict = line.verdict
    return {
        "trial": line.trial,
        "order": line.order,
        "reason": verdict.reason,
        "compute": verdict.compute,
        "probability": verdict.probability,
        "reference": verdict.reference,
    }


def _parsed(text: str) -> PointLine | OrderLine | None:
    try:
        found = json.loads(text)
        trial, compute = str(found["trial"]), float(found["compute"])
        if "order" not in found:
            return PointLine(trial, compute, float(found["value"]))
        order = Order(found["order"])
        verdict = Verdict(
            stop=order is not Order.GO_ON,
            compute=compute,
            reason=str(found["reason"]),
            probability=found["probability"],
            reference=found["reference"],
        )
        return OrderLine(trial, order, verdict)
    except (ValueError, KeyError, TypeError):
        return None
