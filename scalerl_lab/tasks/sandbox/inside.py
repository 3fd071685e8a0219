"""What runs inside a sandbox: takes programs from the lab, runs each in a child, reports how it ended.

It is process 1 of its own process namespace: no signal from inside can stop it, and when it ends the kernel
kills every process of the namespace. It imports the standard library only and shares nothing with the lab
but two pipes. The lab trusts nothing it says: expected answers never come here, a sandbox serves one
solution, and the lab ends it from outside at a deadline of its own.

Frames to here: 4 bytes of length (big-endian), then JSON. Frames from here: ``REPORT``, then the bytes of
stdout, of stderr's end, and of the returned value. A single ``R`` says that the sandbox is ready.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import struct
import sys
import time

TYPE_CHECKING = False  # the module typing would cost milliseconds at every start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

REPORT = ">BiiI?dIII"
"""Kind of ending, exit code, signal, number of processes killed, whether the sandbox is clean for another
test, seconds, lengths of stdout, stderr and value."""
ENDED, WALL, OUTPUT, MEMORY, FILES = range(5)
_TICK_MS = 20
_STDERR_KEPT = 2000
_SIGINT, _SIGKILL = 2, 9
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_PAGE = resource.getpagesize()
_libc = ctypes.CDLL(None)
_as_first = os.getpid() == 1


def _settle(options: dict[str, Any]) -> None:
    """Drop to an unprivileged user, out of reach of the programs to come."""
    if options["uid"] is not None:
        uid = options["uid"]
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    # After a change of user the kernel forgets the signal at the parent's death: ask again.
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    # Memory and descriptors of this process are closed to others of the same user.
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not _as_first:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, b"1000")
        os.close(fd)
    except OSError:
        pass  # only a preference of whom the kernel ends first
    import _signal  # type: ignore[import-not-found]  # without the enums of signal

    _signal.signal(_SIGINT, _signal.SIG_IGN)


def _read_exactly(fd: int, num: int) -> bytes:
    parts = []
    while num:
        part = os.read(fd, min(num, 1 << 20))
        if not part:
            _leave()
        parts.append(part)
        num -= len(part)
    return b"".join(parts)


def _leave() -> NoReturn:
    _sweep()
    os._exit(0)


def _descendants() -> list[int]:
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    fields = stat.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] != b"Z":
                parents[int(name)] = int(fields[1])
    found: list[int] = []
    edge = {os.getpid()}
    while edge:
        edge = {pid for pid, parent in parents.items() if parent in edge}
        found += edge
    return found


def _sweep() -> int:
    """Kill every process but this one and reap them all; the number that had to be killed."""
    num_killed = 0
    if _as_first:
        # In a namespace of its own -1 means exactly the programs, and no fork can slip through.
        try:
            os.kill(-1, _SIGKILL)
        except ProcessLookupError:
            pass
        while True:
            try:
                _, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return num_killed
            num_killed += os.WIFSIGNALED(status)
    for _ in range(200):
        alive = _descendants()
        for pid in alive:
            try:
                os.kill(pid, _SIGKILL)
                num_killed += 1
            except OSError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return num_killed
        time.sleep(0.005)
    return num_killed


def _resident_pages(pid: int) -> int:
    with open(f"/proc/{pid}/statm", "rb") as statm:
        return int(statm.read().split()[1])


def _memory_used(own_pages: int) -> int:
    """Bytes that the programs hold beyond what each got from this process by fork."""
    pages = 0
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()] if _as_first else _descendants()
    for pid in pids:
        if pid == os.getpid():
            continue
        try:
            pages += max(0, _resident_pages(pid) - own_pages)
        except OSError:
            continue
    return pages * _PAGE


def _wipe(folder: str) -> bool:
    """Remove what a test left; False where that takes more than removing files."""
    clean = True
    try:
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False):
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
    except OSError:
        clean = False
    return clean


class _Run:
    """One program with its pipes, from the side of the supervisor."""

    def __init__(
        self, pid: int, ends: tuple[int, int, int, int], feed: bytes, limits: dict[str, Any]
    ) -> None:
        stdin, stdout, stderr, value = ends
        self.pid, self.limits = pid, limits
        self.stdin: int | None = stdin
        self.kept = {stdout: bytearray(), stderr: bytearray(), value: bytearray()}
        self.stdout, self.stderr, self.value = stdout, stderr, value
        self.feed = memoryview(feed)
        self.num_read = 0
        self.poll = select.poll()
        for fd in (stdin, stdout, stderr, value):
            os.set_blocking(fd, False)
        for fd in (stdout, stderr, value):
            self.poll.register(fd, select.POLLIN)
        self.poll.register(stdin, select.POLLOUT)
        self.poll.register(0, 0)
        self.pidfd = os.pidfd_open(pid)
        self.poll.register(self.pidfd, select.POLLIN)
        self._hand_on()

    def _close_stdin(self) -> None:
        if self.stdin is not None:
            self.poll.unregister(self.stdin)
            os.close(self.stdin)
            self.stdin = None

    def _hand_on(self) -> None:
        try:
            while self.feed and self.stdin is not None:
                self.feed = self.feed[os.write(self.stdin, self.feed[: 1 << 16]) :]
            self._close_stdin()
        except BlockingIOError:
            pass
        except OSError:
            self._close_stdin()

    def _take(self, fd: int) -> bool | None:
        """Read what is there; False at the end of it, None where there is nothing now."""
        try:
            part = os.read(fd, 1 << 16)
        except BlockingIOError:
            return None
        if not part:
            return False
        self.num_read += len(part)
        self.kept[fd] += part
        if fd == self.stderr:
            del self.kept[fd][:-_STDERR_KEPT]
        return True

    def drain(self) -> None:
        """Read what still lies in the pipes, up to the limit of output."""
        for fd in self.kept:
            while self.num_read <= self.limits["output"] and self._take(fd):
                pass

    def turn(self) -> bool:
        """Serve the pipes once; whether the program has ended."""
        ended = False
        for fd, event in self.poll.poll(_TICK_MS):
            if fd == 0:
                _leave()
            elif fd == self.pidfd:
                ended = True
            elif fd == self.stdin:
                self._hand_on()
            elif event and self._take(fd) is False:
                self.poll.unregister(fd)
        return ended

    def close(self) -> None:
        self._close_stdin()
        for fd in (*self.kept, self.pidfd):
            os.close(fd)


def _watch(run: _Run, limits: dict[str, Any], scratch: str) -> tuple[int, int | None]:
    """Until the program ends or passes a limit: how it ended, and its wait status."""
    started = checked = time.monotonic()
    own_pages = _resident_pages(os.getpid())
    files_before = os.statvfs(scratch)
    while True:
        ended = run.turn()
        if run.num_read > limits["output"]:
            return OUTPUT, None
        if ended:
            return ENDED, os.waitpid(run.pid, 0)[1]
        now = time.monotonic()
        if now - started > limits["wall_s"]:
            return WALL, None
        if now - checked > _TICK_MS / 1000:
            checked = now
            if _memory_used(own_pages) > limits["memory"]:
                return MEMORY, None
            if _as_first and files_before.f_ffree - os.statvfs(scratch).f_ffree > limits["files"]:
                return FILES, None
            _reap_orphans(run.pid)


def _reap_orphans(main: int) -> None:
    """Take in what the program's processes left behind, but not the program itself."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == main:
            return
        os.waitpid(ended.si_pid, 0)


