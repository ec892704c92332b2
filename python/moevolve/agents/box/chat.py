"""OpenAI's requests as those of `agent.generate`, and its answers as OpenAI's: one table of handlers behind both.

What would change an answer and cannot be honoured is refused by its name; nothing is dropped silently. Ids and times are
functions of the request, so that an agent which reads them asks the same again in a replay.
"""

from __future__ import annotations

from typing import Any

import msgspec

from moevolve.protocol.functions import with_tool_calls
from moevolve.protocol.responses import Unsaid

Body = dict[str, Any]

SPEAKER = ("user", "metadata", "store", "stream", "stream_options", "model")
"""Fields that say who asks and how the answer travels: they change no answer, and no exchange's name."""
HARMLESS: dict[str, tuple[Any, ...]] = {
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "echo": (False,),
    "best_of": (1,),
    "suffix": ("",),
    "service_tier": ("auto", "default"),
    "extra_headers": ({},),
}
"""Fields that are known and not built, with the values that ask for what happens anyway."""
PLAIN = (
    "n", "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty",
)  # fmt: skip


class Unfit(Exception):
    """A request that cannot be put to the policy as it is; the message names the field."""


class Question(msgspec.Struct, frozen=True):
    """A request of an agent."""

    arguments: bytes
    """Of `agent.generate`, as canonical JSON."""
    chat: bool
    model: str
    stream: bool
    tells_usage: bool
    must_call: str | None
    """A tool that has to be called, empty for any; None where the model is free."""
    one_call: bool


def chat(body: Body) -> Question:
    """POST /v1/chat/completions.

    Raises:
        Unfit: names the field.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Unfit("messages: a list of at least one message")
    arguments = _arguments(body, {"messages", "max_completion_tokens", "response_format", "seed", "stop", "tools",
                                  "tool_choice", "parallel_tool_calls"})  # fmt: skip
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Unfit(f"messages[{index}]: a message has a role")
    try:
        messages = with_tool_calls(messages)
    except Unsaid as error:
        raise Unfit(str(error)) from error
    arguments["prompt"] = [_message(index, message) for index, message in enumerate(messages)]
    if (schema := _schema(body.get("response_format"))) is not None:
        arguments["schema"] = schema
    choice = body.get("tool_choice")
    tools = body.get("tools") or []
    must_call: str | None = None
    if tools and choice != "none":
        arguments["tools"] = [_tool(index, tool) for index, tool in enumerate(tools)]
        must_call = _forced(choice)
    one_call = body.get("parallel_tool_calls") is False and bool(arguments.get("tools"))
    return _question(body, arguments, chat=True, must_call=must_call, one_call=one_call)


def completion(body: Body) -> Question:
    """POST /v1/completions; errors as of `chat`."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Unfit("prompt: one text")
    arguments = _arguments(body, {"prompt", "seed", "stop"})
    arguments["prompt"] = prompt
    return _question(body, arguments, chat=False, must_call=None, one_call=False)


def unkept(question: Question, rows: list[Any]) -> str | None:
    """What the question asked for and the answer does not keep; None where it keeps all."""
    for row in rows:
        names = [call[1] for call in (row[4] if len(row) > 4 else ())]
        if question.must_call is not None and not names:
            return "tool_choice asks for a call, and the model made none"
        if question.must_call and set(names) != {question.must_call}:
            return f"tool_choice asks for {question.must_call!r}, and the model called {', '.join(names)}"
        if question.one_call and len(names) > 1:
            return f"parallel_tool_calls is false, and the model made {len(names)} calls"
    return None


def told(question: Question, name: str, rows: list[Any], usage: dict[str, int]) -> tuple[bytes, str]:
    """The answer's body and content type.

    Args:
        question: what was asked.
        name: of the exchange; ids are made of it.
        rows: completions as `agent.generate` has them.
        usage: tokens, in OpenAI's words.
    """
    choices = [choice(question, name, index, row) for index, row in enumerate(rows)]
    kind = "chat.completion" if question.chat else "text_completion"
    prefix = "chatcmpl" if question.chat else "cmpl"
    head = {"id": f"{prefix}-{name[:24]}", "object": kind, "created": 0, "model": question.model}
    if not question.stream:
        return msgspec.json.encode({**head, "choices": choices, "usage": usage}), "application/json"
    if question.chat:
        head["object"] = "chat.completion.chunk"
    events: list[Any] = []
    for each in choices:
        events.append({**head, "choices": [_first(question, each)]})
        last = {"index": each["index"], "finish_reason": each["finish_reason"]}
        events.append({**head, "choices": [{**last, **({"delta": {}} if question.chat else {"text": ""})}]})
    if question.tells_usage:
        events.append({**head, "choices": [], "usage": usage})
    body = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)
    return body + b"data: [DONE]\n\n", "text/event-stream"


