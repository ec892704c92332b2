"""A conversation in the terminal, turn by turn."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from moevolve.cli.output import say
from moevolve.cli.telling import Teller
from moevolve.errors import MoevolveError
from moevolve.models.chat import ChatStream

HELP = "/exit leaves, /clear begins a new conversation; Ctrl-C ends an answer"

Answer = Callable[[tuple[dict[str, Any], ...], int], ChatStream]
"""Begins the model's turn, given the conversation and how many turns were drawn before."""


def talk(answer: Answer, opening: tuple[dict[str, Any], ...]) -> int:
    """Asks and answers until the person leaves.

    Args:
        answer: begins a turn.
        opening: messages that every conversation begins with, such as the system's.
    """
    with suppress(ImportError):  # lines can be edited and recalled where Python has it
        importlib.import_module("readline")
    say(HELP)
    told, turns = opening, 0
    while True:
        try:
            line = input("> ").strip().encode("utf-8", "replace").decode()
        except EOFError:
            print()
            return 0
        if line in ("/exit", "/quit"):
            return 0
        if line == "/clear":
            told = opening
            say("a new conversation")
        elif line.startswith("/") and " " not in line:
            say(HELP)
        elif line:
            asked = (*told, {"role": "user", "content": line})
            try:
                stream = answer(asked, turns)
                with suppress(KeyboardInterrupt):
                    Teller().turn(stream)
            except MoevolveError as error:
                say(f"moevolve: {error}")
                continue
            turns += 1
            if stream.completion.tokens:  # else it was ended before it said anything
                told = (*asked, stream.completion.message())
