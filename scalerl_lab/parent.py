"""Processes that serve the one that started them: they notice when it is gone, however it went."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def signal_at_parents_death(number: signal.Signals) -> None:
    """Ask the kernel for a signal when the parent dies; Linux only, elsewhere it does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number))


def serve_parent() -> None:
    """Make this process one that computes for its parent: it dies with it, even of kill -9, and does its
    arithmetic on one thread, as the matrices of fits are too small for more.

    numpy must not have been imported yet: it reads the number of threads when it is.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    signal_at_parents_death(signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process is there; one that has ended but whose parent has not noticed counts as there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
