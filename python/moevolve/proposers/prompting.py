"""Prompts for a language model that writes edits: files with places for what a brief knows, which a program may have its
own versions of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Template

import msgspec

from moevolve.agents.brief import Brief, Failure
from moevolve.agents.genome import SELECTOR
from moevolve.proposers.answers import fence
from moevolve.proposers.rubric import criteria
from moevolve.protocol.messages import Message

FOLDER = "proposer/"
"""Where a program keeps its own versions, `proposer/rewrite.md` for instance: the way of improving is part of it."""
KINDS = ("rewrite", "edit", "reflect", "cross", "mend", "rubric")
CRITERIA = f"{FOLDER}criteria.md"
"""The rubric that grows."""
SHOWN = 8
"""Failures and successes that are shown where there is room."""
LONGEST = 400
"""Characters of one text of an attempt."""

_ALONE = re.compile(r"^\$(\w+)\n+", re.M)
"""A place that has a paragraph to itself."""

POLICY_RULES = """solve(task) runs once a skill and returns a plan made with the module `plan`: ask, vote, verify...
task.payload and task.prompt are opaque: no if, len, == or loop over them; use .cut(size, at, above=), .each(f),
.backwards(), .join(), .one_by_one(first, then)."""
ANY_RULES = """async def solve(task, agent) returns a text. task.messages and task.prompt are the task;
await agent.generate(messages, temperature=0) asks the model (.text), await agent.call(tool, ...) a tool,
agent.files[path] is a file of the program."""
IMPROVE_RULES = """async def improve(brief, agent) returns a list of candidates,
each a list of contract.Edit(path, text, operator, summary)."""

SELECT_RULES = """def select_parent(archive, rng) returns the id of an open member of archive.members, each with id, parent,
children, score, wins, losses, scores (by skill), step, open; archive.champion and archive.step; draw from rng alone."""


class Told(msgspec.Struct, frozen=True):
    """What one prompt is filled with beside the brief."""

    path: str
    source: str
    error: str = ""
    other: str = ""
    other_score: str = ""


def messages(kind: str, brief: Brief, told: Told, most: int) -> tuple[Message, ...] | None:
    """A conversation of a system and a user message, with as many examples as fit into `most` characters; None where even
    without any it is longer."""
    system, _, user = _prompt(kind, brief.source).partition("\n---\n")
    for shown in range(SHOWN, -1, -1):
        text = filled(user, _places(brief, told, shown))
        if len(system) + len(text) <= most:
            return Message(role="system", content=system.strip()), Message(role="user", content=text)
    return None


def filled(template: str, places: Mapping[str, str]) -> str:
    """A template with its places filled in; one that is empty takes its line along. What is filled in stands as it is, since
    a search text has to."""
    template = _ALONE.sub(lambda found: "" if places.get(found[1]) == "" else found[0], template)
    return Template(template).safe_substitute(places).strip()


@cache
def _shipped(kind: str) -> str:
    return (files("moevolve.proposers") / "prompts" / f"{kind}.md").read_text(encoding="utf-8")


def _prompt(kind: str, program: Mapping[str, str]) -> str:
    return program.get(f"{FOLDER}{kind}.md") or _shipped(kind)


def _places(brief: Brief, told: Told, shown: int) -> dict[str, str]:
    rules = {"improve.py": IMPROVE_RULES, SELECTOR: SELECT_RULES}.get(
        told.path, POLICY_RULES if brief.answers == "policy" else ANY_RULES
    )
    return {
        "rules": rules,
        "metric": brief.metric,
        "path": told.path,
        "language": "python" if told.path.endswith(".py") else "text",
        "fence": fence(told.source, told.other),
        "source": told.source.rstrip("\n"),
        "files": ", ".join(sorted(brief.source)),
        "error": told.error,
        "other": told.other.rstrip("\n"),
        "other_score": told.other_score,
        "lineage": _list(
            "How the program came about:",
            [
                f"{each.operator}: {each.summary}"
                + ("" if each.score is None else f" (score {each.score:.3f})")
                for each in brief.ancestors[-shown:]
            ]
            if shown
            else [],
        ),
        "history": _list(
            "Tried before:",
            [
                f"{each.operator}, {each.summary}: {each.gain:+.3f}, {each.decision}"
                for each in brief.history[-2 * shown :]
            ]
            if shown
            else [],
        ),
        "failures": _list(
            "It failed on:",
            [
                f"{_cut(each.prompt)} -> {_cut(each.answer)} ({_why(each)})"
                for each in _mixed(brief.failures, shown)
            ],
        ),
        "successes": _list(
            "It was right on:",
            [f"{_cut(each.prompt)} -> {_cut(each.answer)}" for each in _mixed(brief.successes, shown)],
        ),
        "traces": _list(
            "",
            [
                f"{_cut(each.prompt)} -> {_cut(each.answer)} ({_why(each)})"
                + "".join(f"\n  asked {_cut(asked)!r}, was told {_cut(said)!r}" for asked, said in each.trace)
                for each in _mixed(brief.failures, shown)
            ],
        ),
        "won": _list(
            "",
            [
                f"{_cut(each.prompt)} -> {_cut(each.answer)}"
                + "".join(f"\n  asked {_cut(asked)!r}, was told {_cut(said)!r}" for asked, said in each.trace)
                for each in _mixed(brief.successes, shown // 2)
            ],
        ),
        "criteria": _list(
            "The rubric, learnt from earlier failures:", criteria(brief.source.get(CRITERIA, ""))
        ),
        "memory": _list("Remembered:", list(brief.lessons[:shown])),
        "budget": f"Left: {brief.left}." if brief.left else "",
    }


def _list(head: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return "\n".join([*([head] if head else []), *(f"- {each}" for each in lines)])


def _mixed(attempts: Sequence[msgspec.Struct], most: int) -> list:  # type: ignore[type-arg]
    """Attempts of every skill before any skill's second."""
    turns: dict[str, int] = {}
    order = []
    for place, attempt in enumerate(attempts):
        skill = attempt.skill  # type: ignore[attr-defined]
        turns[skill] = turns.get(skill, 0) + 1
        order.append((turns[skill], place))
    return [attempts[place] for _, place in sorted(order)[:most]]


def _why(failure: Failure) -> str:
    """A failure by its name, and what was said of it."""
    said = failure.detail.strip()
    return f"{failure.failure}: {said}" if said and said != failure.failure else failure.failure


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} [...]"