def _tasks_of_this_user() -> int:
    """Processes and threads that the kernel counts against the user's limit before the program starts."""
    if _as_first:
        return 1  # the supervisor: the user, or the user's namespace, is this sandbox's alone
    num = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                num += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return num


def _limit(limits: dict[str, Any]) -> None:
    """Limits that the kernel keeps, for this process and all that come from it."""
    r = resource
    for what, value in (
        (r.RLIMIT_CORE, 0),
        (r.RLIMIT_FSIZE, limits["file"]),
        (r.RLIMIT_NOFILE, limits["open_files"]),
        (r.RLIMIT_MEMLOCK, 0),
        (r.RLIMIT_MSGQUEUE, 0),
        (r.RLIMIT_NPROC, limits["processes"] + _tasks_of_this_user()),
        (r.RLIMIT_AS, limits["memory"]),
        (r.RLIMIT_STACK, 1 << 26),
    ):
        r.setrlimit(what, (value, value))
    r.setrlimit(r.RLIMIT_CPU, (limits["cpu_s"], limits["cpu_s"] + 1))


def _become_program(pipes: list[int], job: dict[str, Any], scratch: str) -> None:
    """In the child: nothing of the supervisor stays open, and the limits hold."""
    import _signal

    os.setsid()
    # As under a shell: what the supervisor holds at descriptors 0 and 1 is gone after this.
    for fd, pipe in enumerate(pipes):
        os.dup2(pipe, fd)
    os.closerange(4, 65536)
    os.set_inheritable(3, False)
    os.chdir(scratch)
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    _signal.signal(_SIGINT, _signal.default_int_handler)
    _limit(job["limits"])
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape")
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape")
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace")
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))
    sys.argv = ["solution.py"]


