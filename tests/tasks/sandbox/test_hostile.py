"""Hostile programs reach nothing, and the pool works afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from scalerl_lab.config.sandbox import Sandbox, SandboxLimits
from scalerl_lab.tasks.sandbox import Box, Ending, Job, Kind, Program, SandboxPool, start
from tests.tasks.sandbox.host import SECRET, Host, processes_of, without_bwrap
from tests.tasks.sandbox.samples import SAMPLES, Hostile

pytestmark = without_bwrap

PATIENT = SandboxLimits(
    cpu_s=10, wall_s=20.0, memory_mb=128, processes=8, open_files=32, scratch_mb=4, files=500, output_kb=64
)
"""For samples that must come to their own end, however busy the machine."""
LIMITS = SandboxLimits(
    cpu_s=1, wall_s=1.0, memory_mb=128, processes=8, open_files=32, scratch_mb=4, files=500, output_kb=64
)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    targets = Host()
    yield targets
    targets.close()


@pytest.fixture(scope="module")
def users() -> Iterator[set[int]]:
    """Every user that a sandbox of this file ran as."""
    drawn: set[int] = set()
    draw = start.draw_user

    def noted() -> int | None:
        uid = draw()
        if uid is not None:
            drawn.add(uid)
        return uid

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_TEST_SECRET", SECRET)
        patch.setattr(start, "draw_user", noted)
        yield drawn


@pytest.fixture(scope="module")
def pools(users: set[int]) -> Iterator[dict[bool, SandboxPool]]:
    """A pool for samples that the clock may end, and one for those that it must not."""
    with (
        SandboxPool(Sandbox(workers=1, limits=LIMITS)) as quick,
        SandboxPool(Sandbox(workers=1, limits=PATIENT)) as patient,
    ):
        yield {True: quick, False: patient}
    assert processes_of(users) == []


def _waiting(pools: dict[bool, SandboxPool]) -> set[int]:
    return {box.uid for pool in pools.values() for box in pool._warm._boxes if box.uid is not None}


def test_there_are_at_least_forty_samples_with_names_of_their_own() -> None:
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES) >= 40


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_no_harm_is_done_and_the_pool_works_on(
    sample: Hostile, pools: dict[bool, SandboxPool], host: Host, users: set[int]
) -> None:
    allowed = (sample.ending,) if isinstance(sample.ending, Ending) else sample.ending
    pool = pools[Ending.WALL in allowed]
    program = Program(host.told() + sample.source, stdin=sample.stdin)
    started = time.monotonic()
    # The second test of the same solution comes after the hostile one, in its sandbox or in a new one.
    outcome, then = pool.run(Job([program, Program("import json\nprint(6 * 7)")]))
    assert time.monotonic() - started < pool.limits.wall_s + 20.0
    said = outcome.stdout + outcome.stderr
    assert b"HARM" not in outcome.stdout, said
    assert SECRET.encode() not in said
    assert host.reached() == []
    assert outcome.ending in allowed, (outcome.ending, said[-500:])
    assert outcome.ending is not Ending.LOST
    assert sample.signal in (None, outcome.signal)
    assert sample.prints is None or sample.prints in outcome.stdout, said
    assert len(outcome.stdout) <= LIMITS.output_kb * 1024 + 200_000
    assert then.stdout == b"42\n", then
    # What is left runs in sandboxes that wait for a solution; nothing that ran is still there.
    assert processes_of(users - _waiting(pools)) == []
    (after,) = pool.run(Job([Program("print(sum(map(int, input().split())))", stdin="40 2\n")]))
    assert after.stdout == b"42\n"


@pytest.mark.parametrize("name", ["read_outside", "tcp_to_the_host", "write_outside", "unix_sockets"])
def test_the_samples_would_tell_of_harm_where_nothing_isolates(name: str, host: Host) -> None:
    """Otherwise their silence above would say nothing."""
    sample = next(sample for sample in SAMPLES if sample.name == name)
    box = Box(LIMITS, Kind.WEAK)
    try:
        outcome = box.run(Program(f"{host.told()}PROJECT = HOME = OUTSIDE\n{sample.source}"))
    finally:
        box.kill()
    reached = host.reached()
    (host.outside / "mark").unlink(missing_ok=True)
    while host.reached():
        pass
    assert (b"HARM" in outcome.stdout) == (name != "write_outside"), outcome
    assert (
        set(reached)
        == {
            "read_outside": set(),
            "tcp_to_the_host": {"tcp"},
            "write_outside": {str(host.outside)},
            "unix_sockets": {"unix", "abstract"},
        }[name]
    )


def test_cpu_seconds_end_a_loop_before_the_wall_clock_does() -> None:
    limits = LIMITS.model_copy(update={"wall_s": 200.0})
    box = Box(limits, Kind.BUBBLEWRAP)
    try:
        plain, deaf = (
            box.run(Program(source))
            for source in (
                "while True: pass",
                "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
            )
        )
    finally:
        box.kill()
    assert (plain.ending, plain.signal) == (Ending.SIGNALLED, 24)
    assert (deaf.ending, deaf.signal) == (Ending.SIGNALLED, 9)


@pytest.mark.skipif(os.geteuid() != 0, reason="only a lab that is root gives each sandbox a user of its own")
def test_sandboxes_do_not_share_a_user(pools: dict[bool, SandboxPool], users: set[int]) -> None:
    before = len(users)
    for _ in range(3):
        pools[False].run(Job([Program("print(1)")]))
    assert len(users) == before + 3
    assert 0 not in users
