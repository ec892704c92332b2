"""What the short words in a program's summary stand for: verbs of prompts, and ways to work on a task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from moevolve.journal.text import line

STAGES = {
    "ask": "one question, one answer",
    "vote": "asks several times, the most frequent answer wins",
    "retry": "asks again where the first answer cannot be right",
    "split": "in parts, the answers joined",
    "carry": "in parts, each begun with where the last one ended",
    "fold": "in parts, two answers at a time made one",
    "columns": "column by column, cut where nothing is carried",
    "offset": "in parts, summed with a ten that is taken off again",
    "inverse": "an answer that the opposite task leads back",
    "steps": "place by place, lowest first",
    "chain": "one skill after another",
    "doubt": "a vote, and in parts where it is close",
    "verified": "the first answer that another skill leads back",
    "swapped": "both orders of the numbers, voted over",
    "window": "the digits from where two numbers differ",
    "recalled": "shown solved examples first",
    "proven": "stages that held on train tasks",
    "combine": "parts of two programs",
    "refocus": "another way of improving, too",
    "distill": "weights trained on confirmed answers",
}
"""Operator or stage -> what it does."""
_WORDS = re.compile(r"[A-Za-z_]+")
_VERB = re.compile(r"^([a-z][a-z+]{0,7}):")


def verbs(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Verb -> skill, from prompts with their skills; a verb that several skills begin with is none.

    Args:
        found: (skill, prompt).
    """
    seen: dict[str, set[str]] = {}
    for skill, prompt in found:
        if match := _VERB.match(prompt):
            seen.setdefault(match[1], set()).add(line(skill, 40))
    return {verb: skills.pop() for verb, skills in seen.items() if len(skills) == 1}


def spelled(words: str, known: Mapping[str, str]) -> str:
    """The short words of a summary, spelled out: `cmp number/compare; window: the digits from where ...`."""
    used = dict.fromkeys(_WORDS.findall(words))
    skills = [f"{word} {known[word]}" for word in used if word in known]
    stages = [f"{word}: {STAGES[word]}" for word in used if word in STAGES]
    return "; ".join([", ".join(skills), *stages] if skills else stages)
