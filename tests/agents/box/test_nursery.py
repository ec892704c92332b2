"""A nursery that ends while boxes are wanted of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from boxed import Model, answers, boxes, command, host, tasks  # noqa: E402

from moevolve.agents.box.nursery import Nursery  # noqa: E402

pytestmark = boxes


def test_a_nursery_that_is_heard_to_be_gone_while_a_box_is_wanted_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner, start, seen = host(), Nursery.start, list[Nursery]()

    async def ending_once(self: Nursery) -> None:
        await start(self)
        if not seen:
            seen.append(self)
            self.close()

    monkeypatch.setattr(Nursery, "start", ending_once)
    assert answers(owner.solve(command(), tasks(1), Model(), None, [1])) == ["1"]
    seen.clear()

    async def ending_at_the_second(self: Nursery) -> None:
        await start(self)
        seen.append(self)
        if len(seen) == 2:
            self.close()

    monkeypatch.setattr(Nursery, "start", ending_at_the_second)
    assert answers(owner.solve(command(), tasks(1), Model(), None, [1])) == ["1"]
