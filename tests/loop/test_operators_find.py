"""Evolution without a model that proposes: from an agent that calls a tool and has no other habit, each of four is found."""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from scripted_endpoint import ScriptedEndpoint, running  # noqa: E402

from moevolve.config import Config  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.loop.run import start  # noqa: E402
from moevolve.loop.variants import genome_in  # noqa: E402
from moevolve.records import Evaluated, Gated, VariantAdded  # noqa: E402

AGENT = """async def solve(task, agent):
    messages = [*task.messages]
    answer = await agent.generate(messages, temperature=0, tools=await agent.tools("calculate"))
    for call in answer.tool_calls:
        told = await agent.call(call.name, **call.arguments)
        messages += [answer.message(), {"role": "tool", "tool_call_id": call.id, "content": str(told)}]
        answer = await agent.generate(messages, temperature=0)
    return answer.text.strip()
"""
TOOLS = """def calculate(operation: str, first: int, second: int) -> int:
    \"\"\"The sum or the product of two numbers.\"\"\"
    return first + second if operation == "sum" else first * second
"""
TASKS = 1500


def write_suite(folder: Path) -> None:
    """Sums and products, for which there is a tool."""
    folder.mkdir()
    rng = Random(5)
    with (folder / "tasks.jsonl").open("w") as file:
        for operation in ("sum", "product"):
            for number in range(TASKS):
                first, second = rng.randrange(1000, 10_000), number
                value = first + second if operation == "sum" else first * second
                task = {"prompt": f"{operation} of {first} and {second}", "answer": str(value)}
                file.write(
                    json.dumps({"id": f"{operation}-{number}", "skill": f"number/{operation}s", **task})
                    + "\n"
                )
    (folder / "tools.py").write_text(TOOLS)


def said(body: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in body["messages"])


def question(body: dict[str, Any]) -> str:
    """The newest question of the conversation that is a task."""
    users = [message["content"] for message in body["messages"] if message["role"] == "user"]
    return next(text for text in reversed(users) if re.search(r"\bof \d+ and \d+", text))


def luck(body: dict[str, Any], share: float) -> bool:
    return zlib.crc32(question(body).encode()) % 1000 < 1000 * share


def remembers(body: dict[str, Any]) -> bool:
    """Knows more with solved examples before it."""
    return luck(body, 0.9 if "Solved before:" in said(body) else 0.3)


def looks_again(body: dict[str, Any]) -> bool:
    """Is right when it is asked to check its answer."""
    return luck(body, 0.9 if "Check it." in said(body) else 0.3)


def is_told_who_it_is(body: dict[str, Any]) -> bool:
    """Works better as a specialist in the kind of task at hand."""
    kind = "sums" if question(body).startswith("sum") else "products"
    told = any(message["role"] == "system" and kind in message["content"] for message in body["messages"])
    return luck(body, 0.9 if told else 0.3)


def goes_by_points(body: dict[str, Any]) -> bool:
    """Gains with each point of a checklist, up to three."""
    points = said(body).count("\n- ")
    return luck(body, 0.2 + 0.25 * min(points, 3))


class Pupil(ScriptedEndpoint):
    """Has a tool do the arithmetic where it is offered one, and tells the result where a condition holds."""

    def __init__(self, knows: Callable[[dict[str, Any]], bool]) -> None:
        super().__init__()
        self.knows = knows

    def reply(self, body: dict[str, Any]) -> str:
        operation, first, second = asked(body)
        told = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        # It cannot calculate: what it does not have from the tool, or said before, it does not know.
        known = told or [m["content"] for m in body["messages"] if m["role"] == "assistant" and m["content"]]
        if not known:
            return "?"
        right = first + second if operation == "sum" else first * second
        off = int(known[-1]) - right
        assert off in (0, 1), "what it was told is the result, or what it made of that"
        return str(right if self.knows(body) else right + 1)

    def _said(self, body: dict[str, Any], **which: bool) -> bytes:
        answer = json.loads(super()._said(body, **which))
        if not body.get("tools"):
            return json.dumps(answer).encode()
        operation, first, second = asked(body)
        arguments = json.dumps({"operation": operation, "first": first, "second": second})
        function = {"name": body["tools"][0]["function"]["name"], "arguments": arguments}
        for choice in answer["choices"]:
            call = {"id": "call_a", "type": "function", "function": function}
            choice |= {"message": {"role": "assistant", "content": None, "tool_calls": [call]}}
            choice["finish_reason"] = "tool_calls"
        return json.dumps(answer).encode()


def asked(body: dict[str, Any]) -> tuple[str, int, int]:
    found = re.search(r"(sum|product) of (\d+) and (\d+)", question(body))
    assert found is not None
    return found[1], int(found[2]), int(found[3])


@pytest.mark.long
@pytest.mark.parametrize(
    ("knows", "found", "times"),
    [
        (remembers, "agent.recall(", 1),
        (looks_again, "Check it.", 1),
        (is_told_who_it_is, "PERSONAS", 1),
        (goes_by_points, "CHECKLIST", 2),
    ],
)
def test_a_habit_that_pays_is_found_and_promoted(
    knows: Callable[[dict[str, Any]], bool], found: str, times: int, tmp_path: Path
) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/solve.py").write_text(AGENT)
    write_suite(tmp_path / "suite")
    settings = {
        "suite.path": str(tmp_path / "suite"),
        "suite.sealed_per_cell": 16,
        "agent.path": str(tmp_path / "agent"),
        "evolve.proposers": ["operators"],
        "evolve.candidates": 12,
        "evolve.screen": 48,
        "selection.policy": "best",
        "attempts.tasks": 32,
        "gate.max_n": 192,
        "gate.confirm_n": 384,
        "policy.model": "pupil",
        "policy.max_tokens": 16,
        # Each call is on file before it is made: many at once wait for one disk.
        "endpoint.concurrency": 128,
    }
    with running(Pupil(knows)) as server:
        config = Config.load("small", settings | {"policy.endpoint": server.url})
        out = start(config.override(seed=12, arm="program", cycles=2 + times), tmp_path / "run")
    with RunStore.open(out) as store:
        records = [entry.record for entry in store.entries()]
        programs = {r.variant: r.program for r in records if isinstance(r, VariantAdded)}
        promoted = [r.candidate for r in records if isinstance(r, Gated) and r.decision == "promote"]
        sources = [genome_in(store, programs[variant]).files["solve.py"] for variant in promoted]
        seed = genome_in(store, programs["v0000"]).files["solve.py"]
    assert found not in seed
    called = sum(any(message["role"] == "tool" for message in body["messages"]) for body in server.seen)
    assert called > len(server.seen) / 3, "the policy works with what the suite's tool says"
    assert sum(found in source for source in sources) >= times, promoted
    before, *_, after = [r.score.mean for r in records if isinstance(r, Evaluated) and r.split == "sealed"]
    assert after > before + 0.1
    if found == "CHECKLIST":
        points = re.search(r"CHECKLIST = (\[.*?\])", sources[-1], re.S)
        assert points is not None
        assert len(eval(points[1])) >= 2, "the list has grown"
