"""Files of a task that its attempt's workspace cannot hold: that attempt fails by name, and no other does."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from boxed import ASK, Model, boxes, command, host, tasks  # noqa: E402

pytestmark = boxes

AGENT = command(f"{ASK}\nprint(say(sys.stdin.read()))\n")


@pytest.mark.parametrize(
    "files",
    [(("large", b"x" * (65 << 20)),), tuple((f"f{n}", b"") for n in range(20_000))],
    ids=["bytes", "names"],
)
def test_files_beyond_the_workspace_are_the_limit_of_that_attempt_alone(
    files: tuple[tuple[str, bytes], ...],
) -> None:
    first, second = tasks(2)
    crowded = msgspec.structs.replace(first, files=files)
    outcomes = host().solve(AGENT, [crowded, second], Model(), None, [1, 2])
    assert (outcomes[0].failure, outcomes[1].failure) == ("limit", None)
    assert "limits.workspace_mb = 64" in outcomes[0].detail


def test_a_folder_where_the_file_with_the_task_belongs_is_the_limit_of_that_attempt_alone() -> None:
    first, second = tasks(2)
    mixed = msgspec.structs.replace(first, files=(("task.txt/a", b"x"),))
    agent = command(f"{ASK}\nprint(say(open('task.txt').read()))\n", task="file:task.txt")
    outcomes = host().solve(agent, [mixed, second], Model(), None, [1, 2])
    assert (outcomes[0].failure, outcomes[1].failure) == ("limit", None)
    assert "has a folder 'task.txt', where the file with the task belongs" in outcomes[0].detail
