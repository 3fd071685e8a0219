"""What hostile programs aim at: secrets, listeners, a process, folders; and whether they were reached."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

SECRET = "SECRET" + "_VALUE_7d1f"
PROJECT = Path(__file__).parents[3]


def _why_no_bubblewrap() -> str:
    """Why not even a trivial bubblewrap works here; empty where it does."""
    if shutil.which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--ro-bind", "/", "/", "true"]
    tried = subprocess.run(command, capture_output=True, text=True)
    return f"namespaces are denied here: {tried.stderr.strip()}" if tried.returncode else ""


_WHY = _why_no_bubblewrap()
without_bwrap = pytest.mark.skipif(bool(_WHY), reason=f"{_WHY}: there is no sandbox to test")


class Host:
    """Targets on this machine."""

    def __init__(self) -> None:
        # Not a folder of pytest's, which are closed to others: only the sandbox is to hide what lies here.
        self.folder = folder = Path(tempfile.mkdtemp(prefix="lab-test-host-"))
        folder.chmod(0o755)
        self.outside = folder / "outside"
        self.outside.mkdir()
        self.outside.chmod(0o777)
        self.secret_file = folder / "secret"
        self.secret_file.write_text(SECRET)
        self.secret_file.chmod(0o644)
        self.victim = subprocess.Popen(["sleep", "600"])
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(self.tcp.getsockname())
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix_path = f"/tmp/lab-test-{os.getpid()}.sock"
        self.unix.bind(self.unix_path)
        Path(self.unix_path).chmod(0o777)
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract_name = f"lab-test-{os.getpid()}"
        self.abstract.bind(f"\0{self.abstract_name}")
        for listener in (self.unix, self.abstract):
            listener.listen()
        for listener in (self.tcp, self.udp, self.unix, self.abstract):
            listener.setblocking(False)

    def told(self) -> str:
        """Assignments that tell a program where to find what."""
        facts = {
            "SECRET_FILE": str(self.secret_file),
            "PROJECT": str(PROJECT),
            "HOME": str(Path.home()),
            "LAB": os.getpid(),
            "VICTIM": self.victim.pid,
            "PORT": self.tcp.getsockname()[1],
            "UNIX": self.unix_path,
            "ABSTRACT": self.abstract_name,
            "OUTSIDE": str(self.outside),
        }
        return "".join(f"{name} = {value!r}\n" for name, value in facts.items())

    def reached(self) -> list[str]:
        """Which targets a program got to."""
        marks = [str(path) for path in (self.outside, PROJECT, Path.home()) if (path / "mark").exists()]
        if self.secret_file.read_text() != SECRET:
            marks.append("secret file")
        if self.victim.poll() is not None:
            marks.append("victim")
        for name in ("tcp", "unix", "abstract"):
            try:
                getattr(self, name).accept()[0].close()
                marks.append(name)
            except BlockingIOError:
                pass
        try:
            self.udp.recvfrom(10)
            marks.append("udp")
        except BlockingIOError:
            pass
        return marks

    def close(self) -> None:
        """Take the targets away."""
        self.victim.kill()
        self.victim.wait()
        for listener in (self.tcp, self.udp, self.unix, self.abstract):
            listener.close()
        Path(self.unix_path).unlink()
        shutil.rmtree(self.folder)


def processes_of(uids: set[int]) -> list[int]:
    """Processes of the machine that run as one of these users."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "status").read_text()
            except OSError:
                continue
            words = status.split("Uid:")[1].split()
            if "State:\tZ" not in status and int(words[0]) in uids:
                found.append(int(folder.name))
    return found
