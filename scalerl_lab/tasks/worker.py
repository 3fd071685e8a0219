"""A process that runs checks which may hang: one JSON request a line in, one JSON reply a line out.

Requests are ``[function, limit_s, [arguments]]``, replies ``{"value": ...}`` or ``{"error": text}``, with
``cpu_s``, the processor seconds spent. Each
request has ``limit_s`` seconds of processor time, after which the kernel ends the process, whatever the
Python code is doing and whether or not a parent is still there; the parent's own clock catches what waits
without computing. Memory is limited for the same reason.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

MEMORY_BYTES = 4 << 30


FUNCTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "math": ("math_checks", "equivalent"),
        "math_parses": ("math_checks", "parses"),
        "gym_score": ("gym_calls", "score"),
        "gym_draw": ("gym_calls", "draw"),
        "gym_names": ("gym_calls", "names"),
    }
)
"""What may be asked for -> module of this room and function; imports do not count against a limit."""


def serve() -> None:
    """Answer requests until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    # Replies have a channel of their own: a library that prints must not garble them.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    for line in sys.stdin:
        function, limit_s, arguments = json.loads(line)
        replies.write(_reply(function, limit_s, arguments) + "\n")
        replies.flush()


def _reply(function: str, limit_s: float, arguments: list[Any]) -> str:
    module, name = FUNCTIONS[function]
    called: Callable[..., Any] = getattr(importlib.import_module(f"scalerl_lab.tasks.{module}"), name)
    random.seed(0)
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        reply = {"value": called(*arguments)}
        written = json.dumps(reply | {"cpu_s": time.process_time() - began})
    except Exception as error:  # noqa: BLE001 - libraries raise anything on what a model wrote; it is the reply
        written = json.dumps(
            {"error": f"{type(error).__name__}: {error}"[:500], "cpu_s": time.process_time() - began}
        )
    signal.setitimer(signal.ITIMER_PROF, 0)
    return written


if __name__ == "__main__":
    serve()
