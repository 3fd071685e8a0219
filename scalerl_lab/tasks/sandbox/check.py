"""Whether the sandbox works on this machine, what it keeps out, and how to mend what is lacking."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scalerl_lab.config.sandbox import SandboxLimits
from scalerl_lab.errors import ResourceError
from scalerl_lab.tasks.sandbox.box import Box, Program
from scalerl_lab.tasks.sandbox.seccomp import filter_program
from scalerl_lab.tasks.sandbox.start import Isolation, Kind, spare_users

_LOOK_AROUND = """
import json, os, socket
def fails(act):
    try:
        act()
    except OSError:
        return True
    return False
def connect():
    socket.socket().connect(("192.0.2.1", 80))
seen = {
    "not root": os.getuid() != 0 and os.geteuid() != 0,
    "no capabilities": "CapEff:\\t0000000000000000" in open("/proc/self/status").read(),
    "no network": fails(connect) and [line.split(":")[0].strip()
        for line in open("/proc/net/dev").read().splitlines()[2:]] in ([], ["lo"]),
    "read-only root": all(fails(lambda: open(path, "w"))
        for path in ("/x", "/usr/lib/x", "/dev/shm/x", "/python/x")),
    "private scratch": os.listdir("/tmp") == [],
    "no home, no project": not any(os.path.exists(path) for path in FOREIGN),
    "no environment": not set(os.environ) - {"PATH", "PWD", "LC_CTYPE", "PYTHONHASHSEED",
        "MALLOC_ARENA_MAX", "LD_LIBRARY_PATH"},
    "no other processes": sum(name.isdigit() for name in os.listdir("/proc")) == 2,
}
print(json.dumps(seen))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One property of the sandbox, looked at from inside."""

    what: str
    holds: bool


@functools.cache
def look_around() -> tuple[Finding, ...]:
    """Start a sandbox and look around in it.

    Returns:
        Every property with whether it holds.

    Raises:
        ResourceError: bubblewrap is absent, or the machine refuses what it needs; says how to mend it.
    """
    # Folders of the lab that no mount of the sandbox has any reason to show.
    foreign = sorted(
        {str(Path.home()), str(Path.cwd()), str(Path(__file__).parent)} - {"/", "/tmp", "/usr/lib"}
    )
    box = Box(SandboxLimits(), Kind.BUBBLEWRAP)
    try:
        box.wait_ready()
        outcome = box.run(Program(f"FOREIGN = {foreign!r}\n{_LOOK_AROUND}"))
    except ResourceError as error:
        raise ResourceError(f"{error}. {_mend()}") from None
    finally:
        box.kill()
    if not outcome.ran_through:
        raise ResourceError(
            f"the sandbox started, but a program in it ended by {outcome.ending.value}: "
            f"{outcome.stderr.decode(errors='replace').strip()[-500:]}"
        )
    return tuple(Finding(what, bool(holds)) for what, holds in json.loads(outcome.stdout).items())


def _mend() -> str:
    advice = []
    switches = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=15000"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "an AppArmor profile that allows userns for bwrap, or "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    }
    for path, (refusing, command) in switches.items():
        try:
            if os.geteuid() != 0 and Path(path).read_text().strip() == refusing:
                advice.append(command)
        except OSError:
            continue
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        advice.append(
            "this is a container: it must be allowed to make namespaces "
            "(docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined, as an "
            "ordinary user, or --privileged as root)"
        )
    advice.append("or sandbox.fallback=weak in the recipe, which isolates neither files nor network")
    return "To mend it: " + "; ".join(advice)


@functools.cache
def isolation_here(fallback: Literal["refuse", "weak"]) -> Isolation:
    """How programs will be isolated on this machine.

    Args:
        fallback: what the recipe allows where bubblewrap does not work.

    Raises:
        ResourceError: it does not work, or leaves something open, and the recipe refuses the fallback.
    """
    own_user = spare_users() is not None
    try:
        open_things = [finding.what for finding in look_around() if not finding.holds]
        if open_things:
            raise ResourceError(f"the sandbox works but does not keep this: {', '.join(open_things)}")
    except ResourceError as error:
        if fallback == "refuse":
            raise
        return Isolation(Kind.WEAK, own_user=own_user, seccomp=False, why=str(error))
    return Isolation(Kind.BUBBLEWRAP, own_user=own_user, seccomp=filter_program() is not None)
