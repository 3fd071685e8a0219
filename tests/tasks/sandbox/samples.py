"""Programs that try to do harm. Each prints HARM, or leaves a mark outside, where it gets through.

Before each come assignments that tell it where harm is to be found: SECRET_FILE (readable by everyone on
the host), SECRET (never told: it is in that file and in the environment of the lab), PROJECT, HOME, LAB (the
process id of the lab), VICTIM (another process), PORT (a listener on the host), UNIX (one in the file
system), ABSTRACT (one without a file), OUTSIDE (a folder on the host that everyone can write to).
Whatever forks or fills is bounded in number and time, so that a machine survives a sandbox that fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalerl_lab.tasks.sandbox import Ending

E, S, W, M, F = Ending.EXITED, Ending.SIGNALLED, Ending.WALL, Ending.MEMORY, Ending.FILES
ANY = tuple(Ending)


@dataclass(frozen=True)
class Hostile:
    """A program, and how it must end."""

    name: str
    source: str
    ending: Ending | tuple[Ending, ...] = ANY
    """Whichever of these comes first; CPU seconds and the wall clock race on a busy machine."""
    signal: int | None = None
    stdin: str = ""
    prints: bytes | None = None
    """What it must get to say, so that a sample that never came to its point is noticed."""


_PROCESSES = [
    Hostile(
        "fork_bomb",
        """
