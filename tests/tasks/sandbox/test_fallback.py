"""Where bubblewrap does not work: refused, or weak and said so. Needs no bubblewrap."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from scalerl_lab.cli import lab
from scalerl_lab.config.sandbox import Sandbox, SandboxLimits
from scalerl_lab.errors import ResourceError
from scalerl_lab.tasks.sandbox import Call, Ending, Job, Kind, Program, SandboxPool, check, start
from tests.tasks.sandbox.host import processes_of, without_bwrap

LIMITS = SandboxLimits(cpu_s=1, wall_s=1.5, memory_mb=128, processes=8, scratch_mb=1, output_kb=64)


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    which = shutil.which
    monkeypatch.setattr(start.shutil, "which", lambda name: None if name == "bwrap" else which(name))
    check.look_around.cache_clear()
    check.isolation_here.cache_clear()
    yield
    check.look_around.cache_clear()
    check.isolation_here.cache_clear()


def test_without_bubblewrap_a_pool_is_refused_with_how_to_mend_it(no_bubblewrap: None) -> None:
    with pytest.raises(ResourceError, match="apt-get install bubblewrap") as caught:
        SandboxPool(Sandbox())
    assert "fallback=weak" in str(caught.value)


@without_bwrap
def test_where_namespaces_are_denied_a_pool_is_refused_with_what_was_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    denied = tmp_path_factory.mktemp("bin") / "bwrap"
    denied.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    denied.chmod(0o755)
    monkeypatch.setattr(start.shutil, "which", lambda name: str(denied))
    for cached in (check.look_around, check.isolation_here):
        cached.cache_clear()
    try:
        with pytest.raises(ResourceError, match="No permissions to create a new namespace"):
            SandboxPool(Sandbox())
        with SandboxPool(Sandbox(fallback="weak", workers=1)) as pool:
            assert pool.isolation.kind is Kind.WEAK
            assert "No permissions" in pool.isolation.why
    finally:
        for cached in (check.look_around, check.isolation_here):
            cached.cache_clear()


def test_lab_sandbox_check_tells_and_its_exit_code_is_3(no_bubblewrap: None) -> None:
    result = CliRunner().invoke(lab, ["sandbox", "check"])
    assert result.exit_code == 3
    assert "apt-get install bubblewrap" in result.output


@without_bwrap
def test_lab_sandbox_check_says_what_holds() -> None:
    result = CliRunner().invoke(lab, ["sandbox", "check"])
    assert result.exit_code == 0, result.output
    assert "bubblewrap works here: not root, no capabilities, no network" in result.output
    assert "A start takes" in result.output


@pytest.fixture
def weak(no_bubblewrap: None) -> Iterator[SandboxPool]:
    try:
        pool = SandboxPool(Sandbox(fallback="weak", workers=1, limits=LIMITS))
    except ResourceError as error:
        pytest.skip(f"no weak fallback here: {error}")
    with pool:
        yield pool


def test_the_weak_fallback_is_named_with_its_reason(weak: SandboxPool) -> None:
    assert weak.isolation.kind is Kind.WEAK
    assert not weak.isolation.seccomp
    assert "not installed" in weak.isolation.why


def test_the_weak_fallback_keeps_time_memory_output_and_processes(weak: SandboxPool) -> None:
    sources = (
        "import os\nprint(sum(map(int, input().split())), os.getuid(), sorted(os.environ))",
        "import time\ntime.sleep(60)",
        "x = bytearray(1 << 28)",
        "while True: print('x' * 1000)",
        "open('x', 'wb').write(bytes(2 << 20))",
        "import os, time\nn = 0\ntry:\n  while n < 40:\n    if os.fork() == 0: time.sleep(9)\n    n += 1\n"
        "except OSError: pass\nprint(n)",
        "import os\nprint(os.listdir())",
    )
    plain, sleep, memory, output, file, forks, folder = weak.run(
        Job([Program(source, stdin="1 2\n") for source in sources])
    )
    assert plain.stdout.startswith(b"3 ")
    assert b"HOME" not in plain.stdout
    assert os.geteuid() != 0 or not plain.stdout.startswith(b"3 0 ")
    assert sleep.ending is Ending.WALL
    assert b"MemoryError" in memory.stderr
    assert output.ending is Ending.OUTPUT
    assert b"File too large" in file.stderr
    assert int(forks.stdout) <= 8
    assert forks.num_killed >= int(forks.stdout) > 0
    assert folder.stdout == b"[]\n"
    (value,) = weak.run(Job([Program("def f(x): return x + 1", call=Call("f", [1]))]))
    assert value.value == "2"


@pytest.mark.parametrize(
    "source",
    [
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  os.fork()\n  time.sleep(30)",
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(30)\nos.kill(os.getppid(), 9)",
    ],
    ids=["daemon", "kills_its_supervisor"],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes are told apart by their users, which needs root")
def test_nothing_of_the_weak_fallback_outlives_its_solution(
    weak: SandboxPool, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[int] = set()
    draw = start.draw_user

    def noted() -> int | None:
        uid = draw()
        assert uid is not None
        drawn.add(uid)
        return uid

    monkeypatch.setattr(start, "draw_user", noted)
    weak.run(Job([Program("print(1)")]))  # its own sandbox was started before; the next one is noted
    weak.run(Job([Program(source)]))
    time.sleep(0.2)
    assert len(drawn) >= 2
    waiting = {box.uid for box in weak._warm._boxes}
    assert processes_of({uid for uid in drawn if uid not in waiting}) == []
    (after,) = weak.run(Job([Program("print(6 * 7)")]))
    assert after.stdout == b"42\n"
