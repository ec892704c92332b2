"""What tells tasks from others: their prompt, and the conversation, files and world that they are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moevolve.errors import UsageError
from moevolve.protocol.messages import Message
from moevolve.tasks import folder
from moevolve.tasks.environment import Environment
from moevolve.tasks.task import Task


class Room(Environment):
    """A room."""


def world(**fields: Any) -> Task:
    return Task(prompt="Look.", environment=Room, fields=fields, skill="a/b", level=1, seed=7)


def test_a_task_is_what_it_asks() -> None:
    plain = Task(prompt="Look.", fields={"note": {1, 2}, "odd": object()})
    assert plain.identity == "Look."
    said = Task(prompt="Look.", messages=(Message("system", "x"), Message("user", "Look.")))
    assert len({plain.identity, said.identity, world(room=1).identity, world(room=2).identity}) == 4
    assert world(a=1, b=2).identity == world(b=2, a=1).identity


def test_keys_of_every_kind_name_a_world() -> None:
    assert world(doors={1: "a", (2, 3): "b"}).identity == world(doors={(2, 3): "b", 1: "a"}).identity
    assert world(doors={1: "a"}).identity != world(doors={2: "a"}).identity


@pytest.mark.parametrize(
    "odd", [object(), len, "\ud800", {1: 0, "1": 0}], ids=["object", "function", "surrogate", "keys"]
)
def test_a_world_that_json_cannot_hold_is_refused_with_its_task(odd: object) -> None:
    with pytest.raises(UsageError, match="task 'a/b/1/7' cannot be told from others by its fields"):
        _ = world(thing=[{"deep": odd}]).identity


@pytest.mark.parametrize("other", ["./one", "one/", "two/../one", ".//one"])
def test_files_have_one_name_however_they_are_written(other: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "files" / name).mkdir(parents=True)
        (tmp_path / "files" / name / "a.txt").write_text(name)
    rows = [
        {"id": f"t{n}", "prompt": "Fix it.", "answer": "x", "files": name}
        for n, name in enumerate(["one", other])
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match="tasks.jsonl:2: it asks what line 1 asks"):
        folder.load(tmp_path, "own")