import os, time
made = 0
end = time.time() + 1
for _ in range(300):
    try:
        pid = os.fork()
    except OSError:
        break
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    made += 1
print("HARM" if made >= 9 else "tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "fork_bomb_in_all_children",
        """
import os, time
end = time.time() + 0.2
depth = 0
while time.time() < end and depth < 12:
    try:
        if os.fork() == 0:
            depth += 1
    except OSError:
        time.sleep(0.01)
if sum(name.isdigit() for name in os.listdir("/proc")) > 10:
    print("HARM", flush=True)
time.sleep(0.2)
print("tried", flush=True)
""",
        prints=b"tried",
    ),
    Hostile(
        "many_threads",
        """
import threading, time
made = 0
try:
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
        made += 1
except RuntimeError:
    pass
print("HARM" if made >= 9 else "tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "daemon_outlives_its_parent",
        """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        time.sleep(60)
        os._exit(0)
    os._exit(0)
os.wait()
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "daemon_holds_stdout_open",
        """
import os, time
if os.fork() == 0:
    time.sleep(60)
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "daemon_forks_on_and_on",
        """
import os, time
if os.fork() == 0:
    end = time.time() + 60
    while time.time() < end:
        if os.fork():
            os._exit(0)
print("tried", flush=True)
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "signal_to_the_lab",
        """
import os, signal
for pid in (LAB, VICTIM, -LAB, os.getppid()):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except OSError:
            pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "signal_to_everybody",
        """
import os, signal
for pid in (-1, 1):
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except OSError:
            pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "signals_by_the_thousand_to_process_1",
        """
import os
for number in list(range(1, 65)) * 20:
    try:
        os.kill(1, number)
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile("kills_itself", "import os\nos.kill(os.getpid(), 9)\nprint('HARM')", S, signal=9),
    Hostile("stops_itself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", W),
    Hostile(
        "ignores_every_signal",
        """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
""",
        (S, W),
    ),
    Hostile(
        "ptrace_the_supervisor",
        """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in (1, os.getppid(), LAB):
    if libc.ptrace(16, pid, 0, 0) == 0:  # PTRACE_ATTACH
        print("HARM")
if libc.ptrace(0, 0, 0, 0) == 0:  # PTRACE_TRACEME
    print("HARM")
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "memory_of_the_supervisor",
        """
import os
for name in ("mem", "environ", "maps", "fd/0", "fd/1", "root/etc/passwd", "cwd/x"):
    try:
        open("/proc/1/" + name, "rb").read(1)
        print("HARM", name)
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "other_processes_in_proc",
        """
import os
pids = [name for name in os.listdir("/proc") if name.isdigit()]
if len(pids) > 2 or os.path.exists(f"/proc/{LAB}") or os.path.exists(f"/proc/{VICTIM}"):
    print("HARM", pids)
print("tried")
""",
        E,
        prints=b"tried",
    ),
]

_MEMORY_AND_TIME = [
    Hostile(
        "memory_fill",
        """
kept = []
try:
    for _ in range(60):
        kept.append(bytearray(8 << 20))
    print("HARM")
except MemoryError:
    del kept
    print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "memory_fill_by_many_processes",
        """
import os, time
for _ in range(6):
    if os.fork() == 0:
        kept = []
        try:
            for _ in range(9):
                kept.append(bytearray(b"x") * (8 << 20))
                time.sleep(0.01)
        except MemoryError:
            pass
        time.sleep(20)
time.sleep(20)
""",
        M,
    ),
    Hostile(
        "memory_that_is_shared",
        """
import mmap, os, time
for _ in range(6):
    if os.fork() == 0:
        kept = mmap.mmap(-1, 80 << 20)
        for place in range(0, 80 << 20, 4096):
            kept[place] = 1
        time.sleep(20)
time.sleep(20)
""",
        M,
    ),
    Hostile(
        "memory_without_an_address",
        """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for _ in range(4):
    segment = libc.shmget(0, 64 << 20, 0o1666)
    if segment >= 0:
        print("HARM shmget")
        libc.shmctl(segment, 0, 0)
try:
    fd = os.memfd_create("x")
    print("HARM memfd")
except OSError:
    pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "locked_memory",
        """
import ctypes
libc = ctypes.CDLL(None)
block = ctypes.create_string_buffer(1 << 20)
if libc.mlock(block, 1 << 20) == 0 or libc.mlockall(3) == 0:
    print("HARM")
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile("endless_loop", "while True: pass", (S, W)),
    Hostile("big_power", "x = 9 ** 9 ** 9\nprint('HARM')", ANY),
    Hostile("regular_expression_that_never_ends", "import re\nre.match('(a+)+$', 'a' * 50 + 'b')", (S, W)),
    Hostile("sleep", "import time\ntime.sleep(60)", W),
    Hostile(
        "waits_on_a_lock", "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", W
    ),
    Hostile(
        "thread_that_is_never_joined",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nprint('tried')",
        W,
    ),
    Hostile(
        "raises_its_limits",
        """
import resource
for name in ("CPU", "AS", "NPROC", "NOFILE", "FSIZE", "CORE", "STACK"):
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (resource.RLIM_INFINITY,) * 2)
        print("HARM", name)
    except (ValueError, OSError):
        pass
try:
    import os
    os.nice(-5)
    print("HARM nice")
except OSError:
    pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "burns_cpu_in_children",
        "import os\nfor _ in range(3): os.fork()\nwhile True: pass",
        ANY,
    ),
    Hostile("deep_recursion", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()", ANY),
    Hostile(
        "deep_recursion_in_c",
        "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
        ANY,
    ),
    Hostile(
        "zip_bomb",
        """
import zlib
bomb = zlib.compressobj(9)
data = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(600)) + bomb.flush()
try:
    zlib.decompress(data)
    print("HARM")
except MemoryError:
    print("tried")
""",
        ANY,
    ),
    Hostile(
        "zip_bomb_to_disk",
        """
import io, zipfile
held = io.BytesIO()
with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("x", bytes(40 << 20))
try:
    zipfile.ZipFile(held).extractall("/tmp")
    print("HARM")
except (OSError, MemoryError):
    print("tried")
""",
        ANY,
    ),
]

_FILES = [
    Hostile(
        "disk_fill",
        """
import os
total = 0
try:
    for number in range(40):
        with open(f"/tmp/{number}", "wb") as file:
            total += file.write(bytes(1 << 20))
except OSError:
    pass
print("HARM" if total > 4 << 20 else "tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "disk_fill_by_names",
        "for number in range(200_000):\n    open(f'/tmp/{number}', 'w').close()\nprint('HARM')",
        F,
    ),
    Hostile(
        "disk_fill_by_folders_in_folders",
        """
import os
try:
    for _ in range(100_000):
        os.mkdir("d")
        os.chdir("d")
    print("HARM")
except OSError:
    print("tried")
""",
        F,
    ),
    Hostile(
        "huge_sparse_file",
        """
import os
try:
    with open("/tmp/x", "wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    print("HARM")
except OSError:
    print("tried")
""",
        ANY,
    ),
    Hostile(
        "disk_fill_in_dev",
        """
import os
for folder in ("/dev", "/dev/shm", "/dev/pts", "/", "/usr/lib", "/python", "/proc", "/proc/self"):
    try:
        open(folder + "/filled", "wb").write(bytes(1 << 16))
        print("HARM", folder)
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "write_outside",
        """
import os
for folder in (OUTSIDE, PROJECT, HOME):
    for act in (lambda: None, lambda: os.makedirs(folder, exist_ok=True)):
        try:
            act()
            open(folder + "/mark", "w").write("x")  # outside one looks whether it is there
        except OSError:
            pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "read_outside",
        """
import os
for path in (SECRET_FILE, PROJECT + "/pyproject.toml", HOME, PROJECT, "/etc/passwd", "/etc/shadow", "/root",
             "/home", "/var", "/sys", "/boot", "/run", "/usr/bin", "/proc/1/root/etc/passwd"):
    if os.path.exists(path):
        print("HARM", path)
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "read_the_environment",
        """
import os
for line in [repr(dict(os.environ))] + [open(f"/proc/{pid}/environ").read() for pid in ("self",)]:
    print(line)
""",
        E,
        prints=b"PYTHONHASHSEED",
    ),
    Hostile(
        "symlinks_out",
        """
import os
for number, target in enumerate((SECRET_FILE, OUTSIDE, PROJECT, HOME, "/proc/1/root", "../../../..")):
    os.symlink(target, f"/tmp/link{number}")
    for path in (f"/tmp/link{number}", f"/tmp/link{number}/pyproject.toml", f"/tmp/link{number}/etc/passwd"):
        try:
            open(path).read()
            print("HARM", path)
        except OSError:
            pass
        try:
            open(path + "/mark", "w").write("HARM")
        except OSError:
            pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "hard_links_and_renames",
        """
import os
for act in (os.link, os.rename, os.replace):
    for source, target in (("/python/bin/python3", "/tmp/p"), ("/usr/lib/os-release", "/tmp/o")):
        try:
            act(source, target)
            print("HARM", act, source)
        except OSError:
            pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "chdir_tricks",
        """
import os
for folder in ("..", "../../..", "/", "//", "/proc/self/root/..", "/proc/self/cwd/../.."):
    os.chdir(folder)
    if set(os.listdir("/")) & {"etc", "root", "home", "work", "var", "bin"}:
        print("HARM", os.listdir("/"))
fd = os.open("/", os.O_RDONLY)
try:
    os.chroot("/tmp")
    print("HARM")
except OSError:
    pass
os.fchdir(fd)
for _ in range(50):
    os.chdir("..")
if os.path.exists("etc"):
    print("HARM")
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "devices",
        """
import os, stat
for name in os.listdir("/dev"):
    mode = os.lstat("/dev/" + name).st_mode
    if stat.S_ISBLK(mode) or name in ("mem", "kmem", "kmsg", "vda", "sda", "fuse", "kvm", "net"):
        print("HARM", name)
for kind, number in ((stat.S_IFBLK, os.makedev(254, 0)), (stat.S_IFCHR, os.makedev(1, 1))):
    try:
        os.mknod("/tmp/device", kind | 0o666, number)
        open("/tmp/device", "rb").read(1)
        print("HARM device")
    except OSError:
        pass
for path in ("/dev/kmsg", "/dev/mem", "/proc/kcore", "/proc/kmsg"):
    try:
        open(path, "rb").read(1)
        print("HARM", path)
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "kernel_switches",
        """
for path, text in (("/proc/sysrq-trigger", "h"), ("/proc/sys/kernel/hostname", "x"),
                   ("/proc/sys/vm/drop_caches", "1"), ("/proc/self/oom_score_adj", "-1000"),
                   ("/proc/self/uid_map", "0 0 1")):
    try:
        with open(path, "w") as file:
            file.write(text)
        print("HARM", path)
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "leaves_a_trap_for_the_next_test",
        """
import os
os.mkdir("/tmp/d"); open("/tmp/d/x", "w").close(); os.chmod("/tmp/d", 0)
open("/tmp/json.py", "w").write("print('HARM')")
open("/tmp/sitecustomize.py", "w").write("print('HARM')")
print("tried")
""",
        E,
        prints=b"tried",
    ),
]

