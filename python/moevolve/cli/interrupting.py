"""Native work that Ctrl-C can leave: it runs beside the main thread, which alone hears of signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")

HEARS = 0.2
"""Seconds between looks for a signal: one that comes just before a wait, or to another thread, does not end the wait."""


def interruptible(work: Callable[[], Result]) -> Result:
    """Runs `work`, so that Ctrl-C is heard at once although the work itself goes on to its end."""
    done: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is wanted
            failed.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(HEARS)
    if failed:
        raise failed[0]
    return done[0]


def begun(items: Iterator[Result]) -> Iterator[Result]:
    """The items of a draw, of which the first takes longest: the whole prompt is read before it."""
    first = interruptible(lambda: [item for _, item in zip(range(1), items, strict=False)])
    yield from first
    if first:
        yield from items
