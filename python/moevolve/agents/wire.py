"""Messages between the host and a sandboxed program: JSON, since nothing that runs code may decode a
stranger's bytes.

Everything that the process sends is decoded strictly here, types, ranges and lengths; a message that does not
fit is the program's failure `malformed`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Index = Annotated[int, msgspec.Meta(ge=0)]


class WireRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A prompt for the policy."""

    task: Index
    prompt: str
    n: Annotated[int, msgspec.Meta(ge=1)]
    temperature: Annotated[float, msgspec.Meta(ge=0.0, le=8.0)]
    top_p: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]


class WireRecall(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A query of memory."""

    task: Index
    query: str
    k: Annotated[int, msgspec.Meta(ge=1)]


class WireDone(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An attempt that ended: with an answer, or with a failure and its detail."""

    task: Index
    answer: str | None
    failure: str | None
    detail: Annotated[str, msgspec.Meta(max_length=2000)]


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a process says when every attempt is blocked or done. The last round asks nothing."""

    requests: list[WireRequest]
    recalls: list[WireRecall]
    done: list[WireDone]


class WireLesson(msgspec.Struct, frozen=True, array_like=True):
    """A lesson as a program sees it."""

    prompt: str
    answer: str
    skill: str
    level: int
    success: bool


class Replies(msgspec.Struct, frozen=True):
    """Answers to a round, in its order; None tells an attempt that it is over its budget and ended."""

    requests: list[list[str] | None]
    recalls: list[list[WireLesson]]


class Start(msgspec.Struct, frozen=True):
    """The first message to a process."""

    mode: str
    """`solve`, `improve` or `recipe`."""
    files: dict[str, str]
    tasks: list[tuple[str, str]]
    """(prompt, skill); one empty pair for `improve` and `recipe`."""
    seeds: list[int]
    limits: dict[str, float]
    argument: msgspec.Raw
    """The brief or the report."""


class WireEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One edit as an improver returns it."""

    path: Annotated[str, msgspec.Meta(max_length=64)]
    text: Annotated[str, msgspec.Meta(max_length=64 << 10)]
    operator: Annotated[str, msgspec.Meta(max_length=64)]
    summary: Annotated[str, msgspec.Meta(max_length=2000)]


decode_round = msgspec.json.Decoder(Round, strict=True).decode
decode_candidates = msgspec.json.Decoder(list[list[WireEdit]], strict=True).decode
encode = msgspec.json.Encoder().encode
