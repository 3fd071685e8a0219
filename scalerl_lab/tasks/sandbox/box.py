"""One sandbox from outside: send a program, wait for its report until a deadline, end everything in it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from scalerl_lab.config.sandbox import SandboxLimits
from scalerl_lab.errors import ResourceError
from scalerl_lab.tasks.sandbox import inside
from scalerl_lab.tasks.sandbox.start import MB, WEAK_MARK, Kind, start_bubblewrap, start_weak

Json = None | bool | int | float | str | Sequence["Json"] | dict[str, "Json"]
"""What JSON can say."""

START_S = 30.0
"""Seconds in which a sandbox must be ready; it takes hundredths, but a busy machine is no failure."""
_GRACE_S = 10.0
"""Seconds past the wall clock's end of a test in which the supervisor must have reported."""
_END_S = 10.0
"""Seconds that a killed sandbox has to be gone."""
_HEADER = struct.calcsize(inside.REPORT)


class Ending(StrEnum):
    """How a program ended."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    WALL = "wall_clock"
    OUTPUT = "too_much_output"
    MEMORY = "too_much_memory"
    FILES = "too_many_files"
    LOST = "sandbox_lost"
    """The sandbox ended, or did not report in time."""


_ENDINGS = {
    inside.WALL: Ending.WALL,
    inside.OUTPUT: Ending.OUTPUT,
    inside.MEMORY: Ending.MEMORY,
    inside.FILES: Ending.FILES,
}


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the solution (or a method of its class ``Solution``) and its arguments."""

    function: str
    arguments: Sequence[Json]


