"""Random programs: no hang, nothing left, bounded time. SANDBOX_FUZZ says how many (60 unless given).

``SANDBOX_FUZZ=10000 pytest tests/tasks/sandbox/test_fuzz.py`` is the long run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalerl_lab.config.sandbox import CodeReward, Sandbox, SandboxLimits
from scalerl_lab.tasks.code import CallCase, Case, CodeVerifier, StdinCase
from scalerl_lab.tasks.sandbox import SandboxPool, start
from tests.tasks.sandbox.host import processes_of, without_bwrap

pytestmark = without_bwrap

NUM_INPUTS = int(os.environ.get("SANDBOX_FUZZ", "60"))
WORKERS = 6
SECONDS_EACH = 2.0
"""Most that an input may take on average, however busy the machine: its limits allow little more."""
LIMITS = SandboxLimits(cpu_s=1, wall_s=0.4, memory_mb=96, processes=6, scratch_mb=1, files=100, output_kb=16)

_STATEMENTS = (
    "print(input())",
    "import sys; sys.stdout.write(sys.stdin.read())",
    "x = bytearray(1 << {small})",
    "import os; os.fork()",
    "import os; os.close({fd})",
    "import os; os.kill({pid}, {signal})",
    "import os; os.write({fd}, b'{text}')",
    "import os; os._exit({small})",
    "import sys; sys.exit({text!r})",
    "open('/tmp/{small}', 'w').write('x' * {big})",
    "import os; os.mkdir('{small}'); os.chdir('{small}')",
    "import signal; signal.signal({signal}, signal.SIG_IGN)",
    "import signal; signal.alarm(1)",
    "import threading; threading.Thread(target=print).start()",
    "import resource; resource.setrlimit({small} % 10, ({big}, {big}))",
    "import ctypes; ctypes.string_at({big})",
    "import ctypes; ctypes.CDLL(None).syscall({big} % 460, {small}, {big}, {small}, {fd})",
    "import time; time.sleep({small} / 40)",
    "for i in range({big}): print(i)",
    "raise {error}({text!r})",
    "sum(range({big}))",
    "f = lambda *a: {small}",
    "def f(x): return [x] * {small}",
    "def f(x): return f(x)",
    "class Solution:\n    def f(self, x): return {text!r}",
    "import gc; gc.collect(); gc.freeze()",
    "import os; os.dup2({fd}, {small})",
    "import builtins; builtins.print = None",
    "import sys; sys.setrecursionlimit({big} + 100)",
    "import atexit, os; atexit.register(os.fork)",
    "import mmap; m = mmap.mmap(-1, {big} + 1); m[0] = 1",
    "import os; os.pipe()",
    "while True: pass",
)


def _program(draw: random.Random) -> str:
    if draw.random() < 0.1:
        return "".join(
            chr(draw.choice((draw.randrange(1, 128), draw.randrange(1, 0xD800)))) for _ in range(200)
        )
    lines = []
    for _ in range(draw.randint(1, 5)):
        line = draw.choice(_STATEMENTS).format(
            small=draw.randint(0, 30),
            big=draw.choice((0, 1, 4096, 10**5, 10**7, 2**31, 2**40)),
            fd=draw.randint(0, 8),
            pid=draw.choice((-1, 0, 1, 2, 3)),
            signal=draw.randint(1, 64),
            text=draw.choice(("", "a", "3", "```", "\x00", "é" * 50)).replace("\x00", "?"),
            error=draw.choice(
                ("ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError")
            ),
        )
        guarded = draw.random() < 0.5 and "\n" not in line and not line.startswith(("for", "while", "def"))
        lines.append(f"try:\n    {line}\nexcept BaseException: pass" if guarded else line)
    return "\n".join(lines)


def _completions(seed: int) -> Iterator[tuple[tuple[Case, ...], str]]:
    draw = random.Random(seed)
    tests: tuple[Case, ...] = (StdinCase("3\n", "9"), CallCase("f", (3,), [9]))
    for _ in range(NUM_INPUTS):
        malformed = draw.random() < 0.1
        opened, closed = (
            ("```py\n", "```" + draw.choice(("", "`", " "))) if not malformed else ("``\n", "```x")
        )
        yield tests, f"{opened}{_program(draw)}\n{closed}"


@pytest.mark.timeout(60 + NUM_INPUTS * SECONDS_EACH)
def test_random_programs_neither_hang_nor_leave_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: set[int] = set()
    draw = start.draw_user

    def noted() -> int | None:
        uid = draw()
        drawn.update(() if uid is None else (uid,))
        return uid

    monkeypatch.setattr(start, "draw_user", noted)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    started = time.monotonic()
    scores = []
    with SandboxPool(Sandbox(workers=WORKERS, limits=LIMITS)) as pool:
        verifier = CodeVerifier(pool, CodeReward(total_s=1.0))
        for verdict in verifier.verify_batch(_completions(seed=20260)):
            scores.append(verdict.score)
            if len(scores) % 500 == 0:
                waiting = {box.uid for box in pool._warm._boxes if box.uid is not None}
                assert len(drawn) >= 0.8 * len(scores)
                assert len(processes_of(drawn - waiting)) <= WORKERS * (LIMITS.processes + 3)
    seconds = time.monotonic() - started
    assert len(scores) == NUM_INPUTS
    assert sum(scores) == 0.0  # nothing that a random program says is the answer
    assert processes_of(drawn) == []
    assert seconds < 30 + NUM_INPUTS * SECONDS_EACH
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 2
