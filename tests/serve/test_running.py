"""What a server holds for as long as it runs, and how often it tells a request of what was drawn."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from moevolve.models.engine import Engine
from moevolve.protocol.sampling import Drawn, Event
from moevolve.serve import running
from moevolve.serve.driver import GAP, RequestHandle
from moevolve.serve.limits import Limits

OPTIONS = running.Options(
    model=None,
    name=None,
    follow=False,
    program=False,
    host="127.0.0.1",
    port=0,
    tokens=None,
    learn=None,
    learn_every=None,
    keep=1,
    hidden=frozenset(),
    slots=1,
    memory=None,
    device="cpu",
    threads=1,
    speculate=0,
    ignore_unknown=False,
    seed=None,
    limits=Limits(),
)


def test_weights_that_are_replaced_leave_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though a model and what renders its conversations know each other, and the collector is spared much."""
    seen: list[weakref.ref[Engine]] = []

    async def serve(options: Any, source: Any, *others: Any) -> bool:
        assert source.engine is not None
        source.engine.__dict__["chats"] = [source.engine]
        seen.append(weakref.ref(source.engine))
        return False

    monkeypatch.setattr(running, "_serve", serve)
    try:
        running.run(OPTIONS, lambda text: None, lambda told: None)
        spared = gc.get_freeze_count()
        gc.collect()
        assert seen[0]() is None and spared > 0
    finally:
        gc.unfreeze()


class Clock:
    """A loop whose time is set; what it was asked to call waits here."""

    def __init__(self) -> None:
        self.now = 5.0
        self.calls: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Any) -> Clock:
        self.calls.append((when, call))
        return self

    def cancel(self) -> None:
        """As of the handle of a call."""


def test_one_fast_sample_is_told_of_at_once_then_after_a_while_then_at_its_end() -> None:
    clock = Clock()
    handle = RequestHandle(1, clock)  # type: ignore[arg-type]
    rung: list[float] = []
    handle._news.set = lambda: rung.append(clock.now)  # type: ignore[method-assign]
    for number in range(8):
        clock.now = 5.0 + number * GAP / 4
        due = [call for when, call in clock.calls if when <= clock.now]
        clock.calls = [(when, call) for when, call in clock.calls if when > clock.now]
        for call in due:
            call()
        handle.hear([Event(1, 0, (Drawn(1, -0.5),), "length" if number == 7 else None)], GAP)
    assert rung == [5.0, 5.0 + GAP, 5.0 + 7 * GAP / 4]
    assert handle.done
