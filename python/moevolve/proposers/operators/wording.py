"""Operators on prompts: text files of the program, and long strings in its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random

from moevolve.agents.brief import Success
from moevolve.agents.genome import BESIDE
from moevolve.proposers.operators.operator import Change, Inapplicable, prompts, put

SUFFIXES = (".md", ".txt", ".prompt")
"""Of files that are prompts."""
EXAMPLES = "Examples:"
COUNTS = (1, 2, 4, 8)
"""How many confirmed attempts are shown."""
LONGEST = 2000
"""Characters of one example."""

INSTRUCTIONS = (
    "Answer with the result alone.",
    "Think step by step, and give the answer on the last line.",
    "Check the answer before you give it.",
    "Follow the form that the question asks for exactly.",
    "If the question has several parts, answer each of them.",
)


def examples(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Shows confirmed attempts in a prompt, in place of those that it shows now."""
    fitting = [each for each in known if len(each.prompt) + len(each.answer) <= LONGEST]
    if not fitting:
        raise Inapplicable("no attempt has been confirmed yet")
    chosen = rng.sample(fitting, min(rng.choice(COUNTS), len(fitting)))
    block = "\n\n".join(f"Question: {each.prompt}\nAnswer: {each.answer}" for each in chosen)

    def shown(text: str) -> str:
        return f"{text.partition(EXAMPLES)[0].rstrip()}\n\n{EXAMPLES}\n\n{block}\n"

    return edited(files, rng, shown, f"show {len(chosen)} confirmed attempt{'s' * (len(chosen) != 1)}")


def instruct(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Adds an instruction to a prompt."""
    line = rng.choice(INSTRUCTIONS)
    return edited(files, rng, lambda text: before_examples(text, line), f"add {line!r}")


def emphasise(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Says one of a prompt's sentences again at its end."""

    def again(text: str) -> str:
        return before_examples(text, f"Remember: {rng.choice(_sentences(text, 1))}")

    return edited(files, rng, again, "say a sentence again at the end")


def drop(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Leaves one of a prompt's sentences out."""

    def less(text: str) -> str:
        sentence = rng.choice(_sentences(text, 2))
        return text.replace(sentence, "", 1).strip() + "\n" * text.endswith("\n")

    return edited(files, rng, less, "leave a sentence out")


def reorder(files: Mapping[str, str], known: Sequence[Success], rng: Random) -> Change:
    """Puts one of a prompt's sentences first."""

    def moved(text: str) -> str:
        sentence = rng.choice(_sentences(text, 2)[1:])
        return f"{sentence} {text.replace(sentence, '', 1).lstrip()}"

    return edited(files, rng, moved, "put a sentence first")


def edited(files: Mapping[str, str], rng: Random, change: Callable[[str], str], summary: str) -> Change:
    """A prompt of the program, changed."""
    places: list[tuple[str, int | None]] = [(path, None) for path in sorted(files) if path.endswith(SUFFIXES)]
    for path in sorted(files):
        if path.endswith(".py") and path not in BESIDE:
            places += [(path, index) for index in range(len(prompts(files[path])))]
    if not places:
        raise Inapplicable("the program has no prompt: no text file, no long string")
    path, index = rng.choice(places)
    text = files[path]
    if index is None:
        return Change(path, change(text), f"{path}: {summary}")
    where = prompts(text)[index]
    new = change(str(where.value))
    return Change(path, put(text, where, repr(new)), f"{path}: {summary}")


def before_examples(text: str, line: str) -> str:
    head, mark, tail = text.partition(EXAMPLES)
    return f"{head.rstrip()}\n{line}\n" + (f"\n{mark}{tail}" if mark else "")


def _sentences(text: str, least: int) -> list[str]:
    """The sentences of a prompt, its examples left out.

    Raises:
        Inapplicable: fewer than `least`.
    """
    head = text.partition(EXAMPLES)[0]
    found = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", head) if part.strip()]
    if len(found) < least:
        raise Inapplicable("the prompt has too few sentences")
    return found
