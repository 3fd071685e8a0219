"""Checks in worker processes that are killed and replaced when they take too long.

math-verify limits time by ``signal.alarm``, which works in main threads only, and cannot be interrupted in C
code; reasoning-gym's scorers have no limit. So both run in processes of their own (``worker``), started when
first needed, shared by all checks of a process, ended with it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT_S = 3.0
"""Processor seconds of one check; an ordinary one takes a few milliseconds."""
WALL_FACTOR = 20.0
"""A worker without a reply after this many times its limit is killed: it waits, or the machine is full."""
_START_S = 30.0
"""Added to the wall clock where a worker has not replied to a function before, for its imports."""
RECYCLE_AFTER = 5000
"""Checks after which a worker is replaced: computer algebra caches what it has seen."""
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a worker."""

    function: str
    arguments: tuple[Any, ...]
    limit_s: float = LIMIT_S


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of it."""

    value: Any = None
    error: str = ""
    """Empty where the function returned; else what it raised, or that it was ended."""
    cpu_s: float = 0.0
    """Processor seconds; 0 where the worker was ended."""


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    call: int = -1
    """Place of the call it works on."""
    began: float = 0.0
    wall_limit_s: float = 0.0
    replied: int = 0
    known: set[str] = field(default_factory=set)
    """Functions it has replied to: their imports are done."""
    partial: bytearray = field(default_factory=bytearray)


class Workers:
    """A pool of worker processes.

    Args:
        num: processes at most; one is started when a call finds the others busy.
    """

    def __init__(self, num: int) -> None:
        self._num = num
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def run(self, calls: Sequence[Call]) -> list[Reply]:
        """Replies in the order of the calls; one that ran too long or died says so as its error.

        Bounded: every call ends within ``WALL_FACTOR`` times its limit, and the time of imports.
        """
        with self._lock:
            return _Batch(calls, self._idle, self._num).run()

    def close(self) -> None:
        """End all workers. A forked child leaves its parent's alone."""
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if os.getpid() == self._owner:
                    _end(worker)

    @property
    def pids(self) -> list[int]:
        """Processes that wait for calls."""
        return [worker.process.pid for worker in self._idle]


class _Batch:
    """The calls of one ``run``, and who works on them."""

    def __init__(self, calls: Sequence[Call], idle: list[_Worker], num: int) -> None:
        self._calls = calls
        self._waiting = deque(range(len(calls)))
        self._replies: list[Reply | None] = [None] * len(calls)
        self._idle = idle
        self._num = num
        self._busy: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def run(self) -> list[Reply]:
        try:
            while self._waiting or self._busy:
                while self._waiting and len(self._busy) < self._num:
                    self._give(self._idle.pop() if self._idle else _started())
                for key, _ in self._selector.select(self._patience()):
                    self._read(key.data)
                for worker in [w for w in self._busy if time.monotonic() > w.began + w.wall_limit_s]:
                    self._lose(worker, f"no reply within {worker.wall_limit_s:g} s")
        finally:
            # Left by an interrupt: replies that are still to come would be taken for those of later calls.
            for worker in self._busy:
                _end(worker)
            self._selector.close()
        return [reply for reply in self._replies if reply is not None]

    def _give(self, worker: _Worker) -> None:
        worker.call = self._waiting.popleft()
        call = self._calls[worker.call]
        worker.began = time.monotonic()
        worker.wall_limit_s = call.limit_s * WALL_FACTOR + (
            0.0 if call.function in worker.known else _START_S
        )
        self._busy.append(worker)
        self._selector.register(_pipe(worker.process.stdout), selectors.EVENT_READ, worker)
        request = json.dumps([call.function, call.limit_s, list(call.arguments)]) + "\n"
        try:
            stdin = _pipe(worker.process.stdin)
            stdin.write(request.encode())
            stdin.flush()
        except OSError:
            self._lose(worker, "the worker died before it was asked")

    def _patience(self) -> float:
        ends = [worker.began + worker.wall_limit_s for worker in self._busy]
        return max(0.0, min(ends) - time.monotonic()) if ends else 0.0

    def _read(self, worker: _Worker) -> None:
        got = os.read(_pipe(worker.process.stdout).fileno(), 1 << 16)
        if not got:
            limit = self._calls[worker.call].limit_s
            self._lose(worker, f"ended at its limit of {limit:g} s of processor time, or of memory")
            return
        worker.partial += got
        if worker.partial.endswith(b"\n"):
            found = json.loads(worker.partial)
            worker.partial.clear()
            worker.replied += 1
            worker.known.add(self._calls[worker.call].function)
            self._note(worker, Reply(found.get("value"), found.get("error", ""), found["cpu_s"]))
            if worker.replied >= RECYCLE_AFTER:
                _end(worker)
            else:
                self._idle.append(worker)

    def _lose(self, worker: _Worker, why: str) -> None:
        self._note(worker, Reply(error=why))
        _end(worker)

    def _note(self, worker: _Worker, reply: Reply) -> None:
        self._replies[worker.call] = reply
        self._busy.remove(worker)
        self._selector.unregister(_pipe(worker.process.stdout))


def _pipe(pipe: Any) -> Any:
    assert pipe is not None, "workers are started with pipes"
    return pipe


def _started() -> _Worker:
    path = os.pathsep.join([str(_PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # -P: a file of the working folder must not stand in for a module of the library.
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-m", "scalerl_lab.tasks.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    return _Worker(process)


def _end(worker: _Worker) -> None:
    """Kill a worker and all it started, and wait for it."""
    # Its session keeps the id for as long as the process is not waited for.
    if worker.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    for pipe in (worker.process.stdin, worker.process.stdout):
        # What was still to be written has no reader.
        with contextlib.suppress(OSError):
            _pipe(pipe).close()


_SHARED: dict[int, Workers] = {}
"""Process id -> its pool: a fork starts its own."""


def shared() -> Workers:
    """This process's workers: as many as it has cores, at most 8."""
    own = os.getpid()
    if own not in _SHARED:
        _SHARED.clear()
        _SHARED[own] = Workers(min(8, len(os.sched_getaffinity(0))))
        atexit.register(_SHARED[own].close)
    return _SHARED[own]
