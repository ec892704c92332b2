"""The alternatives of an answer in OpenAI's shape, each whole or as the pieces of a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from moevolve.models.engine import Engine
from moevolve.models.turnparser import TurnParser
from moevolve.models.turns import (
    ContentDelta,
    ReasoningDelta,
    ToolCall,
    ToolCallEnd,
)
from moevolve.models.turns import Event as TurnEvent
from moevolve.protocol.sampling import Drawn, Event
from moevolve.serve import logprobs
from moevolve.serve.logprobs import TokenNames
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
        alternatives: of each token, None for no log-probabilities at all.
        prompt: what is repeated before it.
    """

    def __init__(
        self,
        index: int,
        engine: Engine,
        reader: SampleReader,
        alternatives: int | None,
        prompt: str,
    ) -> None:
        self.index = index
        self.reader = reader
        self._names = TokenNames(engine)
        self._most = alternatives
        self._prompt = prompt
        self.scored: dict[str, list[Any] | None] | None = None
        """Log-probabilities of the prompt, where they are told."""
        self._end = next(iter(engine.eos), 0)
        self._text = [prompt]
        self._tokens: list[OffsetToken] = []

    def open(self) -> list[dict[str, Any]]:
        if not self._prompt and self.scored is None:
            return []
        piece = self._piece(self._prompt, (), None)
        return [piece if self.scored is None else {**piece, "logprobs": self.scored}]

    def take(self, event: Event) -> list[dict[str, Any]]:
        more = self.reader.take(event)
        if self.scored is not None and event.end_logprob is not None:
            # Who scores a prompt counts on a token behind it, be it the end.
            end = OffsetToken(Drawn(self._end, event.end_logprob), sum(map(len, self.reader.parts)))
            more = msgspec.structs.replace(more, tokens=(*more.tokens, end))
        self._text.append(more.text)
        self._tokens.extend(more.tokens)
        if not (more.text or more.finish or more.tokens):
            return []
        return [self._piece(more.text, more.tokens, more.finish)]

    def whole(self) -> dict[str, Any]:
        piece = self._piece("".join(self._text), self._tokens, self.reader.finish)
        if self.scored is not None:
            piece["logprobs"] = logprobs.joined(self.scored, piece["logprobs"])
        return piece

    def _piece(self, text: str, tokens: Sequence[OffsetToken], finish: str | None) -> dict[str, Any]:
        told = None
        if self._most is not None:
            told = logprobs.in_completion(self._names, tokens, self._most, len(self._prompt))
        return {"index": self.index, "text": text, "logprobs": told, "finish_reason": finish}


class ChatChoice:
    """A turn in a conversation. Tool calls are told once they are complete: nobody runs half of one.

    Args:
        index: its place in the answer.
        engine: the model.
        reader: reads its tokens.
        parser: reads the turn.
        alternatives: of each token, None for no log-probabilities at all.
        name: what its tool calls' ids begin with.
        several: whether the turn may make more than one call; else it ends with the first.
        short_ids: calls' ids are nine letters and digits, as some templates want them.
    """

    def __init__(
        self,
        index: int,
        engine: Engine,
        reader: SampleReader,
        parser: TurnParser,
        alternatives: int | None,
        name: str,
        several: bool = True,
        short_ids: bool = False,
    ) -> None:
        self.index = index
        self.reader = reader
        self._several = several
        self._short_ids = short_ids
        self._names = TokenNames(engine)
        self._parser = parser
        self._most = alternatives
        self._name = name
        self._tokens: list[OffsetToken] = []
        self._calls: list[ToolCall] = []
        self._content: list[str] = []

    def open(self) -> list[dict[str, Any]]:
        return [self._piece({"role": "assistant", "content": ""}, (), None)]

    def take(self, event: Event) -> list[dict[str, Any]]:
        if self.reader.finish is not None:
            return []  # what is drawn behind the one call that was wanted
        more = self.reader.take(event)
        self._tokens.extend(more.tokens)
        events = self._parser.feed(more.text) if more.text else []
        if more.finish is not None:
            events += self._parser.finish()
        finish = more.finish
        if not self._several:
            ends = [place for place, event in enumerate(events) if isinstance(event, ToolCallEnd)]
            if ends:
                events = events[: ends[0] + 1]
                self.reader.finish = finish = "stop"
        self._content += [event.text for event in events if isinstance(event, ContentDelta)]
        deltas = [delta for event in events for delta in self._deltas(event)]
        told = more.tokens
        if told and not deltas:
            deltas = [{}]
        pieces = [self._piece(delta, () if place else told, None) for place, delta in enumerate(deltas)]
        if finish is not None:
            pieces.append(self._piece({}, (), self._finish(finish)))
        return pieces

    def whole(self) -> dict[str, Any]:
        reply = self._parser.reply()
        content = "".join(self._content)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if reply.tool_calls and not content else content,
            "refusal": None,
        }
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            calls = reply.tool_calls if self._several else reply.tool_calls[:1]
            message["tool_calls"] = [
                {"id": self._id(place), "type": "function", "function": _function(call)}
                for place, call in enumerate(calls)
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
        whole = f"call_{self._name}_{self.index}_{place}"
        if not self._short_ids:
            return whole
        return f"{int(hashlib.blake2b(whole.encode(), digest_size=8).hexdigest(), 16) % 10**9:09d}"

    def _logprobs(self, tokens: Sequence[OffsetToken]) -> dict[str, Any] | None:
        if self._most is None:
            return None
        return {
            "content": [
                {
                    **self._names.entry(told.drawn.token, told.drawn.logprob),
                    "top_logprobs": [
                        self._names.entry(token, logprob) for token, logprob in told.drawn.top[: self._most]
                    ],
                }
                for told in tokens
            ],
            "refusal": None,
        }


def _function(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
