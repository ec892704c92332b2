"""What a request says on the wire, and how its answer is read: the one place where prompts become messages."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from moevolve.config import EndpointSection
from moevolve.errors import UsageError
from moevolve.models.prompts import Message, Wording
from moevolve.protocol import messages as protocol
from moevolve.protocol.requests import GenerateRequest
from moevolve.randomness import key

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
FORMAT = 1
"""Version of what a request's digest covers."""
OVERHEAD, EACH = 64, 8
"""Tokens that a conversation, and each of its messages, may cost beyond their text."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class Speech:
    """How one model of a server is spoken to.

    Args:
        model: the server's name of it.
        section: which interface, and the system prompt.
        wording: how a suite's texts are put to an instruct model; None asks with the bare texts.
    """

    def __init__(self, model: str, section: EndpointSection, wording: Wording | None = None) -> None:
        self._model = model
        self._section = section
        self._wording = wording

    def body(self, request: GenerateRequest, n: int, part: int) -> dict[str, Any]:
        """The JSON body of a call for `n` texts, the `part`-th for this request."""
        chat = self._section.api == "chat"
        said = {"messages": self.messages(request.prompt)} if chat else {"prompt": request.prompt}
        return said | {
            "model": self._model,
            "n": n,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            self._section.token_field: request.sampling.max_tokens,
            # Servers that heed it answer alike when asked alike; 31 bits, since some read a C int.
            "seed": key(request.key, "seed", part) >> 33,
        }

    def messages(self, prompt: str | tuple[protocol.Message, ...]) -> list[Message]:
        """The conversation that asks `prompt`."""
        if not isinstance(prompt, str):
            raise UsageError("this policy answers texts, not conversations")
        said = self._wording.messages(prompt) if self._wording else [{"role": "user", "content": prompt}]
        system = self._section.system
        if not system:
            return said
        if said[0]["role"] == "system":
            return [{"role": "system", "content": f"{system}\n{said[0]['content']}"}, *said[1:]]
        return [{"role": "system", "content": system}, *said]

    def read(self, text: str) -> str:
        """The answer in what the model wrote."""
        return self._wording.read(text) if self._wording else text

    def digest(self, request: GenerateRequest) -> str:
        """Names a request: all that its answer depends on, its key included. 64 hexadecimal digits."""
        parts = (
            FORMAT,
            self._model,
            self._section.api,
            self.messages(request.prompt) if self._section.api == "chat" else request.prompt,
            request.n,
            request.sampling.temperature,
            request.sampling.top_p,
            request.sampling.max_tokens,
            request.key,
        )
        return hashlib.blake2b(_encode(parts), digest_size=32).hexdigest()

    def most(self, request: GenerateRequest) -> tuple[int, int]:
        """(prompt, completion) tokens that a request takes at most: a token is a byte or more, and a server that
        ignores `n` reads the prompt for every sample."""
        if self._section.api == "chat":
            said = self.messages(request.prompt)
            read = sum(len(message["content"].encode()) + EACH for message in said)
        else:
            read = len(str(request.prompt).encode())
        return request.n * (read + OVERHEAD), request.n * request.sampling.max_tokens
