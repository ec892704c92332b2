"""What JSON can hold, as msgpack: integers of more than 64 bits, which msgpack has no type for, are an extension of it."""

from __future__ import annotations

from typing import Any

import msgspec

WIDE = 1
"""Code of the extension: an integer's bytes, big end first, with its sign."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def encode(value: Any) -> bytes:
    """Deterministic msgpack of a value. One without wide integers has the bytes that msgspec alone gives it."""
    try:
        return _encode(value)
    except OverflowError:
        return _encode(_narrowed(msgspec.to_builtins(value, builtin_types=(bytes,))))


def wide(code: int, data: memoryview) -> Any:
    """The integer of an extension: the `ext_hook` of a decoder."""
    if code != WIDE:
        return msgspec.msgpack.Ext(code, bytes(data))
    return int.from_bytes(data, "big", signed=True)


def _narrowed(value: Any) -> Any:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return msgspec.msgpack.Ext(WIDE, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if isinstance(value, dict):
        return {key: _narrowed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_narrowed(each) for each in value]
    return value
