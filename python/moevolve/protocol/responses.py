"""OpenAI's Responses interface in terms of chats: its requests as chats, a chat's turn as its items and events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Item = dict[str, Any]
PARTS = {
    "text": ("format", "verbosity"),
    "reasoning": ("effort", "summary", "generate_summary"),
    "stream_options": ("include_usage", "include_obfuscation"),
}
"""What the fields that are objects hold; the rest would change an answer, or is misspelt."""
MOST_NAME = 60
"""Characters of a name in an error."""
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


class Unsaid(ValueError):
    """A request that no chat says.

    Args:
        field: of the body.
        reason: why.
        code: `invalid_value`, or `unsupported_value` of what is not built.
    """

    def __init__(self, field: str, reason: str, code: str = "unsupported_value") -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.code = code


class ResponsesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/responses."""

    input: str | list[Item]
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[Item] | None = None
    tool_choice: str | Item | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: Item | None = None
    store: bool | None = None
    text: Item | None = None
    reasoning: Item | None = None
    metadata: Item | None = None
    user: str | None = None
    background: bool | None = None
    max_tool_calls: int | None = None

    def check(self) -> None:
        """Refuses what is not built.

        Raises:
            Unsaid: names the field.
        """
        if self.background:
            raise Unsaid("background", "answers come in the same call")
        for field, known in PARTS.items():
            for name, value in (getattr(self, field) or {}).items():
                if name not in known and value is not None:
                    raise Unsaid(f"{field}.{name[:MOST_NAME]}", f"one of {', '.join(known)}")
        if not isinstance((self.reasoning or {}).get("effort"), str | None):
            raise Unsaid("reasoning.effort", "a word", "invalid_value")
        for index, tool in enumerate(self.tools or ()):
            if tool.get("type") != "function" or not isinstance(tool.get("name"), str):
                raise Unsaid(f"tools[{index}]", 'functions only: {"type": "function", "name": ..., ...}')

    def chat_body(self, before: Sequence[Item] = ()) -> Item:
        """The same as the body of a chat; what is not asked for is left out.

        Args:
            before: messages of the conversation that `previous_response_id` names.

        Raises:
            Unsaid: an item of `input` cannot be said in a chat; names it.
        """
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        form = (self.text or {}).get("format")
        effort = (self.reasoning or {}).get("effort")
        body = {
            "model": self.model,
            "messages": [*system, *before, *self.said],
            "tools": [_tool(tool) for tool in self.tools] if self.tools else None,
            "tool_choice": _choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": self.seed,
            "stream": self.stream,
            "stream_options": {"include_usage": True} if self.stream else None,
            "response_format": _form(form),
            "reasoning_effort": effort,
            "user": self.user,
        }
        return {name: value for name, value in body.items() if value is not None}

    @property
    def said(self) -> list[Item]:
        """The input as messages.

        Raises:
            Unsaid: as `chat`.
        """
        given = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        return messages_of(given)


def _tool(tool: Mapping[str, Any]) -> Item:
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def _choice(choice: str | Item | None) -> str | Item | None:
    """A choice of tools as a chat has it: a function is named one level further in."""
    if isinstance(choice, dict) and choice.get("type") == "function" and "function" not in choice:
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def _form(form: Any) -> Item | None:
    if form is None:
        return None
    if not isinstance(form, dict):
        raise Unsaid("text.format", "an object with a type", "invalid_value")
    if form.get("type") != "json_schema" or form.get("json_schema") is not None:
        return form  # the second in the shape of chats
    return {"type": "json_schema", "json_schema": {key: form[key] for key in form if key != "type"}}


def messages_of(items: Sequence[Item]) -> list[Item]:
    """Items of an input, or an output, as messages.

    Raises:
        Unsaid: names the item that cannot be said so.
    """
    told: list[Item] = []
    for index, item in enumerate(items):
        where = f"input[{index}]"
        match item.get("type", "message"):
            case "message":
                told.append(
                    {"role": item.get("role"), "content": _parts(f"{where}.content", item.get("content"))}
                )
            case "function_call":
                call = {
                    "id": item.get("call_id"),
                    "type": "function",
                    "function": {"name": item.get("name"), "arguments": item.get("arguments", "{}")},
                }
                if told and told[-1]["role"] == "assistant":
                    told[-1].setdefault("tool_calls", []).append(call)
                else:
                    told.append({"role": "assistant", "content": None, "tool_calls": [call]})
            case "function_call_output":
                output = _parts(f"{where}.output", item.get("output"))
                told.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": output})
            case "reasoning":
                continue  # what was thought before is not told again, as templates leave it out
            case other:
                raise Unsaid(where, f"an item of type {other!r}")
    return told


def _parts(where: str, content: Any) -> Any:
    if not isinstance(content, list):
        return content
    for part in content:
        if (
            not isinstance(part, dict)
            or part.get("type") not in _TEXTS
            or not isinstance(part.get("text"), str)
        ):
            raise Unsaid(where, "texts only")
    return [{"type": "text", "text": part["text"]} for part in content]


