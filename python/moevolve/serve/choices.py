"""The alternatives of an answer in OpenAI's shape, each whole or as the pieces of a stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from moevolve.models.engine import Engine
from moevolve.models.reply import ReplyParser
from moevolve.models.turns import (
    ContentDelta,
    ReasoningDelta,
    ToolCall,
    ToolCallEnd,
)
from moevolve.models.turns import Event as TurnEvent
from moevolve.protocol.sampling import Event
from moevolve.serve.samples import OffsetToken, SampleReader


class Choice(Protocol):
    """One sample of an answer."""

    reader: SampleReader

    def open(self) -> list[dict[str, Any]]:
        """What a stream says of it before the first token."""
        ...

    def take(self, event: Event) -> list[dict[str, Any]]:
        """What an event adds, as pieces of a stream."""
        ...

    def whole(self) -> dict[str, Any]:
        """All of it, once it has finished."""
        ...


class TextChoice:
    """A completion.

    Args:
        index: its place in the answer.
        engine: the model.
        reader: reads its tokens.
        logprobs: alternatives of each token, None for no log-probabilities at all.
        prompt: what is repeated before it.
    """

    def __init__(
        self, index: int, engine: Engine, reader: SampleReader, logprobs: int | None, prompt: str
    ) -> None:
        self.index = index
        self.reader = reader
        self._engine = engine
        self._most = logprobs
        self._prompt = prompt
        self._text = [prompt]
        self._tokens: list[OffsetToken] = []

    def open(self) -> list[dict[str, Any]]:
        return [self._piece(self._prompt, (), None)] if self._prompt else []

    def take(self, event: Event) -> list[dict[str, Any]]:
        more = self.reader.take(event)
        self._text.append(more.text)
        if self._most is not None:
            self._tokens.extend(more.tokens)
        if not (more.text or more.finish or (more.tokens and self._most is not None)):
            return []
        return [self._piece(more.text, more.tokens, more.finish)]

    def whole(self) -> dict[str, Any]:
        return self._piece("".join(self._text), self._tokens, self.reader.finish)

    def _piece(self, text: str, tokens: Sequence[OffsetToken], finish: str | None) -> dict[str, Any]:
        return {
            "index": self.index,
            "text": text,
            "logprobs": None if self._most is None else self._logprobs(tokens, self._most),
            "finish_reason": finish,
        }

    def _logprobs(self, tokens: Sequence[OffsetToken], most: int) -> dict[str, Any]:
        top = [
            {_token(self._engine, token): logprob for token, logprob in told.drawn.top[:most]}
            for told in tokens
        ]
        return {
            "tokens": [_token(self._engine, told.drawn.token) for told in tokens],
            "token_logprobs": [told.drawn.logprob for told in tokens],
            "top_logprobs": top if most else None,
            "text_offset": [len(self._prompt) + told.offset for told in tokens],
        }


class ChatChoice:
    """A turn in a conversation. Tool calls are told once they are complete: nobody runs half of one.

    Args:
        index: its place in the answer.
        engine: the model.
        reader: reads its tokens.
        parser: reads the turn.
        logprobs: alternatives of each token, None for no log-probabilities at all.
        name: what its tool calls' ids begin with.
    """

    def __init__(
        self,
        index: int,
        engine: Engine,
        reader: SampleReader,
        parser: ReplyParser,
        logprobs: int | None,
        name: str,
    ) -> None:
        self.index = index
        self.reader = reader
        self._engine = engine
        self._parser = parser
        self._most = logprobs
        self._name = name
        self._tokens: list[OffsetToken] = []
        self._calls: list[ToolCall] = []

    def open(self) -> list[dict[str, Any]]:
        return [self._piece({"role": "assistant", "content": ""}, (), None)]

    def take(self, event: Event) -> list[dict[str, Any]]:
        more = self.reader.take(event)
        if self._most is not None:
            self._tokens.extend(more.tokens)
        events = self._parser.feed(more.text) if more.text else []
        if more.finish is not None:
            events += self._parser.finish()
        deltas = [delta for event in events for delta in self._deltas(event)]
        told = more.tokens if self._most is not None else ()
        if told and not deltas:
            deltas = [{}]
        pieces = [self._piece(delta, () if place else told, None) for place, delta in enumerate(deltas)]
        if more.finish is not None:
            pieces.append(self._piece({}, (), self._finish(more.finish)))
        return pieces

    def whole(self) -> dict[str, Any]:
        reply = self._parser.reply()
        content = reply.content
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if reply.tool_calls and not content else content,
            "refusal": None,
        }
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            message["tool_calls"] = [
                {"id": self._id(place), "type": "function", "function": _function(call)}
                for place, call in enumerate(reply.tool_calls)
            ]
        return {
            "index": self.index,
            "message": message,
            "logprobs": self._logprobs(self._tokens),
            "finish_reason": self._finish(self.reader.finish),
        }

    def _deltas(self, event: TurnEvent) -> list[dict[str, Any]]:
        match event:
            case ReasoningDelta(text=text):
                return [{"reasoning_content": text}]
            case ContentDelta(text=text):
                return [{"content": text}]
            case ToolCallEnd(call=call):
                place = len(self._calls)
                self._calls.append(call)
                function = _function(call)
                begun = {
                    "index": place,
                    "id": self._id(place),
                    "type": "function",
                    "function": {"name": call.name, "arguments": ""},
                }
                rest = {"index": place, "function": {"arguments": function["arguments"]}}
                return [{"tool_calls": [begun]}, {"tool_calls": [rest]}]
            case _:
                return []

    def _piece(
        self, delta: dict[str, Any], tokens: Sequence[OffsetToken], finish: str | None
    ) -> dict[str, Any]:
        return {
            "index": self.index,
            "delta": delta,
            "logprobs": self._logprobs(tokens) if tokens else None,
            "finish_reason": finish,
        }

    def _finish(self, finish: str | None) -> str | None:
        return "tool_calls" if finish == "stop" and self._parser.reply().tool_calls else finish

    def _id(self, place: int) -> str:
        return f"call_{self._name}_{self.index}_{place}"

    def _logprobs(self, tokens: Sequence[OffsetToken]) -> dict[str, Any] | None:
        if self._most is None:
            return None
        return {
            "content": [
                {
                    **_entry(self._engine, told.drawn.token, told.drawn.logprob),
                    "top_logprobs": [
                        _entry(self._engine, token, logprob)
                        for token, logprob in told.drawn.top[: self._most]
                    ],
                }
                for told in tokens
            ],
            "refusal": None,
        }


def _function(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}


def _entry(engine: Engine, token: int, logprob: float) -> dict[str, Any]:
    text = _token(engine, token)
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _token(engine: Engine, token: int) -> str:
    return engine.decode([token], special=True) if engine.has_tokenizer else str(token)
