"""Worker processes of an evaluator: which evaluation runs where, and which is ready; nothing here decides what is next."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

from moevolve.records import Sandbox
from moevolve.tasks.evaluators.folder import EvaluatorFolder
from moevolve.tasks.evaluators.process import EvaluatorLimits, EvaluatorProcess
from moevolve.tasks.evaluators.verdict import Evaluation

TICK = 1.0
"""Seconds between two looks for a process that has broken."""


class Workers:
    """A number of warm processes, started as they are needed.

    Args:
        folder: the evaluator.
        limits: of each evaluation.
        most: how many there may be; as many as the machine has cores when None.
    """

    def __init__(self, folder: EvaluatorFolder, limits: EvaluatorLimits, most: int | None) -> None:
        self._idle = [EvaluatorProcess(folder, limits) for _ in range(most or os.cpu_count() or 1)]
        self._busy: dict[int, tuple[EvaluatorProcess, int]] = {}
        self.sandbox: Sandbox | None = None
        """The layers around evaluations; None before the first."""

    @property
    def free(self) -> bool:
        """Whether one more evaluation would begin at once."""
        return bool(self._idle)

    @property
    def warm(self) -> bool:
        """Whether the process of the next evaluation runs already; there has to be a free one."""
        return self._idle[-1].running

    @property
    def busy(self) -> bool:
        return bool(self._busy)

    @property
    def filenos(self) -> list[int]:
        """Descriptors of which one is readable once an evaluation has ended."""
        return list(self._busy)

    @property
    def cpu(self) -> float:
        """Processor seconds of the evaluations, and of the processes that they are forks of."""
        workers = [*self._idle, *(worker for worker, _ in self._busy.values())]
        return sum(worker.cpu + worker.own_cpu for worker in workers)

    def begin(self, evaluation: int, program: str, key: int) -> None:
        """Begins an evaluation; errors as of the process's start."""
        worker = self._idle.pop()
        worker.submit(program, key)
        self.sandbox = worker.sandbox
        self._busy[worker.fileno()] = worker, evaluation

    def ended(self, *, wait: bool = True) -> Iterator[tuple[int, Evaluation]]:
        """Waits until an evaluation has ended, unless `wait` is False; yields (its number, what came of it) of all that
        have."""
        while True:
            ready = select.select(self.filenos, [], [], TICK if wait else 0)[0]
            ready += [
                each for each, (worker, _) in self._busy.items() if worker.overdue() and each not in ready
            ]
            if ready or not wait:
                break
        for descriptor in ready:
            worker, evaluation = self._busy.pop(descriptor)
            found = worker.result()
            self._idle.append(worker)
            yield evaluation, found

    def close(self) -> None:
        """Ends all processes, evaluations under way included."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            worker.close()
        self._busy.clear()
