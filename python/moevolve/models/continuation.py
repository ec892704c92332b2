"""A conversation whose last message is to be gone on from: its prompt ends behind that message's text.

As transformers does it (`continue_final_message`): a mark is put behind the text, and the prompt is cut where the mark has
come to stand, whatever else in it reads like the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moevolve.errors import UsageError

_WORD = "endofthetexttogoonfrom"
"""A word in letters alone, which no template takes for anything else."""


class Continuation:
    """Where the text of a conversation's last message ends in its prompt.

    Args:
        messages: the conversation.

    Raises:
        UsageError: its last message has no text.
    """

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        last = dict(messages[-1]) if messages else {}
        mark = _WORD
        while mark in str(messages):
            mark += "x"
        # Of a template that trims texts the tab is left out: behind a text they put blanks and line ends alone.
        self._mark = f"{mark}\t"
        self._text, last["content"] = _marked(last.get("content"), self._mark)
        if not self._text.strip():
            raise UsageError("the last message has no text to go on from")
        self.messages = (*map(dict, messages[:-1]), last)
        """The conversation with the mark in it."""

    def end(self, prompt: str) -> int | None:
        """Where the text ends in the prompt of `messages`; None where the template leaves it out, or writes another.

        What the template trims from the text's end is no part of it.
        """
        at = prompt.rfind(self._mark.strip())
        if at < 0 or self._text.strip() not in prompt:
            return None
        return at if prompt.startswith(self._mark, at) else len(prompt[:at].rstrip())


def _marked(content: Any, mark: str) -> tuple[str, Any]:
    """(the text that is gone on from, the content with the mark behind it): of parts the last one that has a text."""
    if isinstance(content, str):
        return content, content + mark
    parts = list(content) if isinstance(content, Sequence) else []
    for place in reversed(range(len(parts))):
        part = parts[place]
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            parts[place] = {**part, "text": part["text"] + mark}
            return part["text"], parts
    return "", content
