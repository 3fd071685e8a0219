"""Locks that die with their holder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from scalerl_lab.errors import LockHeld


@contextmanager
def exclusive(path: Path, *, wait_s: float, what: str) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel frees it when the process ends, however it ends.

    Args:
        path: lock file; created with its folder when absent.
        wait_s: how long to wait for another holder, in seconds.
        what: named in the error.

    Raises:
        LockHeld: another process still holds it after ``wait_s``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with path.open("a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    raise LockHeld(
                        f"{what} is held by another process (pid {holder}); wait for it to end, or stop it"
                    ) from None
                time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def try_exclusive(path: Path) -> TextIO | None:
    """Take an exclusive lock on a file, or None where another process holds it.

    Closing what is returned frees the lock; so does the end of this process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
