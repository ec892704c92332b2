"""`/v1/responses` inside a box: chats in another shape, and the conversations of one attempt that later ones go on from."""

from __future__ import annotations

from typing import Any

import msgspec

from moevolve.agents.box import chat
from moevolve.protocol.responses import Item, ResponseEvents, ResponsesRequest, Unsaid, messages_of

HARMLESS: dict[str, tuple[Any, ...]] = {
    "include": ([],),
    "truncation": ("disabled",),
    "service_tier": ("auto", "default"),
    "top_logprobs": (0,),
}
"""Fields that are known and not built, with the values that ask for what happens anyway."""
SPEAKER = ("prompt_cache_key", "safety_identifier")
"""Fields that say who asks."""


class Responses:
    """One attempt's responses."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[bytes, list[Item]]] = {}
        """Id -> the response, and the conversation up to its end without instructions."""

    def find(self, name: str) -> bytes | None:
        """A response by its id, as it was told."""
        kept = self._kept.get(name)
        return None if kept is None else kept[0]

    def asked(self, body: chat.Body) -> AskedResponse:
        """POST /v1/responses.

        Raises:
            chat.Unfit: names the field.
        """
        for field, value in body.items():
            if field in ResponsesRequest.__struct_fields__ or field in SPEAKER or value is None:
                continue
            if value not in HARMLESS.get(field, ()):
                raise chat.Unfit(f"{field}: it is not built here, and would change the answer: leave it out")
        try:
            request = msgspec.convert(body, ResponsesRequest)
            request.check()
            before = self._before(request.previous_response_id)
            question = chat.chat(request.chat_body(before))
        except Unsaid as error:
            raise chat.Unfit(str(error)) from None
        return AskedResponse(self, request, before, question)

    def _before(self, name: str | None) -> list[Item]:
        if name is None:
            return []
        if name not in self._kept:
            raise chat.Unfit(f"previous_response_id: this attempt has had no response {name[:80]!r}")
        return self._kept[name][1]

    def keep(self, name: str, response: bytes, messages: list[Item]) -> None:
        """Keeps a response for requests that go on from it."""
        self._kept[name] = response, messages


class AskedResponse:
    """A request for a response.

    Args:
        responses: where it is kept.
        request: the request.
        before: messages of the conversation that it goes on from.
        question: the same, as it is put to the policy.
    """

    def __init__(
        self, responses: Responses, request: ResponsesRequest, before: list[Item], question: chat.Question
    ) -> None:
        self.question = question
        self._responses = responses
        self._request = request
        self._before = before

    def told(self, name: str, rows: list[Any], usage: dict[str, int]) -> tuple[bytes, str]:
        """The answer's body and content type; see `chat.told`."""
        choice = chat.choice(self.question, name, 0, rows[0])
        message = choice["message"]
        events = ResponseEvents(self._request, f"resp_{name[:24]}", self.question.model, 0)
        stream = events.begin()
        for field in ("reasoning_content", "content", "tool_calls"):
            stream += events.take({field: message.get(field)})
        finish = "length" if choice["finish_reason"] == "length" else "stop"
        stream += events.end(finish, usage)
        response = msgspec.json.encode(stream[-1]["response"])
        if self._request.store is not False:
            said = [*self._before, *self._request.said, *messages_of(events.items)]
            self._responses.keep(events.name, response, said)
        if not self.question.stream:
            return response, "application/json"
        return b"".join(
            f"event: {event['type']}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"
            for event in stream
        ), "text/event-stream"
