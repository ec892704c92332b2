"""The server's key: read from the environment by the host, and kept out of everything that is written or shown."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from moevolve.errors import UsageError
from moevolve.models.endpoint.refusals import UNREADABLE

HIDDEN = "[key]"


class Secret:
    """A key that shows itself in nothing but the header of a call.

    The variable stays in this process's own environment, where `/proc` would show it anyhow; sandboxed processes get
    an environment of their own, without it.
    """

    __slots__ = ("_key", "_name")

    def __init__(self, key: str, name: str) -> None:
        self._key = key
        self._name = name

    @classmethod
    def read(cls, variable: str | None) -> Secret:
        """The key in an environment variable; an empty one where no variable is named.

        Raises:
            UsageError: the variable is not set, or holds what no header can carry.
        """
        if variable is None:
            return cls("", "no key")
        key = os.environ.get(variable, "").strip()
        if not key:
            raise UsageError(f"key_env names the environment variable {variable}, which is not set or empty")
        if not key.isascii() or not key.isprintable():
            raise UsageError(f"the key in {variable} holds characters that no HTTP header can carry")
        return cls(key, variable)

    def headers(self) -> dict[str, str]:
        """What a call carries."""
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def hide(self, body: bytes) -> bytes:
        """A server's answer without the key, should it be in there."""
        if not self._key:
            return body
        if b"\\" in body:
            # JSON has many ways to spell a letter, so look at it in the plainest one.
            try:
                plain = msgspec.json.encode(msgspec.json.decode(body))
            except UNREADABLE:
                plain = b""
            if self._key.encode() in plain:
                body = plain
        return body.replace(self._key.encode(), HIDDEN.encode())

    def hidden(self, value: Any) -> Any:
        """A text, or every text in a value of JSON, without the key, however the bytes that it came from spelled it."""
        if not self._key:
            return value
        if isinstance(value, str):
            return value.replace(self._key, HIDDEN)
        if isinstance(value, dict):
            return {self.hidden(name): self.hidden(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.hidden(inner) for inner in value]
        return value

    def __repr__(self) -> str:
        return f"Secret({self._name})"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written anywhere")
