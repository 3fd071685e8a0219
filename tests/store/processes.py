"""Processes of a test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def python(body: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a script in a process of its own."""
    script = "import sys, os\nfrom scalerl_lab.store import Store\nfrom tests.store import story\n" + body
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def fork(num: int, work: Callable[..., object], *arguments: object) -> list[int]:
    """Run a function in forked processes; returns their exit codes."""
    children = []
    for number in range(num):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(number, *arguments)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
