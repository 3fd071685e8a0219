"""How a sandbox is started: the command, the interpreter inside, and the user it runs as."""

from __future__ import annotations

import functools
import json
import os
import py_compile
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from scalerl_lab.config.sandbox import SandboxLimits
from scalerl_lab.errors import ResourceError
from scalerl_lab.tasks.sandbox.seccomp import filter_program

MB = 1 << 20


class Kind(StrEnum):
    """What keeps a program from the machine."""

    BUBBLEWRAP = "bubblewrap"
    """Namespaces, a read-only root without home, project or host /tmp, no network, resource limits."""
    WEAK = "weak"
    """A separate process with resource limits; it can read files and reach the network."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """How programs are isolated on this machine; a fact that a run records."""

    kind: Kind
    own_user: bool
    """Programs run as a user that nothing else on the machine runs as; needs a lab started as root."""
    seccomp: bool
    """A filter denies system calls that no solution needs."""
    why: str = ""
    """Why it is not bubblewrap."""


@dataclass(frozen=True, slots=True)
class Started:
    """A process just started, with what the lab holds of it."""

    process: subprocess.Popen[bytes]
    info_fd: int | None
    """Tells the process id that the supervisor has outside; None where there is no namespace."""
    uid: int | None
    folder: str | None
    """Of the weak fallback: the scratch folder to remove; the environment of its processes names it."""


WEAK_MARK = "LAB_SANDBOX_FOLDER"
"""Variable by which processes of the weak fallback are found again, whoever their parent is."""
_INSIDE = Path(__file__).with_name("inside.py")
_OPTIONS = ("-S", "-s", "-P", "-B", "-X", "utf8")
_ENVIRONMENT = {
    "PATH": "/usr/bin",
    "PYTHONHASHSEED": "0",  # the order of a set must not decide a reward
    "MALLOC_ARENA_MAX": "2",  # each arena of glibc reserves 64 MiB of the address space that is limited
    "LD_LIBRARY_PATH": "/python/lib",
}


@functools.cache
def _supervisor() -> bytes:
    """The supervisor, compiled: it would otherwise be compiled at every start."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "inside.pyc"
        py_compile.compile(str(_INSIDE), cfile=str(target), dfile="supervisor.py", doraise=True, optimize=0)
        return target.read_bytes()


def _memory_file(name: str, data: bytes) -> int:
    fd = os.memfd_create(name)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@functools.cache
def interpreter() -> Path:
    """This interpreter outside any virtual environment."""
    return Path(getattr(sys, "_base_executable", sys.executable) or sys.executable).resolve()


def _mounts() -> list[str]:
    """The shared libraries of the system and this interpreter with its standard library, read-only."""
    mounts: list[str] = []
    for folder in ("/usr", "/python", "/python/bin"):  # otherwise their mode is left to chance and the umask
        mounts += ["--perms", "0755", "--dir", folder]
    mounts += ["--ro-bind", "/usr/lib", "/usr/lib"]
    for name in ("lib32", "lib64"):
        mounts += ["--ro-bind-try", f"/usr/{name}", f"/usr/{name}"]
    for name in ("lib", "lib32", "lib64"):
        if Path(f"/{name}").is_symlink():
            mounts += ["--symlink", f"usr/{name}", f"/{name}"]
        else:
            mounts += ["--ro-bind-try", f"/{name}", f"/{name}"]
    base = Path(sys.base_prefix).resolve()
    mounts += ["--ro-bind", str(base / "lib"), "/python/lib"]
    mounts += ["--ro-bind-try", str(base / "lib64"), "/python/lib64"]
    packages = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    if (base / packages).is_dir():
        mounts += ["--size", "4096", "--tmpfs", f"/python/{packages}", "--remount-ro", f"/python/{packages}"]
    return [*mounts, "--ro-bind", str(interpreter()), "/python/bin/python3"]


