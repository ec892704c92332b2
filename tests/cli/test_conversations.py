"""Tasks that are conversations: everybody who answers one is asked all of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from command_line import Command  # noqa: E402
from rooms import conversations  # noqa: E402
from scripted_endpoint import ScriptedEndpoint, running  # noqa: E402

from moevolve.config import Config  # noqa: E402
from moevolve.loop import resolve  # noqa: E402
from moevolve.loop.endpoint import settled  # noqa: E402
from moevolve.loop.estimate.endpoint import estimate  # noqa: E402
from moevolve.loop.estimate.work import question_tokens  # noqa: E402
from moevolve.models.checkpoint import seed_checkpoint  # noqa: E402
from moevolve.models.engine import Engine  # noqa: E402
from moevolve.models.prompts import BarePrompts  # noqa: E402
from moevolve.tasks import folder  # noqa: E402
from moevolve.tasks.splits import SPLITS  # noqa: E402

ROOMS = 30


class Porter(ScriptedEndpoint):
    """Knows the room that the conversation begins with, and nothing else."""

    def reply(self, body: dict[str, Any]) -> str:
        told = re.match(r"The room is (\d+)\.", body["messages"][0]["content"])
        return told[1] if told else "?"


@pytest.fixture
def porter() -> Iterator[Porter]:
    with running(Porter()) as server:
        yield server


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    path = tmp_path / "rooms"
    path.mkdir()
    (path / "tasks.jsonl").write_text("".join(f"{json.dumps(task)}\n" for task in conversations(ROOMS)))
    return path


def test_the_bare_policy_and_the_seed_are_asked_the_whole_conversation(
    rooms: Path, porter: Porter, moevolve: Command
) -> None:
    done = moevolve("eval", "rooms", "--endpoint", porter.url, "--model", "m", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["agent"]["score"], told["bare"]["score"]) == (1.0, 1.0)
    assert all(len(body["messages"]) == 2 for body in porter.seen)


def test_splits_follow_the_conversation_and_the_secret_not_the_order_of_lines(rooms: Path) -> None:
    suite = folder.load(rooms)
    homes = []
    for secret in (b"a" * 16, b"b" * 16):
        keyed = suite.keyed(secret)
        split = {
            keyed.task("rooms/tasks", 1, index).answer: name
            for name in SPLITS
            for index in keyed["rooms/tasks"].listed.homes[1][name]  # type: ignore[union-attr]
        }
        homes.append(split)
    assert homes[0] != homes[1]
    lines = (rooms / "tasks.jsonl").read_text().splitlines(keepends=True)
    (rooms / "tasks.jsonl").write_text("".join(reversed(lines)))
    again = folder.load(rooms).keyed(b"a" * 16)
    assert homes[0] == {
        again.task("rooms/tasks", 1, index).answer: name
        for name in SPLITS
        for index in again["rooms/tasks"].listed.homes[1][name]  # type: ignore[union-attr]
    }


def test_who_lists_tasks_sees_conversations_and_files(rooms: Path, moevolve: Command) -> None:
    told = json.loads(moevolve("tasks", "rooms", "--json").stdout)["tasks"]
    assert all([each["role"] for each in task["messages"]] == ["system", "user"] for task in told)
    assert "(after 1 message) Which room?" in moevolve("tasks", "rooms").stdout


def test_an_estimate_counts_the_whole_conversation(rooms: Path) -> None:
    on = {"policy.endpoint": "http://127.0.0.1:9/v1", "policy.model": "m", "suite.path": str(rooms)}
    short = estimate(settled(resolve.with_files(Config.load("small", on))))
    text = (rooms / "tasks.jsonl").read_text()
    (rooms / "tasks.jsonl").write_text(text.replace("The room is", f"{'Mind the step. ' * 200}The room is"))
    long = estimate(settled(resolve.with_files(Config.load("small", on))))
    assert long.tokens - short.tokens == 200 * len("Mind the step. ") // 3


def test_a_model_without_a_template_is_measured_by_the_last_text(rooms: Path) -> None:
    engine = Engine.load(seed_checkpoint(), threads=1)
    prompts, task = BarePrompts(engine), folder.load(rooms).draw("train", "rooms/tasks", 1)
    assert question_tokens(engine, prompts, task) == prompts.ask(task.prompt)
