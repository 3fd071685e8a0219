"""Many solutions at a time: bounded workers with warm sandboxes, results in order, back-pressure."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from types import TracebackType

from scalerl_lab.config.sandbox import Sandbox, SandboxLimits
from scalerl_lab.errors import LabError, ResourceError
from scalerl_lab.tasks.sandbox.box import Box, Ending, Outcome, Program
from scalerl_lab.tasks.sandbox.check import isolation_here
from scalerl_lab.tasks.sandbox.start import Kind


@dataclass(frozen=True, slots=True)
class Job:
    """All executions of one solution; they may share a sandbox, solutions never do."""

    programs: Sequence[Program]
    total_s: float = float("inf")
    """Running time of all programs together; those that would start later are not run."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What isolation costs, in milliseconds of wall clock."""

    cold_start_ms: float
    """From nothing to a sandbox that serves; median."""
    warm_wait_ms: float
    """What a solution waits for beside its own running time, where a sandbox is ready; median."""
    solution_ms: float
    """A trivial solution when all workers are busy."""


class _Warm:
    """Sandboxes started ahead of their use, so that a solution waits for none."""

    def __init__(self, limits: SandboxLimits, kind: Kind, num: int) -> None:
        self._limits, self._kind = limits, kind
        self._lock = threading.Lock()
        self._boxes: deque[Box] = deque()
        self._num = num
        self._num_starting = 0
        self._closed = False

    def fill(self) -> None:
        """Start as many as are missing; does not wait until they are ready."""
        while True:
            with self._lock:
                if self._closed or len(self._boxes) + self._num_starting >= self._num:
                    return
                self._num_starting += 1
            try:
                box = Box(self._limits, self._kind)
            finally:
                with self._lock:
                    self._num_starting -= 1
            with self._lock:
                if not self._closed:
                    self._boxes.append(box)
                    continue
            box.kill()

    def take(self) -> Box:
        """A sandbox that is ready; one that died while it waited is replaced.

        Raises:
            ResourceError: a new one does not start either, three times within seconds.
        """
        for patience_s in (0.2, 1.0, None):
            try:
                return self._next_ready()
            except ResourceError:
                if patience_s is None or self._closed:
                    raise
                time.sleep(patience_s)  # the machine may be short of processes for a moment
        raise AssertionError("unreachable")

    def _next_ready(self) -> Box:
        while True:
            with self._lock:
                if self._closed:
                    raise ResourceError("the sandbox pool is closed")
                box = self._boxes.popleft() if self._boxes else None
            if box is None:
                box = Box(self._limits, self._kind)
                box.wait_ready()
                return box
            try:
                box.wait_ready()
            except ResourceError:
                continue
            if box.is_alive():
                return box
            box.kill()

    def close(self) -> None:
        """End all of them."""
        with self._lock:
            self._closed = True
            boxes = list(self._boxes)
            self._boxes.clear()
        for box in boxes:
            box.kill()