def _arguments(body: Body, known: set[str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {name: body[name] for name in PLAIN if body.get(name) is not None}
    for name, value in body.items():
        if name in known or name in PLAIN or name in SPEAKER or name == "max_tokens" or value is None:
            continue
        if name not in HARMLESS:
            raise Unfit(f"{name}: this field is not known here, and might change the answer: leave it out")
        if value not in HARMLESS[name]:
            raise Unfit(f"{name}: it is not built here, and would change the answer: leave it out")
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most is not None:
        arguments["max_tokens"] = most
    if body.get("stop"):
        arguments["stop"] = body["stop"]
    return arguments


def _question(
    body: Body, arguments: dict[str, Any], *, chat: bool, must_call: str | None, one_call: bool
) -> Question:
    options = body.get("stream_options")
    model = body.get("model")
    return Question(
        arguments=msgspec.json.encode(arguments, order="deterministic"),
        chat=chat,
        model=model if isinstance(model, str) else "policy",
        stream=body.get("stream") is True,
        tells_usage=isinstance(options, dict) and options.get("include_usage") is True,
        must_call=must_call,
        one_call=one_call,
    )


def _message(index: int, message: dict[str, Any]) -> dict[str, Any]:
    where = f"messages[{index}]"
    said = {"role": "system" if message["role"] == "developer" else message["role"]}
    said["content"] = _text(f"{where}.content", message.get("content"))
    for field in ("tool_calls", "tool_call_id", "name"):
        if message.get(field):
            said[field] = message[field]
    if calls := said.get("tool_calls"):
        said["tool_calls"] = [_call(f"{where}.tool_calls", call) for call in calls]
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        said["reasoning"] = reasoning
    return said


def _call(where: str, call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise Unfit(f"{where}: a call is of a function")
    made = {"function": {name: function[name] for name in ("name", "arguments") if name in function}}
    return {**made, "id": call["id"]} if call.get("id") else made


def _text(where: str, content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise Unfit(f"{where}: texts only, as one or in parts")
        texts.append(text)
    return "\n".join(texts)


def _tool(index: int, tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unfit(f"tools[{index}]: a tool is a function with a name")
    described = {"name": function["name"], "description": function.get("description") or ""}
    return {"function": {**described, "parameters": function.get("parameters") or {}}}


def _forced(choice: Any) -> str | None:
    if choice in (None, "auto"):
        return None
    if choice == "required":
        return ""
    name = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    if not isinstance(name, str) or not name:
        raise Unfit("tool_choice: none, auto, required, or one function")
    return name


def _schema(wanted: Any) -> dict[str, Any] | None:
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        own = wanted.get("schema") if isinstance(wanted, dict) else None
        if own is not None and not isinstance(own, dict):
            raise Unfit("response_format.schema: a JSON schema is an object")
        return {"type": "object"} if own is None else own
    schema = wanted.get("json_schema", {}).get("schema") if isinstance(wanted, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        raise Unfit("response_format: text, json_object, or json_schema with its schema")
    return schema


def choice(question: Question, name: str, index: int, row: Any) -> dict[str, Any]:
    """One completion as a choice of the exchange `name`."""
    text, finish = row[0], row[1]
    reason = finish if finish in ("stop", "length", "tool_calls", "content_filter") else "stop"
    if not question.chat:
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": None}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if len(row) > 5 and row[5]:
        message["reasoning_content"] = row[5]
    if len(row) > 4 and row[4]:
        message["content"] = text or None
        message["tool_calls"] = [_made(name, index, place, call) for place, call in enumerate(row[4])]
        reason = "tool_calls"
    return {"index": index, "message": message, "finish_reason": reason, "logprobs": None}


def _made(name: str, index: int, place: int, call: Any) -> dict[str, Any]:
    given, function, arguments = call
    # The model's own numbers begin anew in each turn; clients take ids for names within a conversation.
    ident = given if given != f"call_{place}" else f"call_{name[:12]}_{index}_{place}"
    text = msgspec.json.encode(arguments).decode()
    return {"id": ident, "type": "function", "function": {"name": function, "arguments": text}}


def _first(question: Question, choice: dict[str, Any]) -> dict[str, Any]:
    if not question.chat:
        return {"index": choice["index"], "text": choice["text"], "finish_reason": None}
    delta = dict(choice["message"])
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
    return {"index": choice["index"], "delta": delta, "finish_reason": None}
