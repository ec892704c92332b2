"""A lock between the thread that reads and the one that draws, in which drawing never waits for more than one piece."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Mutual exclusion with two ranks: whoever draws is next, however long the queue of what is to be read."""

    def __init__(self) -> None:
        self._next = threading.Lock()
        self._data = threading.RLock()
        self._reading = threading.Lock()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """The turn of the thread that draws; it may be taken again inside."""
        with self._next:
            self._data.acquire()
        try:
            yield
        finally:
            self._data.release()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The turn of the thread that reads: one piece."""
        with self._reading:
            with self._next:
                self._data.acquire()
            try:
                yield
            finally:
                self._data.release()
