"""Trials one after another in this process: for tests, and for a debugger."""

from __future__ import annotations

from collections import deque

from scalerl_lab.errors import LabError
from scalerl_lab.launch.launcher import TrialOver, TrialRequest
from scalerl_lab.launch.worker import Trainer, execute


class InlineLauncher:
    """Executes a queued trial whenever it is asked what is over."""

    def __init__(self, trainer: Trainer | None = None) -> None:
        self._trainer = trainer
        self._queue: deque[TrialRequest] = deque()

    def start(self, request: TrialRequest) -> None:
        """Queue a trial."""
        self._queue.append(request)

    def over(self) -> list[TrialOver]:
        """Execute the next trial to its end, and say so."""
        if not self._queue:
            return []
        request = self._queue.popleft()
        error: str | None = None
        try:
            execute(
                request.folder,
                request.cache,
                request.trial,
                code_version=request.code_version,
                trainer=self._trainer,
            )
        except (LabError, RuntimeError, ValueError, OSError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        return [TrialOver(request.run_id, request.trial, error)]

    def stop(self, run_id: str) -> None:
        """Take a trial out of the queue; a running one has ended before this can be called."""
        self._queue = deque(request for request in self._queue if request.run_id != run_id)

    def close(self) -> None:
        """Forget the queue."""
        self._queue.clear()