def _run(job: dict[str, Any], options: dict[str, Any]) -> bytes | None:
    """Run one program. Returns in the child as well, there with None."""
    feed = job["stdin"].encode("utf-8", "surrogatepass")
    scratch = options["scratch"]
    pipes = [os.pipe() for _ in range(4)]
    (stdin, feeder), (stdout_end, stdout), (stderr_end, stderr), (value_end, value) = pipes
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        # Above the descriptors they are copied to, so that no copy overwrites another.
        high = [os.dup(fd) for fd in (stdin, stdout, stderr, value)]
        _become_program(high, job, scratch)
        return None
    for fd in (stdin, stdout, stderr, value):
        os.close(fd)
    run = _Run(pid, (feeder, stdout_end, stderr_end, value_end), feed, job["limits"])
    kind, status = _watch(run, job["limits"], scratch)
    num_killed = _sweep()
    run.drain()
    if kind == ENDED and run.num_read > job["limits"]["output"]:
        kind = OUTPUT
    run.close()
    exit_code = os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else -1
    signal = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0
    clean = _wipe(scratch)
    seconds = time.monotonic() - started
    texts = [bytes(run.kept[fd]) for fd in (stdout_end, stderr_end, value_end)]
    lengths = [len(text) for text in texts]
    header = struct.pack(REPORT, kind, exit_code, signal, num_killed, clean, seconds, *lengths)
    return header + b"".join(texts)


def _send(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _serve(options: dict[str, Any]) -> dict[str, Any]:
    """Serve programs until the lab closes the pipe. Returns in a child only, with its program."""
    _settle(options)
    _send(b"R")
    while True:
        (length,) = struct.unpack(">I", _read_exactly(0, 4))
        job: dict[str, Any] = json.loads(_read_exactly(0, length))
        report = _run(job, options)
        if report is None:
            return job
        _send(report)


def _call(
    job: dict[str, Any],
    dumps: Callable[[Any], str] = json.dumps,
    write: Callable[[int, bytes], int] = os.write,
    leave: Callable[[int], NoReturn] = os._exit,
) -> None:
    """Define the solution, call the function that a test names, and send its value by its own channel."""
    import types

    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    exec(compile(job["source"], "solution.py", "exec"), module.__dict__)
    name, arguments = job["call"]["function"], job["call"]["arguments"]
    function = module.__dict__.get(name)
    if function is None and "Solution" in module.__dict__:
        function = getattr(module.__dict__["Solution"](), name, None)
    if function is None:
        raise NameError(f"the solution defines no function {name!r}")
    data = (job["nonce"] + dumps(function(*arguments))).encode()
    while data:
        data = data[write(3, data) :]
    leave(0)


def _start(job: dict[str, Any]) -> None:
    import types

    os.close(3)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    # By the interpreter's own way out: exit codes, threads and atexit are those of a plain program.
    exec(compile(job["source"], "solution.py", "exec"), module.__dict__)


if __name__ == "__main__":
    _supervisor = sys.modules["__main__"]
    _job = _serve(json.loads(sys.argv[1]))
    if _job["call"] is None:
        _start(_job)
    else:
        _call(_job)
