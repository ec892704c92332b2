"""A program's question as the tokens that a model goes on from: the same in attempts and in training."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moevolve.errors import UsageError
from moevolve.models.chat import Conversation
from moevolve.models.engine import Engine
from moevolve.models.messages import in_openai_form
from moevolve.models.prompts import BarePrompts, Prompts
from moevolve.protocol.messages import Message, Tool


class Turn(msgspec.Struct, frozen=True):
    """A conversation that the model is to answer."""

    conversation: Conversation
    prompt: str
    """Its text through the model's template."""


def asked(
    engine: Engine,
    prompts: Prompts,
    prompt: str | tuple[Message, ...],
    tools: Sequence[Tool],
    *,
    worded: bool,
) -> tuple[list[int], Turn | None]:
    """The tokens of a question, and the conversation where it is one.

    Texts go through `prompts`; conversations, texts with tools, and unworded texts to a chat model go through the model's
    own template as they are.

    Raises:
        UsageError: the model has no template for a conversation, or no room.
    """
    if isinstance(prompt, str):
        if not tools and (worded or isinstance(prompts, BarePrompts)):
            return prompts.ask(prompt), None
        prompt = (Message("user", prompt),)
    conversation = Conversation(
        messages=tuple(in_openai_form(m, text_arguments=False, reasoning=True) for m in prompt),
        tools=tuple(tool.described() for tool in tools),
    )
    text = engine.chats.prompt(conversation)
    ids = engine.encode(text, whole=False)
    room = engine.positions
    if room is not None and len(ids) >= room:
        raise UsageError(f"the conversation takes {len(ids)} tokens, and the model has room for {room}")
    return ids, Turn(conversation, text)


def asked_tokens(
    engine: Engine,
    prompts: Prompts,
    prompt: str | tuple[Message, ...],
    tools: Sequence[Tool],
    *,
    worded: bool,
) -> list[int]:
    """The tokens of a question; errors as of `asked`."""
    return asked(engine, prompts, prompt, tools, worded=worded)[0]
