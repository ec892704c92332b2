"""Workspaces that are too large for the record: a second run makes them again, and what none can make is no answer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from boxed import ASK, Model, boxes, command, host, tasks  # noqa: E402

from moevolve.agents.box import conversation  # noqa: E402
from moevolve.agents.box.host import BoxHost  # noqa: E402
from moevolve.agents.box.records import Records, Repeats  # noqa: E402
from moevolve.agents.box.workspace import take  # noqa: E402
from moevolve.agents.genome import Genome  # noqa: E402
from moevolve.protocol.requests import Outcome  # noqa: E402

pytestmark = boxes

AGENT = command(f"{ASK}\nopen('left', 'w').write('x' * 100)\nprint(say(sys.stdin.read()))\n")
OTHER = command(
    f"{ASK}\nopen('left', 'w').write('x' * 100)\nprint(say(sys.stdin.read()), os.urandom(8).hex())\n"
)


@pytest.fixture(autouse=True)
def small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace of 100 bytes is too large for the record."""
    monkeypatch.setattr(conversation, "MOST_WORKSPACE", 99)


def solved(agent: Genome, records: Records, model: Model) -> tuple[Outcome, bytes | None]:
    made = host()
    made.boxes = BoxHost(records)
    [outcome] = made.solve(agent, tasks(1), model, None, [1], workspaces=True)
    made.boxes.close()
    workspace = take(outcome.workspace)
    left = None if workspace is None else workspace.read("left", 100)
    if workspace is not None:
        workspace.close()
    return outcome, left


def test_an_attempt_of_a_run_that_goes_on_is_made_again_for_its_workspace(tmp_path: Path) -> None:
    asked, again = Model(), Model()
    first, left = solved(AGENT, Records(tmp_path / "run"), asked)
    second, same = solved(AGENT, Records(tmp_path / "run"), again)
    assert (first.answer, second.answer, left, same) == ("1", "1", b"x" * 100, b"x" * 100)
    assert [each.key for each in again.asked] == [each.key for each in asked.asked]
    assert (first.tokens, first.requests) == (second.tokens, second.requests)


def test_one_that_ends_otherwise_says_nothing_about_its_agent(tmp_path: Path) -> None:
    solved(OTHER, Records(tmp_path / "run"), Model())
    outcome, left = solved(OTHER, Records(tmp_path / "run"), Model())
    assert (outcome.answer, outcome.failure, left) == (None, "infrastructure", None)
    assert "its workspace is not on record" in outcome.detail
    assert "it ended otherwise: with another answer" in outcome.detail
    assert (outcome.requests, outcome.tokens) == (1, 2)


@pytest.mark.parametrize("execute", [True, False], ids=["replay", "regrade"])
def test_a_replay_counts_by_name_what_it_cannot_judge(execute: bool, tmp_path: Path) -> None:
    solved(AGENT, Records(tmp_path / "run"), Model())
    repeats = Repeats(execute=execute)
    outcome, left = solved(AGENT, Records(tmp_path / "again", tmp_path / "run", repeats), Model())
    if execute:
        assert (repeats.executed, repeats.graded, outcome.answer, left) == (1, 0, "1", b"x" * 100)
    else:
        assert (repeats.executed, repeats.reasons, outcome.failure) == (
            0,
            {conversation.UNKEPT: 1},
            "infrastructure",
        )