_NETWORK = [
    Hostile(
        "tcp_to_the_host",
        """
import socket
for address in ("127.0.0.1", "localhost", "0.0.0.0", "10.0.0.1", "169.254.169.254", "192.0.2.1"):
    try:
        socket.create_connection((address, PORT), timeout=0.2)
        print("HARM", address)
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "udp",
        """
import socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT))
    print("HARM")
except OSError:
    print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "names_and_pages",
        """
import socket, urllib.request
for act in (lambda: socket.getaddrinfo("example.com", 80),
            lambda: urllib.request.urlopen("http://127.0.0.1:%d/" % PORT, timeout=0.5)):
    try:
        act()
        print("HARM")
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "unix_sockets",
        """
import socket
for address in (UNIX, "\\0" + ABSTRACT, "/var/run/docker.sock", "/run/systemd/private"):
    try:
        socket.socket(socket.AF_UNIX).connect(address)
        print("HARM", address)
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "raw_netlink_and_packet_sockets",
        """
import socket
for family, kind in ((socket.AF_INET, socket.SOCK_RAW), (socket.AF_INET6, socket.SOCK_STREAM),
                     (16, socket.SOCK_RAW), (17, socket.SOCK_RAW), (40, socket.SOCK_STREAM)):
    try:
        socket.socket(family, kind)
        print("HARM", family)
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
]

_RIGHTS = [
    Hostile(
        "becomes_root",
        """
