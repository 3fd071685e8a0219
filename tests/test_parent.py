"""Processes that compute for another one end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scalerl_lab.parent import alive

WORKERS = """
import os, sys, time

def slow(number):
    with open(sys.argv[1] + "/" + str(os.getpid()), "w"):
        pass
    time.sleep(60.0)

if __name__ == "__main__":
    from scalerl_lab.report.bench.fitting import for_each
    for_each(slow, [0, 1], jobs=2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at the parent's death is Linux's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_of_a_benchmark_end_with_it(tmp_path: Path, number: signal.Signals) -> None:
    script, seen = tmp_path / "bench.py", tmp_path / "seen"
    script.write_text(WORKERS, encoding="utf-8")
    seen.mkdir()
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    bench = subprocess.Popen([sys.executable, str(script), str(seen)], env=env)
    try:
        workers = wait_for(lambda: [int(p.name) for p in seen.iterdir()], lambda found: len(found) == 2)
        bench.send_signal(number)
        assert bench.wait(timeout=20.0) == -number
        assert wait_for(lambda: [w for w in workers if running(w)], lambda left: not left) == []
    finally:
        bench.kill()


def running(pid: int) -> bool:
    """Whether a process still computes; one that waits to be reaped does not."""
    if not alive(pid):
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(ask, enough, within_s: float = 60.0):  # type: ignore[no-untyped-def]
    """The first answer that is enough, or the last one."""
    deadline = time.monotonic() + within_s
    while not enough(found := ask()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