class ResponseEvents:
    """A turn's deltas as items of a response, and as the events of its stream.

    Args:
        request: what was asked.
        name: the response's id.
        model: the model's name.
        created: when, in seconds since 1970.
    """

    def __init__(self, request: ResponsesRequest, name: str, model: str, created: int) -> None:
        self.name = name
        self._request = request
        self._model = model
        self._created = created
        self._count = 0
        self._number = name.removeprefix("resp_")
        self.items: list[Item] = []
        self._open: str | None = None
        """Type of the item that is still growing."""

    def begin(self) -> list[Item]:
        """The events before the first item."""
        return [
            self._event("response.created", response=self.response("in_progress", None)),
            self._event("response.in_progress", response=self.response("in_progress", None)),
        ]

    def take(self, delta: Mapping[str, Any]) -> list[Item]:
        """What a chat's delta adds."""
        events: list[Item] = []
        if text := delta.get("reasoning_content"):
            events += self._text("reasoning", str(text))
        if text := delta.get("content"):
            events += self._text("message", str(text))
        for call in delta.get("tool_calls") or ():
            events += self._call(call)
        return events

    def end(self, finish: str | None, usage: Mapping[str, int]) -> list[Item]:
        """The events behind the last item."""
        events = self._close()
        status = "incomplete" if finish == "length" else "completed"
        return [*events, self._event(f"response.{status}", response=self.response(status, usage))]

    def failed(self, error: Mapping[str, Any]) -> Item:
        """The event of an answer that came to no end."""
        response = {
            **self.response("failed", None),
            "error": {"code": "server_error", "message": error["message"]},
        }
        return self._event("response.failed", response=response)

    def response(self, status: str, usage: Mapping[str, int] | None) -> Item:
        """The response as it stands."""
        asked = self._request
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self.name,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": cut,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": self._model,
            "output": self.items,
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": asked.previous_response_id,
            "reasoning": {"effort": (asked.reasoning or {}).get("effort"), "summary": None},
            "store": asked.store is not False,
            "temperature": 1.0 if asked.temperature is None else asked.temperature,
            "text": {"format": (asked.text or {}).get("format") or {"type": "text"}},
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools or [],
            "top_p": 1.0 if asked.top_p is None else asked.top_p,
            "truncation": "disabled",
            "usage": None if usage is None else _usage(usage),
            "user": asked.user,
            "metadata": asked.metadata or {},
        }

    def _text(self, kind: str, text: str) -> list[Item]:
        events = [] if self._open == kind else [*self._close(), *self._begin_text(kind)]
        item = self.items[-1]
        item["content"][0]["text"] += text
        place = {"item_id": item["id"], "output_index": len(self.items) - 1, "content_index": 0}
        if kind == "reasoning":
            return [*events, self._event("response.reasoning_text.delta", **place, delta=text)]
        return [*events, self._event("response.output_text.delta", **place, delta=text, logprobs=[])]

    def _begin_text(self, kind: str) -> list[Item]:
        self._open = kind
        at = len(self.items)
        if kind == "reasoning":
            part: Item = {"type": "reasoning_text", "text": ""}
            item: Item = {
                "id": f"rs_{self._number}_{at}",
                "type": "reasoning",
                "summary": [],
                "content": [part],
            }
        else:
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            item = {
                "id": f"msg_{self._number}_{at}",
                "type": "message",
                "role": "assistant",
                "content": [part],
            }
        item["status"] = "in_progress"
        self.items.append(item)
        place = {"item_id": item["id"], "output_index": at, "content_index": 0}
        return [
            self._event("response.output_item.added", output_index=at, item={**item, "content": []}),
            self._event("response.content_part.added", **place, part=dict(part)),
        ]

    def _call(self, call: Mapping[str, Any]) -> list[Item]:
        events: list[Item] = []
        function = call.get("function", {})
        if call.get("id"):
            events += self._close()
            at = len(self.items)
            item: Item = {
                "id": f"fc_{self._number}_{at}",
                "type": "function_call",
                "call_id": call["id"],
                "name": function.get("name"),
                "arguments": "",
                "status": "in_progress",
            }
            self._open = "function_call"
            self.items.append(item)
            events.append(self._event("response.output_item.added", output_index=at, item=dict(item)))
        if arguments := function.get("arguments"):
            item = self.items[-1]
            item["arguments"] += arguments
            place = {"item_id": item["id"], "output_index": len(self.items) - 1}
            events.append(self._event("response.function_call_arguments.delta", **place, delta=arguments))
        return events

    def _close(self) -> list[Item]:
        """Ends the item that is open."""
        if self._open is None:
            return []
        kind, self._open = self._open, None
        item, at = self.items[-1], len(self.items) - 1
        item["status"] = "completed"
        place: Item = {"item_id": item["id"], "output_index": at}
        done = self._event("response.output_item.done", output_index=at, item=item)
        if kind == "function_call":
            told = {"arguments": item["arguments"], "name": item["name"]}
            return self._ordered(self._event("response.function_call_arguments.done", **place, **told), done)
        part = item["content"][0]
        name = "response.reasoning_text.done" if kind == "reasoning" else "response.output_text.done"
        more: Item = {} if kind == "reasoning" else {"logprobs": []}
        text = self._event(name, **place, content_index=0, text=part["text"], **more)
        whole = self._event("response.content_part.done", **place, content_index=0, part=part)
        return self._ordered(text, whole, done)

    def _ordered(self, *events: Item) -> list[Item]:
        """Events numbered in this order."""
        numbers = sorted(event["sequence_number"] for event in events)
        return [{**event, "sequence_number": number} for event, number in zip(events, numbers, strict=True)]

    def _event(self, kind: str, **fields: Any) -> Item:
        self._count += 1
        return {"type": kind, "sequence_number": self._count - 1, **fields}


def _usage(usage: Mapping[str, int]) -> Item:
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }
