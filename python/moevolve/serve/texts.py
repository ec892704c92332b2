"""What is asked of a model without drawing: tokens of texts and back."""

from __future__ import annotations

from typing import Any

import msgspec

from moevolve.errors import UsageError
from moevolve.models.chat import conversation
from moevolve.models.engine import Engine
from moevolve.serve.failures import RequestError, wrong
from moevolve.serve.schemas import ChatRequest, check_message
from moevolve.serve.service import Service


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /tokenize: a text, or a conversation through the model's chat template."""

    model: str | None = None
    prompt: str | None = None
    content: str | None = None
    """A text under its name in other servers."""
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None

    def check(self) -> None:
        given = [one for one in (self.prompt, self.content, self.messages) if one is not None]
        if len(given) != 1:
            raise wrong("prompt", "`prompt` or `messages`, one of them")
        for index, message in enumerate(self.messages or ()):
            check_message(f"messages[{index}]", message)


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /detokenize."""

    tokens: list[int]
    model: str | None = None

    def check(self) -> None:
        return


def tokenized(service: Service, body: TokenizeRequest) -> dict[str, Any]:
    """The tokens of a text."""
    engine = service.current.engine
    try:
        if body.messages is None:
            text = body.prompt if body.prompt is not None else body.content or ""
            ids = engine.encode(text, whole=body.add_special_tokens is not False)
        else:
            asked = ChatRequest(messages=body.messages, tools=body.tools)
            prompt = engine.chats.prompt(
                conversation(asked.conversation, asked.offered),
                answer=body.add_generation_prompt is not False,
                go_on=bool(body.continue_final_message),
                **(body.chat_template_kwargs or {}),
            )
            ids = engine.encode(prompt, whole=bool(body.add_special_tokens))
    except UsageError as error:
        raise RequestError(400, str(error)) from error
    texts = [engine.decode([token], special=True) for token in ids] if body.return_token_strs else None
    return {"count": len(ids), "max_model_len": engine.positions, "tokens": ids, "token_strs": texts}


def detokenized(service: Service, body: DetokenizeRequest) -> dict[str, Any]:
    """The text of tokens, special ones included."""
    engine = service.current.engine
    _check(engine, "tokens", body.tokens)
    try:
        return {"prompt": engine.decode(body.tokens, special=True)}
    except UsageError as error:
        raise RequestError(400, str(error)) from error


def _check(engine: Engine, name: str, ids: list[int]) -> None:
    if wide := [token for token in ids if not 0 <= token < engine.vocab_size]:
        raise wrong(name, f"{wide[0]} is no token: they are numbers below {engine.vocab_size}")
