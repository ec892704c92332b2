"""What an attempt recalls and gives memory travels in its outcome, metered, and the same from a function as from a box."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from boxed import Model, boxes, command, host, tasks  # noqa: E402

from moevolve.agents.box.host import BoxHost  # noqa: E402
from moevolve.agents.box.records import Records  # noqa: E402
from moevolve.agents.host import ProgramHost  # noqa: E402
from moevolve.config import RolesSection  # noqa: E402
from moevolve.config.roles import RoleSection  # noqa: E402
from moevolve.protocol.requests import Note, PublicTask, RecallRequest  # noqa: E402
from moevolve.records import Lesson  # noqa: E402

TASK = PublicTask(prompt="rev:ab=", skill="text/reverse")


def lessons(request: RecallRequest) -> list[Lesson]:
    common = {"skill": request.skill, "level": 1, "prompt": "", "answer": "", "success": False, "run": "r"}
    return [
        Lesson(id=f"l{rank}", text=f"{request.query} {rank}", cycle=1, variant="", **common)  # type: ignore[arg-type]
        for rank in range(request.k)
    ]


def test_what_was_recalled_and_given_is_in_the_outcome_in_order(program):
    genome = program(
        """
first = await agent.recall("x", k=2, kinds=["tool"], words=0.25, confidence=0.5)
kept, _ = await agent.gather(agent.remember("one"), agent.remember("two", kind="tool"))
second = await agent.recall("y", k=1)
return f"{first[1].text} {second[0].kind} {kept} {agent.budget.requests}"
"""
    )
    asked: list[RecallRequest] = []

    def recall(request: RecallRequest) -> list[Lesson]:
        asked.append(request)
        return lessons(request)

    [outcome] = ProgramHost().solve(genome, [TASK], lambda requests: [], recall, [1])
    assert outcome.answer == "x 1 fact True 92"
    assert outcome.requests == 4
    assert outcome.recalled == (("l0", "l1"), ("l0",))
    assert outcome.notes == (Note(text="one", kind="procedure"), Note(text="two", kind="tool"))
    first, second = asked
    assert (first.kinds, first.words, first.vector, first.confidence) == (("tool",), 0.25, None, 0.5)
    assert "failure" not in second.kinds and first.key != second.key


def test_without_memory_a_program_is_told_that_its_text_goes_nowhere(program):
    genome = program('return f\'{await agent.remember("x")} {await agent.recall("x")}\'')
    [outcome] = ProgramHost().solve(genome, [TASK], lambda requests: [], None, [1])
    assert (outcome.answer, outcome.notes, outcome.recalled) == ("False []", (), ())


def test_an_attempt_gives_as_many_texts_as_its_role_allows(program):
    genome = program(
        """
given = 0
try:
    for number in range(9):
        await agent.gather(agent.remember(f"a{number}"), agent.remember(f"b{number}"))
        given += 2
except Exception as error:
    return f"{given} {type(error).__name__} {error}"
"""
    )
    role = RoleSection(notes=5)
    [outcome] = ProgramHost(RolesSection(solver=role)).solve(
        genome, [TASK], lambda requests: [], lessons, [1]
    )
    assert outcome.answer is not None and outcome.answer.startswith("4 BudgetExceeded")
    assert "roles.solver.notes allows 5" in outcome.answer
    assert [note.text for note in outcome.notes] == ["a0", "b0", "a1", "b1", "a2"]


def test_an_improver_gives_memory_nothing() -> None:
    assert (RolesSection().improver.notes, RolesSection().learner.notes) == (0, 0)


@boxes
@pytest.mark.parametrize("again", [False, True], ids=["run", "heard again"])
def test_a_boxed_agent_has_the_same_memory(tmp_path: Path, again: bool) -> None:
    script = """
import http.client, json
def post(name, **arguments):
    door = http.client.HTTPConnection("127.0.0.1", 8000)
    door.request("POST", f"/v1/agent/{name}", json.dumps(arguments), {"content-type": "application/json"})
    return json.loads(door.getresponse().read())["value"]
told = post("recall", query="q", k=2)
print(post("remember", text="boxes are metered", kind="tool"), told[1][5])
"""
    file = tmp_path / "attempts"
    boxed = host()
    boxed.boxes = BoxHost(Records(file))
    outcomes = boxed.solve(command(script), tasks(1), Model(), lessons, [1])
    if again:
        boxed.boxes = BoxHost(Records(file))
        outcomes = boxed.solve(command(script), tasks(1), Model(), lessons, [1])
    [outcome] = outcomes
    assert (outcome.answer, outcome.failure) == ("True q 1", None), outcome
    assert outcome.recalled == (("l0", "l1"),)
    assert outcome.notes == (Note(text="boxes are metered", kind="tool"),)
    assert outcome.requests == 2


@boxes
def test_a_boxed_attempt_without_memory_is_another_attempt(tmp_path: Path) -> None:
    script = """
import http.client, json
door = http.client.HTTPConnection("127.0.0.1", 8000)
door.request("POST", "/v1/agent/recall", json.dumps({"query": "q"}), {"content-type": "application/json"})
print(len(json.loads(door.getresponse().read())["value"]))
"""
    boxed = host()
    boxed.boxes = BoxHost(Records(tmp_path / "attempts"))
    answers = [
        boxed.solve(command(script), tasks(1), Model(), recall, [1])[0].answer for recall in (lessons, None)
    ]
    assert answers == ["4", "0"]
