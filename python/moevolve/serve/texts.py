"""What is asked of a model without drawing: tokens of texts and back, and embeddings."""

from __future__ import annotations

import asyncio
import base64
import math
import struct
from typing import Any, Literal

import msgspec
from starlette.types import Receive

from moevolve.errors import UsageError
from moevolve.models.chat import conversation
from moevolve.models.engine import Engine
from moevolve.models.interruptible import Parts
from moevolve.serve.failures import RequestError, not_finite, unsupported, wrong
from moevolve.serve.schemas import ChatRequest
from moevolve.serve.service import Service
from moevolve.serve.waiting import Waiting, awaited

MOST_INPUTS = 256
"""Texts of one request for embeddings."""


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
        if self.messages is not None:
            self.chat.check()

    @property
    def chat(self) -> ChatRequest:
        """The conversation as a chat has it."""
        return ChatRequest(
            messages=self.messages or [],
            tools=self.tools,
            add_generation_prompt=self.add_generation_prompt,
            continue_final_message=self.continue_final_message,
            chat_template_kwargs=self.chat_template_kwargs,
        )


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /detokenize."""

    tokens: list[int]
    model: str | None = None

    def check(self) -> None:
        return


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/embeddings."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None

    @property
    def texts(self) -> list[str | list[int]]:
        """One entry an embedding."""
        if isinstance(self.input, str):
            return [self.input]
        ids = [entry for entry in self.input if isinstance(entry, int)]
        return [ids] if ids else [entry for entry in self.input if not isinstance(entry, int)]

    def check(self) -> None:
        if not self.texts or len(self.texts) > MOST_INPUTS:
            raise wrong("input", f"1 to {MOST_INPUTS} texts")
        if isinstance(self.input, list) and len({type(entry) for entry in self.input}) > 1:
            raise wrong("input", "texts, or tokens, or lists of tokens, and not several of them")


async def tokenized(service: Service, body: TokenizeRequest) -> dict[str, Any]:
    """The tokens of a text."""
    service.check_model(body.model)
    with service.lease() as deployment:
        return await asyncio.to_thread(_tokens, deployment.engine, body)


def _tokens(engine: Engine, body: TokenizeRequest) -> dict[str, Any]:
    try:
        if body.messages is None:
            text = body.prompt if body.prompt is not None else body.content or ""
            ids = engine.encode(text, whole=body.add_special_tokens is not False)
        else:
            asked = body.chat
            prompt = engine.chats.prompt(
                conversation(asked.conversation, asked.listed),
                answer=asked.add_generation_prompt is not False,
                go_on=bool(asked.continue_final_message),
                **asked.variables,
            )
            ids = engine.encode(prompt, whole=bool(body.add_special_tokens))
    except UsageError as error:
        raise RequestError(400, str(error)) from error
    texts = [engine.decode([token], special=True) for token in ids] if body.return_token_strs else None
    return {"count": len(ids), "max_model_len": engine.positions, "tokens": ids, "token_strs": texts}


async def detokenized(service: Service, body: DetokenizeRequest) -> dict[str, Any]:
    """The text of tokens, special ones included."""
    service.check_model(body.model)
    with service.lease() as deployment:
        return await asyncio.to_thread(_text, deployment.engine, body)


def _text(engine: Engine, body: DetokenizeRequest) -> dict[str, Any]:
    _check(engine, "tokens", body.tokens)
    try:
        return {"prompt": engine.decode(body.tokens, special=True)}
    except UsageError as error:
        raise RequestError(400, str(error)) from error


async def embedded(service: Service, receive: Receive, body: EmbeddingRequest) -> dict[str, Any]:
    """Embeddings, a text after another, in parts so that others' rounds come between.

    Args:
        service: the model.
        receive: messages of the client, which is watched.
        body: the request.

    Raises:
        RequestError: the answer is a status.
        Left: nobody is there to read it.
    """
    service.check_model(body.model)

    async def vectors(waiting: Waiting) -> list[tuple[int, list[float]]]:
        with service.places(1), service.lease() as deployment:
            service.counts.requests += 1
            return [
                await deployment.read(waiting, _embedding(deployment.engine, body, index))
                for index in range(len(body.texts))
            ]

    with service.abandoned():
        found = await awaited(receive, service.limits.request_seconds, vectors)
    used = sum(tokens for tokens, _ in found)
    service.counts.prompt_tokens += used
    service.counts.finished += 1
    data: list[dict[str, Any]] = []
    for index, (_, vector) in enumerate(found):
        told: Any = vector
        if body.encoding_format == "base64":
            told = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": told})
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "data": data, "model": service.name, "usage": usage}


def _embedding(engine: Engine, body: EmbeddingRequest, index: int) -> Parts[tuple[int, list[float]]]:
    """How many tokens one of the texts has, and its embedding."""
    try:
        ids = engine.encode(body.texts[index])
        if not ids:
            raise wrong("input", f"text {index} has no tokens")
        _check(engine, "input", ids)
        vector = yield from engine.embed_parts(ids)
    except UsageError as error:
        raise RequestError(400, str(error)) from error
    if not all(map(math.isfinite, vector)):
        raise not_finite("hidden states")
    if body.dimensions is not None and body.dimensions != len(vector):
        raise unsupported("dimensions", f"this model has {len(vector)}")
    return len(ids), vector


def _check(engine: Engine, name: str, ids: list[int]) -> None:
    if wide := [token for token in ids if not 0 <= token < engine.vocab_size]:
        raise wrong(name, f"{wide[0]} is no token: they are numbers below {engine.vocab_size}")
