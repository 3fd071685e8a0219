"""A launcher whose trials take one evaluation interval per turn of the driver: no clock, no chance."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from scalerl_lab.launch.launcher import TrialOver, TrialRequest
from scalerl_lab.launch.worker import Trainer, execute
from scalerl_lab.records import EvalPoint
from tests.launch.fake_trainer import DiedError


class _Trial(threading.Thread):
    """A trial that waits for its turn after every point."""

    def __init__(self, request: TrialRequest, trainer: Trainer) -> None:
        super().__init__(daemon=True)
        self.request = request
        self.error: str | None = None
        self._trainer = trainer
        self._over = self._dies = False
        self._go, self._rests = threading.Semaphore(0), threading.Semaphore(0)

    def run(self) -> None:
        self._go.acquire()
        try:
            execute(
                self.request.folder,
                self.request.cache,
                self.request.trial,
                code_version=self.request.code_version,
                on_point=self._rest,
                trainer=self._trainer,
            )
        except RuntimeError as error:
            self.error = str(error)
        self._over = True
        self._rests.release()

    def _rest(self, point: EvalPoint) -> None:
        self._rests.release()
        self._go.acquire()
        if self._dies:
            raise DiedError("the driver died, and this with it")

    def die(self) -> None:
        """End where it rests, and free the run's lock."""
        self._dies = True
        self._go.release()
        self.join()

    def turn(self) -> bool:
        """One interval; returns whether the trial is over."""
        self._go.release()
        self._rests.acquire()
        if self._over:
            self.join()
        return self._over


class LockstepLauncher:
    """Keeps the promises of ``Launcher`` with as many slots as it is given."""

    def __init__(self, trainer: Trainer, slots: int = 2) -> None:
        self._trainer, self._slots = trainer, slots
        self._queue: deque[TrialRequest] = deque()
        self._live: list[_Trial] = []
        self.started: list[tuple[str, int]] = []
        self.turns = 0
        self.crash_at_turn: int | None = None
        self.on_turn: dict[int, Callable[[], object]] = {}

    def start(self, request: TrialRequest) -> None:
        self._queue.append(request)

    def over(self) -> list[TrialOver]:
        self.turns += 1
        self.on_turn.get(self.turns, lambda: None)()
        if self.turns == self.crash_at_turn:
            raise KeyboardInterrupt
        while self._queue and len(self._live) < self._slots:
            request = self._queue.popleft()
            self.started.append((request.label, request.trial))
            trial = _Trial(request, self._trainer)
            trial.start()
            self._live.append(trial)
        over = [trial for trial in self._live if trial.turn()]
        self._live = [trial for trial in self._live if trial not in over]
        return [TrialOver(t.request.run_id, t.request.trial, t.error) for t in over]

    def stop(self, run_id: str) -> None:
        raise AssertionError("every fake heeds its orders")

    def close(self) -> None:
        self._queue.clear()
        for trial in self._live:
            trial.die()


class AtOnce(Executor):
    """Runs what is submitted before it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future
