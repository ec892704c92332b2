"""How tasks are put to an instruct model, and how its replies are read.

A suite of one's own is worded by its author: prompts go as they are, and a whole reply is the answer (`PlainWording`).
The primer's prompts are terse (`rev:bdca=`): made for the shipped seed. An instruct model gets the skill's summary as its
instruction, a few solved tasks as earlier turns, and the payload as the question. Programs, lessons and graders see the
suite's own texts on either side, so one program works with any model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal

from moevolve.models.prompts import Message
from moevolve.tasks.skill import Skill
from moevolve.tasks.suite import Suite

INSTRUCTION = "Reply with the result alone."

_LETTERS = re.compile(r"[A-Za-z]{2,}")
_THOUGHT = re.compile(r"\s*<think>(?:.*?</think>|.*)", re.DOTALL)


def style_of(suite: Suite) -> Literal["chat", "plain"]:
    """How a suite is put to an instruct model where nobody says: in our words where its prompts are terse, else as it is."""
    return "chat" if any(skill.verb for skill in suite.skills.values()) else "plain"


def without_thoughts(reply: str) -> str:
    """A reply without the reasoning that it begins with; one that was cut off while it reasoned is no answer."""
    thought = _THOUGHT.match(reply)
    return reply[thought.end() :] if thought else reply


class PlainWording:
    """Prompts as they are written, each a message of its own, and whole replies."""

    def messages(self, prompt: str) -> list[Message]:
        """The prompt as a user's message."""
        return [{"role": "user", "content": prompt}]

    def said(self, answer: str) -> str:
        """The answer."""
        return answer

    def read(self, reply: str) -> str:
        """The reply, without what was thought before it."""
        return without_thoughts(reply).strip()


LEADING = (":", ",", ".", "!")
"""How a line ends that leads to the answer."""


class Wording:
    """Prompts as conversations, and replies as answers.

    Args:
        suite: its skills' summaries and verbs, and the train tasks that are shown solved.
        shots: solved tasks before the question, from a skill's lowest levels; a skill without known answers has none.
        spell: put blanks between the letters of a payload, so that a tokenizer of whole words sees every letter.
    """

    def __init__(self, suite: Suite, *, shots: int, spell: bool) -> None:
        self.shots = shots
        self.spell = spell
        self._suite = suite
        self._verbs = {
            verb: skill for skill in suite.skills.values() if (verb := skill.verb or _prefix(suite, skill))
        }
        self._before = cache(self._earlier)

    def messages(self, prompt: str) -> list[Message]:
        """The conversation that asks `prompt`: a prompt of no known verb is asked as it is, one of several verbs (`rev+srt`)
        by what they say in turn."""
        verb, colon, payload = prompt.partition(":")
        if colon and "+" in verb and all(part in self._verbs for part in verb.split("+")):
            turns = " Then, of the answer: ".join(
                _sentence(self._verbs[part].summary) for part in verb.split("+")
            )
            return [
                {"role": "system", "content": f"{turns} {INSTRUCTION}"},
                {"role": "user", "content": self.question(payload)},
            ]
        if not colon or verb not in self._verbs:
            return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}]
        return [*self._before(verb), {"role": "user", "content": self.question(payload)}]

    def question(self, payload: str) -> str:
        """`bdca=` as `b d c a =`."""
        text = payload.removesuffix("=").strip()
        return f"{self.said(text)} ="

    def said(self, answer: str) -> str:
        """An answer as the model writes it: `read(said(answer))` is the answer."""
        return _LETTERS.sub(lambda found: " ".join(found[0]), answer) if self.spell else answer

    def read(self, reply: str) -> str:
        """The answer in a reply, the spelling undone: its first line, or, where that is a sentence, or a word that leads to
        something ("Well,"), and the last line is a word, its last one."""
        lines = [line.strip() for line in without_thoughts(reply).strip().splitlines()] or [""]
        first = _alone(lines[0]) and not lines[0].endswith(LEADING)
        line = lines[0] if first or not _alone(lines[-1]) else lines[-1]
        parts = line.split()
        return "".join(parts) if self.spell and all(len(part) == 1 for part in parts) else line

    def _earlier(self, verb: str) -> Sequence[Message]:
        skill = self._verbs[verb]
        said: list[Message] = [{"role": "system", "content": f"{_sentence(skill.summary)} {INSTRUCTION}"}]
        for prompt, answer in self._solved(skill):
            said.append({"role": "user", "content": self.question(prompt.partition(":")[2])})
            said.append({"role": "assistant", "content": self.said(answer)})
        return tuple(said)

    def _solved(self, skill: Skill) -> list[tuple[str, str]]:
        """Train tasks with their answers; the same in every run, and never of another split."""
        low, high = skill.levels
        levels = [low + shot % (high - low + 1) for shot in range(self.shots)]
        tasks = [
            self._suite.draw("train", skill.path, level, "shots", shot) for shot, level in enumerate(levels)
        ]
        return [(task.prompt, task.answer) for task in tasks if task.answer is not None]


def _alone(line: str) -> bool:
    """Whether a line is one word, or letters apart."""
    parts = line.split()
    return len(parts) == 1 or (bool(parts) and all(len(part) == 1 for part in parts))


def _prefix(suite: Suite, skill: Skill) -> str:
    """What all of a skill's prompts seem to begin with, up to a colon; empty where they do not."""
    prompts = [suite.draw("train", skill.path, skill.levels[0], "prefix", again).prompt for again in range(4)]
    found = {prompt.partition(":")[0] if ":" in prompt else "" for prompt in prompts}
    return found.pop() if len(found) == 1 else ""


def _sentence(summary: str) -> str:
    return summary[:1].upper() + summary[1:].rstrip(".") + "."