import os
for act in (lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgid(0),
            lambda: os.setgroups([0])):
    try:
        act()
        print("HARM")
    except OSError:
        pass
if 0 in (os.getuid(), os.geteuid(), os.getgid()):
    print("HARM root")
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "setuid_program",
        """
import os, shutil
shutil.copy("/python/bin/python3", "/tmp/p") if os.path.getsize("/python/bin/python3") < 3 << 20 else None
for path in ("/usr/bin/su", "/usr/bin/mount", "/bin/sh", "/usr/bin/passwd"):
    try:
        os.execv(path, [path])
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "namespaces_of_its_own",
        """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x00020000, 0x40000000, 0x20000000, 0x10020000):
    if libc.unshare(flag) == 0:
        print("HARM unshare", hex(flag))
    pid = libc.syscall(56, flag | 17, 0, 0, 0, 0) if os.uname().machine == "x86_64" else -1
    if pid == 0:
        os._exit(0)
    if pid > 0:
        print("HARM clone", hex(flag))
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, 0) == 0 or libc.umount2(b"/tmp", 2) == 0:
    print("HARM mount")
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "terminal_of_the_lab",
        """
import fcntl, os, termios
for path in ("/dev/tty", "/dev/console", "/dev/pts/0"):
    try:
        fd = os.open(path, os.O_RDWR)
        fcntl.ioctl(fd, termios.TIOCSTI, b"x")
        print("HARM", path)
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
]

_STREAMS = [
    Hostile("endless_output", "while True: print('x' * 1000)", Ending.OUTPUT),
    Hostile(
        "endless_output_on_stderr", "import sys\nwhile True: sys.stderr.write('x' * 1000)", Ending.OUTPUT
    ),
    Hostile(
        "endless_output_by_many",
        "import os\nfor _ in range(2): os.fork()\nwhile True: os.write(1, b'y' * 4096)",
        Ending.OUTPUT,
    ),
    Hostile("reads_more_than_there_is", "import sys\nwhile True: sys.stdin.readline()", (S, W), stdin="1\n"),
    Hostile("reads_past_the_end", "input()\ninput()\nprint('HARM')", E, stdin="1\n"),
    Hostile("never_reads", "print('tried')", E, stdin="x" * 3_000_000, prints=b"tried"),
    Hostile(
        "closes_stdin", "import os\nos.close(0)\nprint('tried')", E, stdin="x" * 300_000, prints=b"tried"
    ),
    Hostile("closes_everything", "import os\nos.closerange(0, 100)", ANY),
    Hostile(
        "writes_to_every_descriptor",
        """
