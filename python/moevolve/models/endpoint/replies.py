"""A server's answer to one call, read with suspicion: texts and usage, or a typed failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import msgspec

from moevolve.journal.text import line
from moevolve.models.endpoint.fields import named
from moevolve.protocol.completion import Completion
from moevolve.protocol.messages import ToolCall

FATAL = frozenset({"auth", "quota", "missing"})
"""Failures that no further try and no other request can mend: the run ends."""
LASTING = FATAL | {"rejected"}
"""Failures that come again if the same call is made again."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a stranger's JSON may raise; a text of brackets nests deeper than Python goes."""
FINISHES = ("length", "tool_calls", "content_filter")
"""Reasons to end that are kept; whatever else a server says is `stop`."""
_THOUGHT = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)
"""Reasoning that stands in the text before the answer; one that is never closed is all there is."""
EXCERPT = 200
"""Characters of a server's message that are kept."""

Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


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

    @property
    def texts(self) -> list[str]:
        """The completions' texts."""
        return [completion.text for completion in self.completions]


class _Part(msgspec.Struct):
    """A part of a content that is a list: a text, or reasoning, which some servers nest once more."""

    type: str = "text"
    text: str | None = None
    thinking: Any = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    tool_calls: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None
    finish_reason: Any = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] = "{}"


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice]


class _Details(msgspec.Struct):
    cached_tokens: Count | None = None


class _UsageFigures(msgspec.Struct):
    prompt_tokens: Count
    completion_tokens: Count = 0
    prompt_tokens_details: _Details | None = None


class _Used(msgspec.Struct):
    usage: _UsageFigures


class _Problem(msgspec.Struct):
    message: str = ""
    code: str | int | None = None
    type: str | None = None


class _Refusal(msgspec.Struct):
    error: _Problem | str


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
        failure, detail = _refusal(status, body)
        about = named(body) if status in (400, 422) else ()
        return Call(failure=failure, detail=detail, hold=hold, named=about)
    usage = _usage(body)
    exhausted = hold if headers.get("x-ratelimit-remaining-requests") == "0" else 0.0

    def broken(failure: str, detail: str) -> Call:
        return Call(failure=failure, detail=detail, usage=usage, answered=usage is not None, hold=exhausted)

    try:
        choices = msgspec.json.decode(body, type=_Reply).choices
    except msgspec.ValidationError as error:
        return broken("malformed", f"not the answer of an OpenAI-compatible server: {error}"[:EXCERPT])
    except UNREADABLE as error:
        cut = "truncated" in str(error) and body.lstrip()[:1] == b"{"
        return broken(
            "truncated" if cut else "malformed", f"{'cut' if cut else 'no'} JSON: {excerpt(body)!r}"
        )
    completions = []
    for place, choice in enumerate(choices):
        # The server counts its choices together; shares that add up to the whole are as good as any.
        share = None
        if usage is not None:
            share = usage.completion * (place + 1) // len(choices) - usage.completion * place // len(choices)
        finish = choice.finish_reason if choice.finish_reason in FINISHES else "stop"
        if api == "chat" and choice.message is not None:
            completions.append(_turn(choice.message, finish, share))
        elif api != "chat" and choice.text is not None:
            completions.append(Completion(choice.text, [], [], finish, usage=share))
        else:
            return broken("malformed", f"a choice without a {'message' if api == 'chat' else 'text'}")
    if not completions:
        return broken("malformed", "no choices")
    return Call(completions=completions, usage=usage, answered=True, hold=exhausted)


def _turn(message: _Message, finish: str, usage: int | None) -> Completion:
    """A turn; what was meant as a call and cannot be read as one stays in its text."""
    content, thoughts = _content(message.content)
    texts = [content]
    calls: list[ToolCall] = []
    for said in message.tool_calls if isinstance(message.tool_calls, list) else []:
        try:
            call = msgspec.convert(said, _ToolCall)
            arguments = call.function.arguments
            if isinstance(arguments, str):
                arguments = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
        except UNREADABLE:
            texts.append(msgspec.json.encode(said).decode())
        else:
            calls.append(ToolCall(len(calls), call.function.name, arguments, call.id or ""))
    told = (message.reasoning_content, message.reasoning)
    reasoning = next((text for text in told if isinstance(text, str) and text), thoughts)
    text = "\n".join(text for text in texts if text)
    if not text and isinstance(message.refusal, str) and message.refusal:
        finish = "refusal"
    elif reasoning and not text and not calls and finish in ("stop", "length"):
        finish = "reasoning"
    return Completion(text, [], [], finish, tuple(calls), reasoning, usage)


def _content(content: str | list[_Part] | None) -> tuple[str, str]:
    """(text, reasoning) of a message's content; a `<think>` element that it begins with is reasoning."""
    if isinstance(content, list):
        thoughts = [part.text or "" for part in content if part.type == "text"]
        nested = [part.thinking for part in content if part.type == "thinking"]
        return "".join(thoughts), "".join(map(_thought, nested))
    text = content or ""
    found = _THOUGHT.match(text)
    if found is None:
        return text, ""
    return text[found.end() :], found.group(1).strip()


def _thought(thinking: Any) -> str:
    if isinstance(thinking, str):
        return thinking
    parts = thinking if isinstance(thinking, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def excerpt(body: bytes) -> str:
    """The beginning of a server's message, in one printable line."""
    shown = line(body[: 4 * EXCERPT].decode("utf-8", "replace"), EXCERPT)
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)


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
    if text is None or not re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", text, re.ASCII):
        return None
    return float(text)


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _span(text: str) -> float:
    """A span such as `6m0s`, `20ms` or `1.5s`, in seconds; 0 for anything else."""
    if not re.fullmatch(r"(\d{1,9}(\.\d{1,9})?(ms|s|m|h))+", text, re.ASCII):
        return 0.0
    return sum(float(value) * _UNITS[unit] for value, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h)", text))


def _usage(body: bytes) -> Usage | None:
    try:
        found = msgspec.json.decode(body, type=_Used).usage
    except UNREADABLE:
        return None
    details = found.prompt_tokens_details
    cached = min((details.cached_tokens or 0) if details else 0, found.prompt_tokens)
    return Usage(found.prompt_tokens, cached, found.completion_tokens)


def _refusal(status: int, body: bytes) -> tuple[str, str]:
    """(type, detail) of an answer that is none."""
    problem = _Problem()
    try:
        found = msgspec.json.decode(body, type=_Refusal).error
        problem = _Problem(message=found) if isinstance(found, str) else found
    except UNREADABLE:
        pass
    said = excerpt(problem.message.encode() or body)
    detail = f"status {status}" + (f": {said}" if said else "")
    if status == 402 or "insufficient_quota" in (problem.code, problem.type):
        return "quota", detail
    if status in (401, 403):
        return "auth", detail
    if status in (404, 405, 410) or 300 <= status < 400:
        return "missing", detail
    if status == 429:
        return "rate_limited", detail
    if status in (408, 504):
        return "timeout", detail
    if status >= 500 or status in (409, 425):
        return "server_error", detail
    if 400 <= status < 500:
        return "rejected", detail
    return "malformed", detail