def bubblewrap_command(
    limits: SandboxLimits, *, data_fd: int, seccomp_fd: int | None, info_fd: int, uid: int | None
) -> list[str]:
    """The command of one sandbox.

    Args:
        uid: the user to become inside, where the lab is root; None makes a user namespace instead, in
            which the programs run as the lab's own user without any capability.
    """
    # A user namespace would leave root's programs root outside, for whom RLIMIT_NPROC does not hold.
    user = (
        ["--unshare-user", "--disable-userns"]
        if uid is None
        else ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    )
    settings = [part for item in _ENVIRONMENT.items() for part in ("--setenv", *item)]
    filtered = [] if seccomp_fd is None else ["--seccomp", str(seccomp_fd)]
    return [
        shutil.which("bwrap") or "bwrap",
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *("--cap-drop", "ALL"),
        *user,
        *("--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox", "--clearenv"),
        *settings,
        *_mounts(),
        *("--ro-bind-data", str(data_fd), "/python/supervisor.pyc"),
        # bwrap's /dev is a tmpfs of unlimited size that anyone inside could fill.
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *("--size", str(limits.scratch_mb * MB), "--perms", "1777", "--tmpfs", "/tmp"),
        *("--remount-ro", "/", "--chdir", "/tmp"),
        *filtered,
        *("--info-fd", str(info_fd)),
        *("/python/bin/python3", *_OPTIONS, "/python/supervisor.pyc", _options(uid, "/tmp")),
    ]


def _options(uid: int | None, scratch: str) -> str:
    return json.dumps({"uid": uid, "scratch": scratch})


def spare_users() -> range | None:
    """User ids that nothing else uses, for a lab that is root; None where there are none.

    Raises:
        OSError: /proc is not mounted.
    """
    if os.geteuid() != 0:
        return None
    first, num = 0, 0
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        inside, _, count = (int(word) for word in line.split())
        if count > num:
            first, num = inside, count
    if num > 1 << 31:
        return range(1 << 30, 1 << 31)
    return range(first + num - 5000, first + num - 2) if num >= 60_000 else None


def draw_user() -> int | None:
    """A user id for one sandbox, so that limits a user has are the sandbox's own."""
    users = spare_users()
    return None if users is None else random.SystemRandom().choice(users)


def start_bubblewrap(limits: SandboxLimits) -> Started:
    """Start a sandbox; its supervisor says ``R`` on stdout as soon as it serves.

    Raises:
        ResourceError: bubblewrap is not installed.
    """
    if shutil.which("bwrap") is None:
        raise ResourceError(
            "bubblewrap (bwrap) is not installed: model-written code has nowhere safe to run. "
            "Install it (Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap), or let "
            "the recipe say sandbox.fallback=weak, which isolates neither files nor network"
        )
    uid = draw_user()
    given = [_memory_file("supervisor", _supervisor())]
    program = filter_program()
    if program is not None:
        given.append(_memory_file("seccomp", program))
    info, info_inside = os.pipe()
    given.append(info_inside)
    command = bubblewrap_command(
        limits,
        data_fd=given[0],
        seccomp_fd=given[1] if program is not None else None,
        info_fd=info_inside,
        uid=uid,
    )
    try:
        process = _popen(command, tuple(given), {})
    finally:
        for fd in given:
            os.close(fd)
    return Started(process, info, uid, None)


def start_weak() -> Started:
    """Start the supervisor as a plain process with a folder of its own.

    Raises:
        ResourceError: the lab is root, and there is no other user whom an interpreter would serve.
    """
    python, uid = interpreter(), draw_user()
    if os.geteuid() == 0:
        candidates = [python, Path("/usr/bin/python3"), Path("/usr/local/bin/python3")]
        usable = [path for path in candidates if path.exists() and _for_everyone(path.resolve())]
        if uid is None or not usable:
            raise ResourceError(
                "sandbox.fallback=weak: the lab runs as root and would give model-written code its rights: "
                f"no interpreter of {[str(path) for path in candidates]} can be read by another user. "
                "Run the lab as an ordinary user, or install python3 for all users"
            )
        python = usable[0]
    folder = tempfile.mkdtemp(prefix="lab-weak-")
    if uid is not None:
        os.chown(folder, uid, uid)
    environment = {key: text for key, text in _ENVIRONMENT.items() if key != "LD_LIBRARY_PATH"}
    environment[WEAK_MARK] = folder
    command = [str(python), *_OPTIONS, "-c", _INSIDE.read_text(), _options(uid, folder)]
    return Started(_popen(command, (), environment), None, uid, folder)


def _for_everyone(path: Path) -> bool:
    readable = path.stat().st_mode & 0o005 == 0o005
    return readable and all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _popen(command: list[str], fds: tuple[int, ...], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=fds,
        env=environment,
        cwd="/",
        start_new_session=True,  # Ctrl-C is for the lab, which then ends its sandboxes
    )