import os
for fd in range(64):
    try:
        os.write(fd, b"HA" + b"RM" if fd > 2 else b"")
    except OSError:
        pass
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "opens_too_many_files",
        """
kept = []
try:
    while True:
        kept.append(open("/dev/null"))
except OSError:
    print("HARM" if len(kept) > 32 else "tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile(
        "talks_like_the_supervisor",
        """
import os, struct
frame = struct.pack(">BiiI?dIII", 0, 0, 0, 0, True, 0.0, 2, 0, 0) + b"42"
for path in ("/proc/1/fd/1", "/proc/1/fd/0"):
    try:
        open(path, "wb").write(frame)
        print("HARM")
    except OSError:
        pass
os.write(1, frame)
print("tried")
""",
        E,
        prints=b"tried",
    ),
]

_PYTHON = [
    Hostile("os_exit", "import os\nprint('tried', flush=True)\nos._exit(0)", E, prints=b"tried"),
    Hostile("exit_code_of_its_choice", "import sys\nsys.exit(77)", E),
    Hostile(
        "work_at_exit",
        "import atexit, time\n@atexit.register\ndef later():\n    while True: time.sleep(1)\nprint('tried')",
        W,
    ),
    Hostile(
        "patches_builtins",
        """
import builtins, json, os, sys
os._exit = sys.exit = os.write = json.dumps = lambda *a, **k: None
builtins.exec = builtins.compile = builtins.len = builtins.open = lambda *a, **k: "HARM"
builtins.print = lambda *a, **k: None
sys.modules.clear()
""",
        ANY,
    ),
    Hostile(
        "looks_up_the_stack",
        """
import sys
frame, seen = sys._getframe(), []
while frame:
    seen += list(frame.f_globals) + [repr(value) for value in list(frame.f_locals.values())]
    frame = frame.f_back
if any("SECRET" + "_VALUE" in text for text in seen):
    print("HARM")
print("tried")
""",
        E,
        prints=b"tried",
    ),
    Hostile("crashes_the_interpreter", "import ctypes\nctypes.string_at(0)", S, signal=11),
    Hostile("aborts", "import os\nos.abort()", S, signal=6),
    Hostile("source_nested_too_deep", "(" * 5000 + ")" * 5000, E),
    Hostile("source_with_nul", "print('a')\0print('HARM')", E),
    Hostile("source_of_surrogates", "x = '\udce4'\nprint(len(x))", ANY),
    Hostile("source_of_megabytes", "x = [" + "1," * 500_000 + "]\nprint(len(x))", ANY),
]

SAMPLES = (*_PROCESSES, *_MEMORY_AND_TIME, *_FILES, *_NETWORK, *_RIGHTS, *_STREAMS, *_PYTHON)
