"""Prompts and answers as the tokens of one model: bare texts for the seed, conversations for an instruct model.

Attempts, programs' requests and training examples all go through the same object, so that what is trained is what is asked.
"""

from __future__ import annotations

from typing import Protocol

from moevolve.models.engine import Engine
from moevolve.models.harmony import FINAL
from moevolve.protocol.completion import Completion

Message = dict[str, str]


class Wording(Protocol):
    """How a suite's texts are put to an instruct model."""

    def messages(self, prompt: str) -> list[Message]:
        """The conversation that asks `prompt`."""
        ...

    def said(self, answer: str) -> str:
        """An answer as the model writes it."""
        ...

    def read(self, reply: str) -> str:
        """The answer in a reply."""
        ...


class Prompts(Protocol):
    """Texts of a suite on one side, tokens of a model on the other."""

    def ask(self, prompt: str) -> list[int]:
        """Tokens that the model goes on from."""
        ...

    def say(self, answer: str) -> list[int]:
        """Tokens that it would answer with, the end token included."""
        ...

    def read(self, completion: Completion) -> str:
        """The answer in what it drew."""
        ...


class BarePrompts:
    """The suite's texts as they are.

    Args:
        engine: a model with a tokenizer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ask(self, prompt: str) -> list[int]:
        return self._engine.encode(prompt, whole=False)

    def say(self, answer: str) -> list[int]:
        return self._engine.encode(answer, whole=False) + self._engine.ending

    def read(self, completion: Completion) -> str:
        return completion.text


class ChatPrompts:
    """The suite's texts as conversations, through the model's own chat template.

    Args:
        engine: a model with a chat template.
        wording: what is said in them.

    Raises:
        UsageError: the model has no chat template.
        CheckpointError: its chat template is broken.
    """

    def __init__(self, engine: Engine, wording: Wording) -> None:
        self._engine = engine
        self._wording = wording
        self._template = engine.chats.template

    def ask(self, prompt: str) -> list[int]:
        text = self._template.render(self._wording.messages(prompt))
        return self._engine.encode(text, whole=False)

    def say(self, answer: str) -> list[int]:
        begin = FINAL if self._engine.chats.format.harmony else ""
        return self._engine.encode(begin + self._wording.said(answer), whole=False) + self._engine.ending

    def read(self, completion: Completion) -> str:
        form = self._engine.chats.format
        if not form.harmony:
            return self._wording.read(completion.text)
        # Its channels are special tokens, without which nobody knows reasoning from the answer.
        return self._wording.read(form.read(self._engine.text(completion.tokens, form.marks))[0].content)
