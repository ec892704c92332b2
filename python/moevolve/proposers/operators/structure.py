"""Operators on how an answer comes about: several attempts and a vote, another try, a second look."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from random import Random

from moevolve.agents.brief import Success
from moevolve.proposers.operators.operator import Change, Inapplicable, lines_of, parsed

FILE = "solve.py"
MOST = 4
"""Layers around the first `solve`; each multiplies what an answer costs."""
SAMPLES = (3, 5)

VOTE = """

async def solve(task, agent):
    answers = [await {inner}(task, agent) for _ in range({samples})]
    return max(answers, key=answers.count)
"""

RETRY = """

async def solve(task, agent):
    answer = ""
    for _ in range({samples}):
        try:
            answer = await {inner}(task, agent)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            continue
        if answer.strip():
            break
    return answer
"""

REVISE = """

async def solve(task, agent):
    answer = await {inner}(task, agent)
    asked = f"Your answer was: {{answer}}\\nCheck it. Give the right answer alone, the same one if it was right."
    messages = [*task.messages, {{"role": "assistant", "content": answer}}, {{"role": "user", "content": asked}}]
    second = await agent.generate(messages, temperature=0)
    return second.text.strip() or answer
"""


PLAN = """def solve(task):
    return dispatch(task) if task.verb in ROUTES else {expression}
"""
"""Of a program of plans: tasks without a route of their own."""


def vote(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """The most frequent answer of several attempts; worth something where they differ."""
    samples = rng.choice(SAMPLES)
    summary = f"the most frequent of {samples} answers"
    if _plans(files):
        return _planned(files, f"plan.vote(task.prompt, samples={samples}, temperature=0.7)", summary)
    return wrapped(files, VOTE, summary, samples=samples)


def retry(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Another try where an attempt fails, or says nothing."""
    samples = rng.choice(SAMPLES)
    summary = f"up to {samples} tries until there is an answer"
    if _plans(files):
        return _planned(files, f"plan.retry(task.prompt, samples={samples})", summary)
    return wrapped(files, RETRY, summary, samples=samples)


def recall(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Solved examples from memory before the question, in a program of plans."""
    if not _plans(files):
        raise Inapplicable("the program has no plans; its prompts can show examples")
    count = rng.choice((1, 2, 4))
    expression = f"plan.ask(plan.lessons({count}) + task.prompt)"
    return _planned(files, expression, f"show {count} solved task{'s' * (count != 1)} from memory")


def revise(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """A second look: the model sees its answer and may give another."""
    return wrapped(files, REVISE, "let the model check its answer")


def _plans(files: Mapping[str, str]) -> bool:
    """Whether `solve.py` returns plans, by a table of routes, as the seed's does."""
    tree = parsed(files.get(FILE, ""))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} if tree else set()
    return {"solve", "dispatch"} <= names and "ROUTES" in files[FILE]


def _planned(files: Mapping[str, str], expression: str, summary: str) -> Change:
    """`solve.py` with another plan for tasks that have no route."""
    text = files[FILE]
    tree = parsed(text)
    assert tree is not None, "it has been parsed before"
    solve = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "solve")
    lines = lines_of(text)
    lines[solve.lineno - 1 : solve.end_lineno] = [PLAN.format(expression=expression)]
    return Change(FILE, "".join(lines), f"{FILE}: {summary}")


def wrapped(files: Mapping[str, str], layer: str, summary: str, **values: object) -> Change:
    """`solve.py` with its `solve` under another name and a new one around it; `values` fill the layer's places.

    Raises:
        Inapplicable: there is nothing to put a layer around, or there are many already.
    """
    text = files.get(FILE)
    tree = parsed(text) if text is not None else None
    if text is None or tree is None:
        raise Inapplicable(f"there is no {FILE}")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.AsyncFunctionDef)}
    names = [name for name in functions if name.startswith("solve_")]
    if "solve" not in functions or len(names) >= MOST:
        raise Inapplicable("there is no `async def solve`, or it has many layers already")
    inner = next(name for number in range(1, MOST + 2) if (name := f"solve_{number}") not in functions)
    lines = lines_of(text)
    head = functions["solve"].lineno - 1
    renamed = lines[head].replace("def solve(", f"def {inner}(", 1)
    if renamed == lines[head]:
        raise Inapplicable("`async def solve(` does not stand in one line")
    lines[head] = renamed
    new = "".join(lines).rstrip("\n") + "\n" + layer.format(inner=inner, **values)
    if parsed(new) is None:
        raise Inapplicable("the layer does not fit this source")
    return Change(FILE, new, f"{FILE}: {summary}")
