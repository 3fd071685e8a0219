"""Fits in a process of their own: a driver's loop hands them over and never waits.

``python -m scalerl_lab.plugins.forecaster`` is that process: it reads jobs from its standard input and writes
verdicts to its standard output. It is not one of ``multiprocessing``'s, which would import the script that
started it once more, and scripts that use Ray Tune are seldom written for that. When its parent dies, its
input ends, and so does it, at once.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scalerl_lab.plugins.verdict import ForecastRule, History, Verdict, judge

_MOST_FAILURES = 3
_LONGEST_S = 300.0
"""A look that takes longer has failed."""


@dataclass(frozen=True, slots=True)
class Job:
    """A look at some trials."""

    histories: tuple[History, ...]
    due: tuple[str, ...]
    rule: ForecastRule
    version: int
    """Of what was known, to tell whether verdicts rest on all that is known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a job: verdicts, or why there are none."""

    job: Job
    verdicts: dict[str, Verdict]
    failure: str = ""


class Forecaster:
    """One process that does one job at a time; started with the first job, and again after it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._job: Job | None = None
        self._began = 0.0
        self._answers: queue.Queue[tuple[int, dict[str, Verdict] | str]] = queue.Queue()
        self._failures = 0

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._job is not None

    @property
    def gave_up(self) -> bool:
        """Whether so many jobs in turn have failed that no more are taken."""
        return self._failures >= _MOST_FAILURES

    def submit(self, job: Job) -> None:
        """Hand over a job; only when not busy."""
        if self._process is None or self._process.poll() is not None:
            self._process = _start()
        self._job, self._began = job, time.monotonic()
        # Writing waits while the process still starts, so it is not the caller who writes.
        threading.Thread(target=_ask, args=(self._process, job, self._answers), daemon=True).start()

    def answer(self) -> Answer | None:
        """What came of the job, once; None while it is under way. Never waits."""
        if self._job is None or self._process is None:
            return None
        while True:
            try:
                pid, verdicts = self._answers.get_nowait()
            except queue.Empty:
                if time.monotonic() - self._began < _LONGEST_S:
                    return None
                pid, verdicts = self._process.pid, f"a look took more than {_LONGEST_S:g} s"
            # What a process that was given up has still said is not about this job.
            if pid == self._process.pid:
                break
        job, self._job = self._job, None
        if isinstance(verdicts, str):
            self._failures += 1
            self.close()
            return Answer(job, {}, verdicts)
        self._failures = 0
        return Answer(job, verdicts)

    def close(self) -> None:
        """End the process; a later job starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    # What was not written goes nowhere.
                    with contextlib.suppress(OSError):
                        stream.close()
        self._process, self._job = None, None


def _start() -> subprocess.Popen[bytes]:
    # One thread of numpy's: trials on this machine need the others.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", "scalerl_lab.plugins.forecaster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        # An interrupt from the terminal is the driver's to handle.
        start_new_session=True,
    )


def _ask(
    process: subprocess.Popen[bytes], job: Job, answers: queue.Queue[tuple[int, dict[str, Verdict] | str]]
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _write(process.stdin, (job.histories, job.due, job.rule))
        answers.put((process.pid, pickle.load(process.stdout)))
    except (OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
        status = process.poll()
        answers.put((process.pid, f"the process of the fits has died (exit status {status}, {error!r})"))


def _write(stream: IO[bytes], what: object) -> None:
    stream.write(pickle.dumps(what, protocol=pickle.HIGHEST_PROTOCOL))
    stream.flush()


def serve(jobs: IO[bytes], answers: IO[bytes]) -> None:
    """Do jobs in turn until there are no more."""
    waiting: queue.Queue[tuple[Sequence[History], Sequence[str], ForecastRule]] = queue.Queue()

    def read() -> None:
        while True:
            try:
                waiting.put(pickle.load(jobs))
            except EOFError:
                # The parent has closed its end, or is dead: whatever is being fitted, nobody waits for it.
                os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        _write(answers, judge(*waiting.get()))


if __name__ == "__main__":
    own = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever else is printed is not an answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, own)
