"""Records as schema version 2 wrote them, and the records that say the same now.

Kinds that are not named here read as they are: what a newer struct holds more has a default.
"""

from __future__ import annotations

from typing import Any

import msgspec

from moevolve.records import Gated, Record, RolledBack, RunStarted, VariantAdded

_ROLLBACK = "rolled back on request"


def upgrade(body: bytes) -> Record:
    """The record of a body of version 2.

    Raises:
        msgspec.DecodeError: the body is none of that version either.
    """
    fields: dict[str, Any] = msgspec.msgpack.decode(body)
    match fields.get("kind"):
        case "run_started":
            # There was one suite then, and the host built its answers from completions.
            return msgspec.convert(fields | {"answers": "policy"}, RunStarted)
        case "variant_added":
            parent = fields.pop("parent", None)
            # A score could be the parent's; the variant's own stands in `Screened`.
            changes = {"parents": [] if parent is None else [parent], "score": None}
            return msgspec.convert(fields | changes, VariantAdded)
        case "gated" if fields.get("n") == 0 and fields.get("reason") == _ROLLBACK:
            return RolledBack(
                cycle=fields["cycle"],
                champion=fields["candidate"],
                before=fields["champion"],
                reason=_ROLLBACK,
            )
        case "gated":
            return msgspec.convert(fields | {"tokens": None}, Gated)
        case kind:
            raise msgspec.ValidationError(f"no record of schema version 2 is a {kind!r}")
