"""Evaluations that end while a program is proposed: a thread hears of them, so that each is kept at once."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from types import TracebackType

from moevolve.loop.optimise.workers import TICK, Workers


class Hearing:
    """A time in which whatever ends is kept; nobody else uses the pool or the results meanwhile.

    Args:
        pool: where evaluations run.
        keep: keeps what has ended so far; its errors are raised at the end of that time.
    """

    def __init__(self, pool: Workers, keep: Callable[[], None]) -> None:
        self._pool = pool
        self._keep = keep
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._hear, name="moevolve-hearing", daemon=True)

    def __enter__(self) -> None:
        self._over, self._say = os.pipe()
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._say)
        self._thread.join()
        os.close(self._over)
        if self._error is not None and error is None:
            raise self._error

    def _hear(self) -> None:
        try:
            while self._over not in select.select([self._over, *self._pool.filenos], [], [], TICK)[0]:
                self._keep()
        except Exception as error:  # noqa: BLE001  it is raised where it can be heard
            self._error = error
