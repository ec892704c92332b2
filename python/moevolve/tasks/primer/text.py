"""The primer's text branch: one operation on a string of letters."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from moevolve.tasks.skill import Skill
from moevolve.tasks.task import Task

LETTERS = "abcdefghij"
_NEXT = str.maketrans(LETTERS, LETTERS[1:] + LETTERS[0])


def length(level: int) -> int:
    """Letters of the payload."""
    return level + 2


def letters(rng: Random, level: int) -> str:
    """Letters drawn evenly."""
    return "".join(rng.choices(LETTERS, k=length(level)))


def runs(rng: Random, level: int) -> str:
    """Letters of which about half repeat the one before, so that collapsing them matters."""
    payload = [rng.choice(LETTERS)]
    while len(payload) < length(level):
        repeats = rng.random() < 0.5
        payload.append(payload[-1] if repeats else rng.choice(LETTERS.replace(payload[-1], "")))
    return "".join(payload)


def reverse(text: str) -> str:
    """`bdca` -> `acdb`."""
    return text[::-1]


def sort(text: str) -> str:
    """`bdca` -> `abcd`."""
    return "".join(sorted(text))


def dedupe(text: str) -> str:
    """`aabbba` -> `aba`: every run becomes one letter."""
    return "".join(letter for index, letter in enumerate(text) if index == 0 or letter != text[index - 1])


def caesar(text: str) -> str:
    """`abj` -> `bca`: every letter becomes the next, and the last of the alphabet the first."""
    return text.translate(_NEXT)


def text_skill(
    path: str,
    verb: str,
    summary: str,
    operation: Callable[[str], str],
    payload: Callable[[Random, int], str] = letters,
) -> Skill:
    """A skill that asks for one operation on a payload of letters."""

    def generate(rng: Random, level: int) -> Task:
        text = payload(rng, level)
        return Task(prompt=f"{verb}:{text}=", answer=operation(text))

    asked = re.compile(rf"{verb}:([{LETTERS}]+)=")

    def truth(prompt: str) -> str | None:
        found = asked.fullmatch(prompt)
        return operation(found[1]) if found else None

    return Skill(path=path, verb=verb, summary=summary, generator=generate, alphabet=LETTERS, truth=truth)


TEXT = (
    text_skill("text/reverse", "rev", "write the letters backwards", reverse),
    text_skill("text/sort", "srt", "put the letters in alphabetical order", sort),
    text_skill("text/dedupe", "ddp", "collapse runs of one letter into one", dedupe, runs),
    text_skill("text/caesar", "cae", "replace every letter by the next, j by a", caesar),
)
