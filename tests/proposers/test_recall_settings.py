"""What a program recalls is part of what evolves: settings of `agent.recall` move within values of their own."""

from __future__ import annotations

import ast
from random import Random

from moevolve.proposers.operators.parameters import RECALL, SETTINGS, setting

SOURCE = """
async def solve(task, agent):
    rng = agent.rng
    order = rng.choices("abc", k=3)
    lessons = await agent.recall(task.prompt, k=4, words=0.5, vector=0.5, trust=0.25, budget=2000, confidence=0.2)
    tools = await agent.tools("add", k=2)
    return (await agent.generate(f"{lessons}{task.prompt}", temperature=0.3)).text
"""


def settings(text: str) -> dict[tuple[str, str], object]:
    """(function, setting) -> its number."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return {
        (call.func.attr, word.arg): word.value.value
        for call in calls
        if isinstance(call.func, ast.Attribute)
        for word in call.keywords
        if word.arg is not None and isinstance(word.value, ast.Constant)
    }


def test_every_setting_of_a_recall_moves_and_no_other_number_does() -> None:
    before, moved = settings(SOURCE), set()
    for seed in range(200):
        change = setting({"solve.py": SOURCE}, [], Random(seed))
        after = settings(change.text)
        [name] = [name for name in before if before[name] != after[name]]
        values = RECALL[name[1]] if name[0] == "recall" else SETTINGS[name[1]]
        assert after[name] in values and type(after[name]) is type(before[name])
        moved.add(name)
    assert moved == {("recall", name) for name in RECALL} | {("generate", "temperature")}
