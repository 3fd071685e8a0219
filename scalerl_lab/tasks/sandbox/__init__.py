"""Untrusted Python, run so that nothing outside notices: files, network, processes, memory, time.

Files: ``inside`` the supervisor in the sandbox, standard library only, which runs each program in a child
and watches it; ``start`` how a sandbox is started (bubblewrap, or the weak fallback); ``seccomp`` the
system calls that are denied; ``box`` one sandbox from outside: send, wait, kill; ``pool`` many of them,
warm, in order, with back-pressure; ``check`` whether it works on this machine, and how to mend it.

What keeps what out: mount namespaces and an empty root (files), an empty network namespace and the filter
(network), a process namespace whose process 1 is the supervisor (signals, what outlives a test), an
unprivileged user of its own where the lab is root, resource limits of the kernel (CPU, address space,
processes, files, sizes) and the supervisor's watch (wall clock, memory in sum, output, number of files).

It needs Linux 5.14 or later: limits on processes count per user namespace since then.

Nothing that comes out of a sandbox is believed: an ``Outcome`` is what the program said and how it ended.
Whoever gives verdicts compares outside, with answers that never went in. This room knows neither problems
nor rewards.
"""

from __future__ import annotations

from scalerl_lab.tasks.sandbox.box import Box, Call, Ending, Json, Outcome, Program
from scalerl_lab.tasks.sandbox.check import Finding, isolation_here, look_around
from scalerl_lab.tasks.sandbox.pool import Cost, Job, SandboxPool, close_shared_pools, shared_pool
from scalerl_lab.tasks.sandbox.start import Isolation, Kind

__all__ = [
    "Box",
    "Call",
    "Cost",
    "Ending",
    "Finding",
    "Isolation",
    "Job",
    "Json",
    "Kind",
    "Outcome",
    "Program",
    "SandboxPool",
    "close_shared_pools",
    "isolation_here",
    "look_around",
    "shared_pool",
]
