"""Messages between the host and a sandboxed program: JSON, since nothing that runs code may decode a
stranger's bytes.

Everything that the process sends is decoded strictly here, types, ranges and lengths; a message that does not
fit is the program's failure `malformed`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from moevolve.protocol.messages import Message

Index = Annotated[int, msgspec.Meta(ge=0)]


class WireRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One request: its kind, the attempt that makes it, and what the kind's own form reads (see `gateway`)."""

    kind: Annotated[str, msgspec.Meta(max_length=64)]
    attempt: Index
    arguments: msgspec.Raw


class WireDone(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An attempt that ended: with an answer, or with a failure and its detail."""

    attempt: Index
    answer: str | None
    failure: str | None
    detail: Annotated[str, msgspec.Meta(max_length=2000)]


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests of all attempts when each is blocked or done; the last round has none."""

    requests: list[WireRequest]
    done: list[WireDone]


class Replies(msgspec.Struct, frozen=True):
    """Answers to a round, in its order.

    Each is ((tokens, further requests, tokens of the prompt), value); or (tokens, None, error, detail) for an error that is
    raised in the program; None tells an attempt that it is over its budget and ended.
    """

    replies: list[Any]


class Start(msgspec.Struct, frozen=True):
    """The first message to a process."""

    mode: str
    """`solve`, `plan`, `improve`, `recipe` or `select`."""
    files: dict[str, str]
    tasks: list[tuple[str, str, tuple[Message, ...]]]
    """(prompt, skill, conversation); (verb, skill, nothing) for `plan`, all empty for the others."""
    seeds: list[int]
    limits: dict[str, float]
    """What is left to spend, for the program to see; the host counts for itself."""
    argument: msgspec.Raw
    """The brief or a report."""


class WireEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One edit as an improver returns it."""

    path: Annotated[str, msgspec.Meta(max_length=120)]
    text: Annotated[str, msgspec.Meta(max_length=64 << 10)]
    operator: Annotated[str, msgspec.Meta(max_length=64)]
    summary: Annotated[str, msgspec.Meta(max_length=2000)]


decode_round = msgspec.json.Decoder(Round, strict=True).decode
decode_candidates = msgspec.json.Decoder(list[msgspec.Raw], strict=True).decode
decode_edits = msgspec.json.Decoder(list[WireEdit], strict=True).decode
encode = msgspec.json.Encoder().encode
