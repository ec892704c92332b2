"""Operators on what the model is told beside a task: solved examples from memory, a persona by kind of task, a checklist.

Each puts a layer around `solve` that hands the old one an agent whose requests say more: they fit any agent that computes,
and on top of each other.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from random import Random

from moevolve.agents.brief import Success
from moevolve.proposers.operators.operator import Change, Inapplicable, parsed, put, span
from moevolve.proposers.operators.structure import FILE, wrapped

TELLING = '''

class Telling:
    """An agent that tells the model something more with each request."""

    def __init__(self, agent, text):
        self._agent = agent
        self._text = text

    def __getattr__(self, name):
        return getattr(self._agent, name)

    async def generate(self, prompt, **settings):
        if isinstance(prompt, str):
            prompt = f"{self._text}\\n\\n{prompt}"
        elif prompt and prompt[0]["role"] == "system":
            first = {**prompt[0], "content": f"{prompt[0]['content']}\\n\\n{self._text}"}
            prompt = [first, *prompt[1:]]
        else:
            prompt = [{"role": "system", "content": self._text}, *prompt]
        return await self._agent.generate(prompt, **settings)
'''

MEMORY = """

async def solve(task, agent):
    lessons = [each for each in await agent.recall(task.prompt, k={count}) if each.success]
    shown = "\\n\\n".join(
        f"Question: {{each.prompt}}\\nAnswer: {{each.answer}}" if each.prompt else each.text for each in lessons
    )
    return await {inner}(task, Telling(agent, f"Solved before:\\n\\n{{shown}}") if lessons else agent)
"""

PERSONA = """

PERSONAS = {{{skill!r}: {text!r}}}


async def solve(task, agent):
    persona = PERSONAS.get(task.skill)
    return await {inner}(task, Telling(agent, persona) if persona else agent)
"""

CHECKLIST = """

CHECKLIST = [{line!r}]


async def solve(task, agent):
    points = "\\n".join(f"- {{point}}" for point in CHECKLIST)
    return await {inner}(task, Telling(agent, f"Before you answer, see to this:\\n{{points}}"))
"""

WAYS = (
    "You are a careful specialist in {skill}. You work out the result before you state it.",
    "You are an expert in {skill} who answers briefly and exactly.",
    "You are a strict examiner in {skill}: you check every step and give the result alone.",
)
POINTS = (
    "Read the question twice.",
    "Answer in the form that the question asks for.",
    "Check the result by working it out another way.",
    "Give the result alone, without a sentence around it.",
    "Leave nothing out that the question names.",
    "Keep names, numbers and units as they are written.",
)
MOST_POINTS = 12


def remember(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Shows the model solved examples that memory has for the task."""
    count = rng.choice((1, 2, 4))
    text = telling(files)
    summary = f"show {count} solved task{'s' * (count != 1)} from memory"
    return wrapped({**files, FILE: text}, MEMORY, summary, count=count)


def persona(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Gives the model a persona for one kind of task, or another one."""
    skills = sorted({each.skill for each in known})
    if not skills:
        raise Inapplicable("no kind of task is known yet")
    skill = rng.choice(skills)
    text = rng.choice(WAYS).format(skill=" ".join(skill.replace("_", " ").split("/")))
    summary = f"a persona for {skill}"
    source = telling(files)
    table = _assigned(source, "PERSONAS", ast.Dict)
    if table is None:
        return wrapped({**files, FILE: source}, PERSONA, summary, skill=skill, text=text)
    personas = _literal(table) | {skill: text}
    return Change(FILE, put(source, span(source, table), repr(personas)), f"{FILE}: {summary}")


def checklist(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Adds a point to the checklist that the model is told to go by."""
    source = telling(files)
    table = _assigned(source, "CHECKLIST", ast.List)
    there = [] if table is None else list(_literal(table))
    new = [point for point in POINTS if point not in there]
    if not new or len(there) >= MOST_POINTS:
        raise Inapplicable("the checklist is complete")
    line = rng.choice(new)
    summary = f"point {len(there) + 1} of a checklist: {line}"
    if table is None:
        return wrapped({**files, FILE: source}, CHECKLIST, summary, line=line)
    return Change(FILE, put(source, span(source, table), repr([*there, line])), f"{FILE}: {summary}")


def telling(files: Mapping[str, str]) -> str:
    """`solve.py` with the class that layers share.

    Raises:
        Inapplicable: there is no `solve.py` that is Python.
    """
    text = files.get(FILE)
    tree = parsed(text) if text is not None else None
    if text is None or tree is None:
        raise Inapplicable(f"there is no {FILE}")
    known = any(isinstance(node, ast.ClassDef) and node.name == "Telling" for node in tree.body)
    return text if known else text.rstrip("\n") + "\n" + TELLING


def _assigned(text: str, name: str, kind: type[ast.expr]) -> ast.expr | None:
    """The value that a module gives a name, where it is a literal of this kind."""
    tree = parsed(text)
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, kind):
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id == name and _literal(node.value) is not None:
                return node.value
    return None


def _literal(node: ast.expr):  # type: ignore[no-untyped-def]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
