"""`/v1/responses`: chats in another shape, and the conversations that later ones go on from while the server lives."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moevolve.protocol.responses import Item, ResponseEvents, ResponsesRequest, Unsaid, messages_of
from moevolve.serve.completions import answer
from moevolve.serve.failures import RequestError, wrong
from moevolve.serve.jobs import Job, chat_job
from moevolve.serve.schemas import ChatRequest
from moevolve.serve.service import Deployment, Service

KEPT = 1024
"""Responses that later ones may go on from; the oldest go first."""
KEPT_BYTES = 64 << 20
"""Bytes of their conversations, together."""

OWN = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning",
}
"""Fields of chats, and what they are called here."""


class Kept(msgspec.Struct, frozen=True):
    """A response, and the conversation up to its end without instructions."""

    client: str
    response: Item
    messages: list[Item]
    size: int


class Conversations:
    """Responses of this server's life by their ids; each belongs to the client that asked."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._size = 0

    def put(self, client: str, response: Item, messages: list[Item]) -> None:
        """Keeps a response."""
        size = len(msgspec.json.encode((response, messages)))
        self._kept[response["id"]] = Kept(client, response, messages, size)
        self._size += size
        while len(self._kept) > KEPT or self._size > KEPT_BYTES:
            self._size -= self._kept.popitem(last=False)[1].size

    def take(self, name: str, client: str) -> Kept:
        """A response by its id.

        Raises:
            RequestError: 404, if this client has none of this id.
        """
        kept = self._kept.get(name)
        if kept is None or kept.client != client:
            raise RequestError(
                404,
                f"there is no response {name[:80]!r} here: the newest {KEPT:,} are kept while the server runs",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return kept


async def responded(
    service: Service, request: Request, body: ResponsesRequest, kept: Conversations, client: str
) -> Response:
    """Answers a request whose body has been read.

    Raises:
        RequestError: the answer is a status.
    """
    before: list[Item] = []
    if body.previous_response_id is not None:
        before = kept.take(body.previous_response_id, client).messages

    def envelope(service: Service, deployment: Deployment, job: Job) -> _Envelope:
        return _Envelope(service, job, body, before, kept, client)

    try:
        chat = await asyncio.to_thread(_chat, body, before)
        return await answer(service, request, chat, 1, chat_job, envelope)
    except RequestError as error:
        raise _in_own_words(error) from None


def _chat(body: ResponsesRequest, before: list[Item]) -> ChatRequest:
    """The checked chat that a request is."""
    try:
        chat = msgspec.convert(body.chat_body(before), ChatRequest)
    except Unsaid as error:
        raise wrong(error.field, error.reason, error.code) from None
    chat.check()
    return chat


def _in_own_words(error: RequestError) -> RequestError:
    """The error about a chat's field as one about the field that said the same here."""
    param = error.param or ""
    own = next((own for name, own in OWN.items() if param.startswith(name)), None)
    if own is not None:
        error.args = (str(error).replace(f"{param}:", f"{own}:", 1),)
        error.param = own
    return error


class _Envelope:
    """A response around a turn."""

    def __init__(
        self,
        service: Service,
        job: Job,
        body: ResponsesRequest,
        before: list[Item],
        kept: Conversations,
        client: str,
    ) -> None:
        self.job = job
        self.name = f"resp_{secrets.token_hex(12)}"
        self.seconds = service.limits.request_seconds
        self._body, self._before, self._kept, self._client = body, before, kept, client
        self._events = ResponseEvents(body, self.name, service.name, int(time.time()))

    def whole(self) -> dict[str, Any]:
        (told,) = self.job.told
        message = told["message"]
        for delta in (
            {"reasoning_content": message.get("reasoning_content")},
            {"content": message["content"]},
        ):
            self._events.take(delta)
        self._events.take({"tool_calls": message.get("tool_calls")})
        response: Item = self._finish(told["finish_reason"])[-1]["response"]
        return response

    def opening(self) -> bytes:
        return b"".join(map(_sse, self._events.begin()))

    def progress(self, pieces: list[dict[str, Any]]) -> bytes:
        events = [event for piece in pieces for event in self._events.take(piece["delta"])]
        return b"".join(map(_sse, events))

    def ending(self, usage: bool) -> bytes:
        return b"".join(map(_sse, self._finish(self.job.choices[0].reader.finish)))

    def failed(self, error: dict[str, Any]) -> bytes:
        return _sse(self._events.failed(error["error"]))

    def _finish(self, finish: str | None) -> list[Item]:
        events = self._events.end(finish, self.job.usage)
        if self._body.store is not False:
            messages = [*self._before, *self._body.said, *messages_of(self._events.items)]
            self._kept.put(self._client, events[-1]["response"], messages)
        return events


def _sse(event: Item) -> bytes:
    """A server-sent event with its name."""
    return f"event: {event['type']}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"
