"""An agent of somebody's own, through the real sandbox: modules in folders, prompts as files, conversations as tasks."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.agents.genome import Genome, seed_genome
from moevolve.agents.host import ProgramHost
from moevolve.protocol.completion import Completion
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import GenerateRequest, PublicTask

SOLVE = """
import helpers
from helpers.text import last
from helpers import numbers

async def solve(task, agent):
    system = {"role": "system", "content": agent.files["prompts/system.md"]}
    answer = await agent.generate([system, *task.messages], temperature=0, max_tokens=8)
    return f"{last(answer.text)}/{numbers.ONE}/{task.skill}"
"""
FILES = {
    "solve.py": SOLVE,
    "helpers/__init__.py": "HERE = True",
    "helpers/text.py": "def last(text):\n    return text.split()[-1]\n",
    "helpers/numbers.py": "ONE = 1",
    "prompts/system.md": "Be brief: é",
}


def agent(**changes: str) -> Genome:
    return Genome(
        files=seed_genome().files | FILES | {key.replace("__", "/"): text for key, text in changes.items()}
    )


def test_modules_prompts_and_conversations_reach_the_program(host: ProgramHost) -> None:
    seen: list[GenerateRequest] = []

    def answer(requests: Sequence[GenerateRequest]) -> list[list[Completion]]:
        seen.extend(requests)
        return [[Completion("It is 42", [1], [0.0], "stop")] for _ in requests]

    turns = (
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Yes?"),
        Message(role="user", content="2?"),
    )
    tasks = [
        PublicTask(prompt="2?", skill="my/eval", messages=turns),
        PublicTask(prompt="3?", skill="my/eval"),
    ]
    outcomes = host.solve(agent(), tasks, answer, None, [1, 2])
    assert [outcome.answer for outcome in outcomes] == ["42/1/my/eval"] * 2
    system = Message(role="system", content="Be brief: é")
    assert [request.prompt for request in seen] == [
        (system, *turns),
        (system, Message(role="user", content="3?")),
    ]


def test_a_module_of_the_library_cannot_be_made_of_a_prompt(host: ProgramHost) -> None:
    [outcome] = host.solve(
        agent(**{"solve.py": "import prompts.system\nasync def solve(task, agent): return ''"}),
        [PublicTask(prompt="x", skill="a/b")],
        lambda requests: [],
        None,
        [1],
    )
    assert outcome.failure == "error" and "No module named 'prompts'" in outcome.detail
