"""A server's answer to one call, read with suspicion: texts and usage, or a typed failure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import msgspec

from moevolve.models.endpoint.fields import named, rivals
from moevolve.models.endpoint.refusals import EXCERPT, UNREADABLE, excerpt, refusal
from moevolve.protocol.completion import Completion
from moevolve.protocol.messages import ToolCall

FINISHES = {
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens"), "length"),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(("content_filter", "safety", "prohibited_content", "recitation"), "content_filter"),
    "refusal": "refusal",
}
"""Reasons to end that are kept, by the words of servers in small letters; whatever else a server says is `stop`."""
_THOUGHT = re.compile(
    r"\s*<((?:\w{1,40}:)?(?:think|thinking|thought|reasoning))>(.*?)(?:</\1>\s*|\Z)",
    re.DOTALL | re.IGNORECASE,
)
"""Reasoning that stands in the text before the answer, in an element whose name has a prefix in some families; one that is
never closed is all there is."""
_THOUGHT_END = re.compile(r"</((?:\w{1,40}:)?think)>", re.IGNORECASE)
"""What ends reasoning that a template has begun: its beginning is then no part of the text."""
LONGEST_HOLD = 1e9
"""Seconds that a server can ask for; whoever asks for more means as much."""
Count = Annotated[float, msgspec.Meta(ge=0, le=10**9)]
"""Some servers count in floats."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of a call as the server reports them."""

    prompt: int
    cached: int
    completion: int


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one call."""

    completions: list[Completion] = []
    failure: str | None = None
    detail: str = ""
    usage: Usage | None = None
    answered: bool = False
    """Whether the server did the work, so that it will charge for it."""
    hold: float = 0.0
    """Seconds for which the server wants no more calls."""
    named: tuple[str, ...] = ()
    """Fields that a refusal is about."""
    rivals: frozenset[str] = frozenset()
    """Those of them that the server refuses beside each other only."""

    @property
    def texts(self) -> list[str]:
        """The completions' texts."""
        return [completion.text for completion in self.completions]


class _Message(msgspec.Struct):
    content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    thinking: Any = None
    refusal: Any = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None
    finish_reason: Any = None
    index: Any = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] = "{}"


class _ToolCall(msgspec.Struct):
    function: _Function
    id: Any = None


class _Reply(msgspec.Struct):
    choices: list[_Choice]


class _Details(msgspec.Struct):
    cached_tokens: Count | None = None


