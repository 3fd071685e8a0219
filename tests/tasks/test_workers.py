"""Worker processes: bounded in time and memory, replaced when they die, none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scalerl_lab.tasks import workers as module
from scalerl_lab.tasks.workers import Call, Workers

HOPELESS = Call("gym_draw", ("chain_sum", 50_000_000, 0, {}), 0.5)
HALF = Call("math", ("\\frac{1}{2}", "0.5"))


@pytest.fixture
def pool() -> object:
    made = Workers(2)
    yield made
    made.close()


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_replies_come_in_the_order_of_the_calls(pool: Workers) -> None:
    golds = ["1", "2", "3", "4", "5", "6", "7"]
    calls = [Call("math", (gold, "4")) for gold in golds]
    assert [reply.value for reply in pool.run(calls)] == [gold == "4" for gold in golds]
    assert len(pool.pids) <= 2


def test_what_does_not_end_is_ended_and_the_rest_goes_on(pool: Workers) -> None:
    began = time.monotonic()
    replies = pool.run([HALF, HOPELESS, HALF, HOPELESS, HALF])
    assert [reply.value for reply in replies] == [True, None, True, None, True]
    assert all("limit of 0.5 s of processor time" in replies[place].error for place in (1, 3))
    assert time.monotonic() - began < 120
    assert [reply.value for reply in pool.run([HALF])] == [True]


def test_what_raises_is_a_reply(pool: Workers) -> None:
    (reply,) = pool.run([Call("gym_score", ("no_such_generator", {}, "x"))])
    assert reply.value is None
    assert "ValueError" in reply.error


def test_a_worker_that_was_killed_is_replaced(pool: Workers) -> None:
    pool.run([HALF])
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    first, second = pool.run([HALF]), pool.run([HALF])
    assert first[0].error != ""
    assert second[0].value is True


def test_a_worker_is_replaced_after_its_share_of_checks(
    pool: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECYCLE_AFTER", 2)
    one = Workers(1)
    try:
        one.run([HALF])
        (before,) = one.pids
        one.run([HALF])
        assert one.pids == []
        assert not running(before)
        one.run([HALF])
        assert one.pids != [before]
    finally:
        one.close()


def test_closing_ends_every_process(pool: Workers) -> None:
    pool.run([HALF] * 4)
    pids = pool.pids
    assert pids
    assert all(map(running, pids))
    pool.close()
    assert not any(map(running, pids))


def test_threads_may_share_a_pool(pool: Workers) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(pool.run([HALF])[0].value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 4


ORPHAN = """
import os, sys, threading, time
from scalerl_lab.tasks.workers import Call, shared
shared().run([Call("math", ("1/2", "0.5"))])
print(*shared().pids, flush=True)
hopeless = Call("gym_draw", ("chain_sum", 50_000_000, 0, {}), 1.0)
threading.Thread(target=lambda: shared().run([hopeless]), daemon=True).start()
time.sleep(0.3)
os.kill(os.getpid(), 9)
"""


def test_workers_do_not_outlive_a_parent_that_was_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(each) for each in done.stdout.split()]
    assert pids
    ends = time.monotonic() + 60
    while any(map(running, pids)) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not any(map(running, pids))


def test_none_is_left_when_a_process_ends() -> None:
    code = (
        "from scalerl_lab.tasks.workers import Call, shared\n"
        "shared().run([Call('math', ('2', '2'))])\n"
        "print(*shared().pids)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split()
    assert not any(running(int(pid)) for pid in done.stdout.split())
