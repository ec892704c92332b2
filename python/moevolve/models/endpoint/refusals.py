"""A server's refusal read as a type of failure, and its words."""

from __future__ import annotations

import re

import msgspec

from moevolve.journal.text import line
from moevolve.models.endpoint.fields import parts

FATAL = frozenset({"auth", "quota", "missing"})
"""Failures that no further try and no other request can mend: the run ends."""
PROMPT = frozenset({"rejected", "content_filter"})
"""Failures that are about what was asked: the server is there, and another request may be answered."""
LASTING = FATAL | PROMPT
"""Failures that come again if the same call is made again."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a stranger's JSON may raise; a text of brackets nests deeper than Python goes."""
EXCERPT = 200
"""Characters of a server's message that are kept."""
_FILTERS = frozenset(
    (
        "content_filter",
        "content_filtered",
        "content_policy_violation",
        "contentfilter",
        "data_inspection_failed",
        "datainspectionfailed",
        "prompt_blocked",
        "responsibleaipolicyviolation",
    )
)
"""Codes and types, in small letters, of refusals of what did not pass a server's content filter."""
_FLAGGED = "flagged_input"
"""Key under which a gateway repeats what was flagged."""
_FILTERED = re.compile(
    r"\b(?:prompt|input|content)s?\b[^.\n]{0,60}\b(?:flagged|filtered|moderat\w+|inappropriate)\b"
    r"|\b(?:prompt|input|content)s?\b[^.\n]{0,60}\bviolat\w+[^.\n]{0,40}\b(?:polic\w+|guidelines?|terms|rules)\b"
    r"|\bcontent (?:management|moderation) policy\b|\bcontent exists risk\b",
    re.IGNORECASE,
)
"""The same in words of servers that have no name for it."""


class _Problem(msgspec.Struct):
    message: str = ""
    code: str | int | None = None
    type: str | None = None


class _Refusal(msgspec.Struct):
    error: _Problem | str


def refusal(status: int, body: bytes) -> tuple[str, str]:
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
    if status in (400, 403, 422, 451) and filtered(body):
        return "content_filter", detail
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


def filtered(body: bytes) -> bool:
    """Whether a refusal says that the prompt did not pass the server's content filter."""
    _, keys, texts = parts(body)
    return _FLAGGED in keys or any(text.lower() in _FILTERS or _FILTERED.search(text) for text in texts)


def excerpt(body: bytes) -> str:
    """The beginning of a server's message, in one printable line."""
    shown = line(body[: 4 * EXCERPT].decode("utf-8", "replace"), EXCERPT)
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)