class SandboxPool:
    """Runs programs in sandboxes, ``workers`` solutions at a time.

    A solution gets a sandbox that no other had, started while earlier ones ran. ``map`` draws its jobs
    only as results are taken, with at most two a worker under way, so that it can be put between
    generation and training. Killing the process that holds the pool, by whatever signal, ends every
    sandbox.

    Args:
        sandbox: the recipe's choice of limits, workers and fallback.

    Raises:
        ResourceError: bubblewrap does not work here and the recipe allows no fallback.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.isolation = isolation_here(sandbox.fallback)
        """How programs are isolated; for the run's record."""
        self.workers = sandbox.workers or len(os.sched_getaffinity(0))
        self.limits = sandbox.limits
        self._owner = os.getpid()
        self._warm = _Warm(sandbox.limits, self.isolation.kind, self.workers)
        # A sandbox dies with the thread that started it: these threads live as long as the pool.
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="sandbox")
        self._free = threading.BoundedSemaphore(2 * self.workers)
        self._finalizer = weakref.finalize(self, self._warm.close)
        for ready in [self._threads.submit(self._warm.fill) for _ in range(self.workers)]:
            ready.result()

    def submit(self, job: Job) -> Future[list[Outcome]]:
        """Take a job; waits while two a worker are under way.

        Raises:
            LabError: this process is a fork of the one that made the pool.
        """
        if os.getpid() != self._owner:
            raise LabError("a sandbox pool cannot be used in a fork of its process; make one there")
        self._free.acquire()
        try:
            future = self._threads.submit(self._work, job)
        except BaseException:
            self._free.release()
            raise
        future.add_done_callback(lambda _: self._free.release())
        return future

    def run(self, job: Job) -> list[Outcome]:
        """The outcomes of one job, in the order of its programs; see ``map``."""
        return self.submit(job).result()

    def map(self, jobs: Iterable[Job]) -> Iterator[list[Outcome]]:
        """Outcomes of each job, in the order of the jobs.

        A job has fewer outcomes than programs where its ``total_s`` was spent before.

        Raises:
            ResourceError: a sandbox cannot be started any more.
        """
        under_way: deque[Future[list[Outcome]]] = deque()
        for job in jobs:
            if len(under_way) == 2 * self.workers:
                yield under_way.popleft().result()
            under_way.append(self.submit(job))
        while under_way:
            yield under_way.popleft().result()

    def _work(self, job: Job) -> list[Outcome]:
        outcomes: list[Outcome] = []
        seconds = 0.0
        box: Box | None = None
        try:
            for program in job.programs:
                if seconds > job.total_s:
                    break
                if box is None:
                    box = self._warm.take()
                    self._warm.fill()
                outcome = box.run(program)
                if outcome.ending is Ending.LOST:
                    box.kill()
                    # Once more in a new one: somebody else may have ended it.
                    box = self._warm.take()
                    outcome = box.run(program)
                seconds += outcome.seconds
                outcomes.append(outcome)
                if not box.clean:
                    box.kill()
                    box = None
        finally:
            if box is not None:
                box.kill()
        return outcomes

    def close(self) -> None:
        """Wait for the jobs that run, drop those that do not yet, and end every sandbox."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._finalizer()

    def cost(self, num: int = 10) -> Cost:
        """What isolation costs here now, by ``num`` trivial solutions each way.

        Raises:
            ResourceError: a sandbox cannot be started.
        """
        job = Job([Program("print(1)")])
        cold = []
        for _ in range(num):
            started = time.monotonic()
            box = Box(self.limits, self.isolation.kind)
            box.wait_ready()
            cold.append(time.monotonic() - started)
            box.kill()
        warm = []
        for _ in range(num):
            time.sleep(0.1)  # the next sandbox is ready by then
            started = time.monotonic()
            (outcome,) = self.run(job)
            warm.append(time.monotonic() - started - outcome.seconds)
        started = time.monotonic()
        for _ in self.map([job] * num):
            pass
        busy = (time.monotonic() - started) / num
        return Cost(*(1000 * seconds for seconds in (median(cold), median(warm), busy)))

    def __enter__(self) -> SandboxPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_SHARED: dict[tuple[int, Sandbox], SandboxPool] = {}
"""(process id, settings) -> its pool: a fork makes its own."""


def shared_pool(sandbox: Sandbox) -> SandboxPool:
    """This process's pool of these settings, made when it is first asked for.

    Raises:
        ResourceError: bubblewrap does not work here and the settings allow no fallback.
    """
    own = (os.getpid(), sandbox)
    if own not in _SHARED:
        _SHARED[own] = SandboxPool(sandbox)
    return _SHARED[own]


def close_shared_pools() -> None:
    """End this process's pools; the next solution makes a new one."""
    for own in [each for each in _SHARED if each[0] == os.getpid()]:
        _SHARED.pop(own).close()