class _UsageFigures(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None


class _Used(msgspec.Struct):
    usage: _UsageFigures


def read(status: int, headers: Mapping[str, str], body: bytes, api: str, now: Callable[[], float]) -> Call:
    """Reads an answer.

    Args:
        status: the HTTP status.
        headers: the answer's, by lower-case name.
        body: its whole body, the key already taken out.
        api: `chat` or `completions`.
        now: seconds since 1970, for servers that name a date to come back at.
    """
    hold = asked_to_wait(headers, now)
    if status != 200:
        failure, detail = refusal(status, body)
        call = Call(failure=failure, detail=detail, hold=hold)
        # A filter repeats the prompt, whose words are no names of fields.
        return _about(call, body) if status in (400, 422) and failure == "rejected" else call
    try:
        value = _decoded(body)
    except UNREADABLE as error:
        cut = "truncated" in str(error) and body.lstrip()[:1] == b"{"
        detail = f"{'cut' if cut else 'no'} JSON: {excerpt(body)!r}"
        return Call(failure="truncated" if cut else "malformed", detail=detail, hold=hold)
    usage = _usage(value)
    exhausted = hold if headers.get("x-ratelimit-remaining-requests") == "0" else 0.0

    def broken(failure: str, detail: str) -> Call:
        return Call(failure=failure, detail=detail, usage=usage, answered=usage is not None, hold=exhausted)

    if isinstance(value, dict) and not value.get("choices") and (told := _told_status(value)) is not None:
        # An error under the status of an answer, as gateways send what stands behind them.
        failure, detail = refusal(told, body)
        told_so = f"an error as an answer, {detail}"
        call = Call(failure=failure, detail=told_so, usage=usage, answered=usage is not None, hold=hold)
        return _about(call, body) if failure in ("rejected", "server_error") else call
    try:
        choices = msgspec.convert(value, _Reply).choices
    except msgspec.ValidationError as error:
        return broken("malformed", f"not the answer of an OpenAI-compatible server: {error}"[:EXCERPT])
    if all(isinstance(choice.index, int) for choice in choices):
        choices.sort(key=lambda choice: choice.index)
    if choices and all(choice.finish_reason == "error" for choice in choices):
        return broken("server_error", f"the server broke off: {excerpt(body)}")
    completions = []
    for place, choice in enumerate(choices):
        # The server counts its choices together; shares that add up to the whole are as good as any.
        share = None
        if usage is not None:
            share = usage.completion * (place + 1) // len(choices) - usage.completion * place // len(choices)
        finish = FINISHES.get(str(choice.finish_reason).lower(), "stop")
        if api == "chat" and choice.message is not None:
            completions.append(_turn(choice.message, finish, share))
        elif api != "chat" and choice.text is not None:
            completions.append(Completion(choice.text, [], [], finish, usage=share))
        else:
            return broken("malformed", f"a choice without a {'message' if api == 'chat' else 'text'}")
    if not completions:
        return broken("malformed", "no choices")
    return Call(completions=completions, usage=usage, answered=True, hold=exhausted)


def _about(call: Call, body: bytes) -> Call:
    """The call with the fields that its refusal is about."""
    return msgspec.structs.replace(call, named=named(body), rivals=rivals(body))


def _turn(message: _Message, finish: str, usage: int | None) -> Completion:
    """A turn; what was meant as a call and cannot be read as one stays in its text."""
    fields = (message.reasoning_content, message.reasoning, message.thinking, message.reasoning_details)
    apart = next((text for text in map(_thought, fields) if text), "")
    content, thoughts, refusals = _content(message.content, apart)
    texts = [content]
    calls: list[ToolCall] = []
    made = message.tool_calls if isinstance(message.tool_calls, list) else []
    if message.function_call is not None and not made:
        made = [{"function": message.function_call}]  # the older form of one call
    for said in made:
        try:
            call = msgspec.convert(said, _ToolCall)
            arguments = call.function.arguments
            if isinstance(arguments, str):
                arguments = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
        except UNREADABLE:
            texts.append(msgspec.json.encode(said).decode())
        else:
            calls.append(ToolCall(len(calls), call.function.name, arguments, _id(call.id)))
    reasoning = apart or thoughts
    text = "\n".join(text for text in texts if text)
    if not text and (refusals or (isinstance(message.refusal, str) and message.refusal)):
        finish = "refusal"
    elif reasoning and not text and not calls and finish in ("stop", "length"):
        finish = "reasoning"
    return Completion(text, [], [], finish, tuple(calls), reasoning, usage)


def _id(said: Any) -> str:
    """A call's id, which some servers count in numbers."""
    return str(said) if isinstance(said, str | int | float) else ""


def _content(content: Any, apart: str) -> tuple[str, str, bool]:
    """(text, reasoning, whether it is a refusal) of a message's content; reasoning that a text begins with is told apart.

    Args:
        content: as the server sent it.
        apart: the reasoning that came in a field of its own: a mark inside the text is then the answer's.
    """
    if content is None or isinstance(content, str):
        return *_apart(content or "", apart), False
    parts = content if isinstance(content, list) else [content]
    texts, thoughts, refusals = [], [], False
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            kind = part.get("type", "text")
            if kind in ("text", "output_text"):
                texts.append(part["text"] if isinstance(part.get("text"), str) else "")
            elif kind in ("thinking", "reasoning"):
                thoughts.append(_thought(part))
            refusals = refusals or kind == "refusal"
        else:
            texts.append(msgspec.json.encode(part).decode())
    text, thought = _apart("".join(texts), apart or "".join(thoughts))
    return text, "".join(thoughts) or thought, refusals


def _apart(text: str, known: str) -> tuple[str, str]:
    """(answer, reasoning) of a text that may begin with its reasoning or inside it; what is `known` may be there again."""
    found = _THOUGHT.match(text)
    if found is not None and (not known or found.group(2).strip() == known.strip()):
        return text[found.end() :], found.group(2).strip()
    end = None if known else _THOUGHT_END.search(text)
    if end is not None and f"<{end[1].lower()}>" not in text[: end.start()].lower():
        return text[end.end() :].lstrip(), text[: end.start()].strip()
    return text, ""


def _thought(said: Any) -> str:
    """Reasoning in whatever form a server gives it: a text, parts, or an object that holds either."""
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        return "".join(map(_thought, said))
    if isinstance(said, dict):
        keys = ("text", "thinking", "reasoning", "content", "summary")
        return next((text for key in keys if (text := _thought(said.get(key)))), "")
    return ""


def _decoded(body: bytes) -> Any:
    """A server's JSON, as generously as Python reads it: with a byte order mark, in UTF-16, with NaN and half characters.

    Raises:
        one of `UNREADABLE`: it is none.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as strict:
        try:
            return _whole(json.loads(body))
        except ValueError:
            raise strict from None


def _whole(value: Any) -> Any:
    """The value with U+FFFD for halves of characters."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in value.items()}
    return value


def _told_status(value: dict[str, Any]) -> int | None:
    """The status that an error tells which came with another one; 500 where it tells none, None for no error."""
    error = value.get("error", value.get("errors", value.get("detail")))
    if not error and "choices" in value:
        return None
    if not error and not isinstance(value.get("message"), str):
        return None
    for holder in (error, value):
        for key in ("code", "status", "statusCode", "status_code"):
            said = holder.get(key) if isinstance(holder, dict) else None
            if str(said).isdecimal() and 400 <= int(str(said)) < 600:
                return int(str(said))
    return 500


def asked_to_wait(headers: Mapping[str, str], now: Callable[[], float]) -> float:
    """Seconds that the server asks to be left alone, 0 where it asks for none or says it in no known way."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    if after is not None:
        if (seconds := _number(after)) is not None:
            return seconds
        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - now())
        except (ValueError, OverflowError):
            pass
    if headers.get("x-ratelimit-remaining-requests") == "0":
        return _span(headers.get("x-ratelimit-reset-requests", ""))
    return 0.0


def _number(text: str | None) -> float | None:
    """A non-negative decimal number."""
    if text is None or not re.fullmatch(r"\s*\d+(\.\d+)?\s*", text, re.ASCII):
        return None
    return min(float(text), LONGEST_HOLD)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _span(text: str) -> float:
    """A span such as `6m0s`, `20ms` or `1.5s`, in seconds; 0 for anything else."""
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text, re.ASCII):
        return 0.0
    seconds = sum(
        float(value) * _UNITS[unit] for value, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h)", text)
    )
    return min(seconds, LONGEST_HOLD)


def _usage(value: Any) -> Usage | None:
    try:
        found = msgspec.convert(value, _Used).usage
    except msgspec.ValidationError:
        return None
    prompt = found.input_tokens if found.prompt_tokens is None else found.prompt_tokens
    completion = found.output_tokens if found.completion_tokens is None else found.completion_tokens
    if prompt is None:
        return None
    details = found.prompt_tokens_details
    cached = min((details.cached_tokens or 0) if details else 0, prompt)
    return Usage(int(prompt), int(cached), int(completion or 0))