@dataclass(frozen=True, slots=True)
class Program:
    """One execution: a source with what it reads, or with the function that is called."""

    source: str
    stdin: str = ""
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an execution left behind. All of it was said by untrusted code; none of it is a verdict."""

    ending: Ending
    exit_code: int | None = None
    signal: int = 0
    seconds: float = 0.0
    """Wall clock from the start of the program until all its processes were gone."""
    num_killed: int = 0
    """Processes that had to be killed at the end."""
    stdout: bytes = b""
    stderr: bytes = b""
    """Its last 2,000 bytes."""
    value: str | None = None
    """JSON text of what the function returned."""

    @property
    def ran_through(self) -> bool:
        """Whether the program ended by itself with exit code 0."""
        return self.ending is Ending.EXITED and self.exit_code == 0


class Lost(Exception):
    """The sandbox ended, or was silent past the deadline."""


class Box:
    """A started sandbox. It serves one solution, test after test, and is then killed.

    Args:
        limits: what a test may use.
        kind: bubblewrap, or the weak fallback.

    Raises:
        ResourceError: it cannot be started at all.
    """

    def __init__(self, limits: SandboxLimits, kind: Kind) -> None:
        self.limits = limits
        self.kind = kind
        started = start_bubblewrap(limits) if kind is Kind.BUBBLEWRAP else start_weak()
        self._started = started
        self._process = started.process
        self._pidfd: int | None = None
        self._ready = False
        self._dead = False
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        for fd in (self._to, self._from, started.info_fd):
            if fd is not None:
                os.set_blocking(fd, False)
        self._info = b""
        self.clean = True
        """Whether the last test left nothing behind, so that another may follow."""

    @property
    def uid(self) -> int | None:
        """The user that only this sandbox runs as; None where the lab is not root."""
        return self._started.uid

    def is_alive(self) -> bool:
        """Whether its process still runs."""
        return not self._dead and self._process.poll() is None

    def wait_ready(self) -> None:
        """Return once the sandbox serves.

        Raises:
            ResourceError: it ended instead, with what it said.
        """
        if self._ready:
            return
        try:
            if self._receive(1, time.monotonic() + START_S) != b"R":
                raise Lost
        except Lost:
            said = self._said()
            self.kill()
            raise ResourceError(
                f"the sandbox ({self.kind.value}) did not start: {said or 'it said nothing'}. "
                "lab sandbox check says what this machine lacks and how to mend it"
            ) from None
        self._pidfd = self._open_supervisor()
        self._ready = True

    def _said(self) -> str:
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        try:
            return os.read(self._process.stderr.fileno(), 2000).decode(errors="replace").strip()
        except OSError:
            return ""

    def _open_supervisor(self) -> int | None:
        """A handle on process 1 of the sandbox: killing it ends its namespace, whoever else is in it.

        None where there is no namespace, where it is gone, or where bwrap has not told it yet.
        """
        if self._started.info_fd is None:
            return None
        try:
            while not self._info.rstrip().endswith(b"}"):
                part = os.read(self._started.info_fd, 4096)
                if not part:
                    return None
                self._info += part
            return os.pidfd_open(json.loads(self._info)["child-pid"])
        except (BlockingIOError, ProcessLookupError):
            return None

    def run(self, program: Program) -> Outcome:
        """Run one program; it and all its processes are gone when this returns.

        Raises:
            ResourceError: the sandbox did not start.
        """
        self.wait_ready()
        nonce = secrets.token_hex(16)
        limits, call = self.limits, program.call
        message: dict[str, object] = {
            "source": program.source,
            "stdin": program.stdin,
            "call": None if call is None else {"function": call.function, "arguments": list(call.arguments)},
            "nonce": nonce,
            "limits": {
                "cpu_s": limits.cpu_s,
                "wall_s": limits.wall_s,
                "memory": limits.memory_mb * MB,
                "processes": limits.processes,
                "open_files": limits.open_files,
                "file": limits.scratch_mb * MB,
                "files": limits.files,
                "output": limits.output_kb * 1024,
            },
        }
        data = json.dumps(message).encode()
        deadline = time.monotonic() + limits.wall_s + _GRACE_S
        try:
            self._send(struct.pack(">I", len(data)) + data, deadline)
            return self._report(nonce, deadline)
        except Lost:
            self.clean = False
            self.kill()
            return Outcome(Ending.LOST, seconds=limits.wall_s)

    def _report(self, nonce: str, deadline: float) -> Outcome:
        header = struct.unpack(inside.REPORT, self._receive(_HEADER, deadline))
        kind, exit_code, signal_number, num_killed, clean, seconds, *lengths = header
        # One pipe's worth may be read past the limit before the program is stopped.
        if sum(lengths) > self.limits.output_kb * 1024 + 200_000:
            raise Lost
        stdout, stderr, value = (self._receive(length, deadline) for length in lengths)
        ending = _ENDINGS.get(kind, Ending.SIGNALLED if signal_number else Ending.EXITED)
        said = value.decode(errors="replace")
        self.clean = clean
        return Outcome(
            ending=ending,
            exit_code=exit_code if ending is Ending.EXITED else None,
            signal=signal_number,
            seconds=max(seconds, 0.0) if seconds == seconds else self.limits.wall_s,
            num_killed=num_killed,
            stdout=stdout,
            stderr=stderr,
            value=said.removeprefix(nonce) if said.startswith(nonce) else None,
        )

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._await(self._to, select.POLLOUT, deadline)
            try:
                view = view[os.write(self._to, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Lost from error

    def _receive(self, num: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < num:
            self._await(self._from, select.POLLIN, deadline)
            part = os.read(self._from, num - len(parts))
            if not part:
                raise Lost
            parts += part
        return bytes(parts)

    def _await(self, fd: int, event: int, deadline: float) -> None:
        if self._dead:
            raise Lost
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise Lost

    def kill(self) -> None:
        """End the sandbox with everything in it; returns when it is gone."""
        if self._dead:
            return
        self._dead = True
        process = self._process
        if self.kind is Kind.WEAK:
            self._close_pipes()  # the supervisor kills its programs when its pipe closes
            try:
                process.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                process.kill()
        else:
            self._end_namespace()
        try:
            process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._close_pipes()
        if self._pidfd is not None:
            os.close(self._pidfd)
        if self._started.info_fd is not None:
            os.close(self._started.info_fd)
        if self._started.folder is not None:
            _kill_marked(f"{WEAK_MARK}={self._started.folder}".encode())
            shutil.rmtree(self._started.folder, ignore_errors=True)

    def _end_namespace(self) -> None:
        """Kill process 1 of the sandbox, and wait for it.

        The kernel lets process 1 go only after the rest of its namespace. bwrap is not killed before it has
        told process 1, which waits for it at its start and would then wait for ever; only a bwrap that has
        told nothing for ten seconds is.
        """
        assert self._started.info_fd is not None
        deadline = time.monotonic() + _END_S
        told = select.poll()
        told.register(self._started.info_fd, select.POLLIN)
        while self._pidfd is None and time.monotonic() < deadline:
            # A bwrap that ended with the thread that started it has told process 1, which may yet be ending.
            ended = self._process.poll() is not None
            self._pidfd = self._open_supervisor()
            if ended:
                break
            if self._pidfd is None:
                told.poll(1000.0 * max(0.0, deadline - time.monotonic()))
        if self._pidfd is None:
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        gone = select.poll()
        gone.register(self._pidfd, select.POLLIN)
        gone.poll(1000.0 * max(0.0, deadline - time.monotonic()))

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def _kill_marked(mark: bytes) -> None:
    """Kill what a program of the weak fallback left behind after it ended its supervisor."""
    for _ in range(50):
        found = False
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)
                    found = True
            except OSError:
                continue
        if not found:
            return
        time.sleep(0.01)
