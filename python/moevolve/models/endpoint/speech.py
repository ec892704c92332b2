"""A request on the wire, and the answer in a reply: the one place where prompts become a server's messages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from moevolve.config import EndpointSection
from moevolve.models.messages import in_openai_form
from moevolve.models.prompts import Wording
from moevolve.protocol import packing
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import GenerateRequest
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
FORMAT = 2
"""Version of what a request's digest covers."""
OVERHEAD, EACH = 64, 8
"""Tokens that a conversation, and each of its messages, may cost beyond their text."""
STANDARD = ("frequency_penalty", "presence_penalty", "stop", "logit_bias")
"""Settings of OpenAI's interface that are sent where they are set; temperature, top_p and max_tokens always are."""
ALWAYS = ("max_tokens", "temperature", "top_p")
LATER = ("min_tokens", "allowed_tokens", "constraint")
"""Settings that digests of the first versions did not know."""
SPEED = ("speculate",)
"""Settings that change no answer."""

_DEFAULT = Sampling(max_tokens=1)


class Speech:
    """The way one model of a server is spoken to.

    Args:
        model: the server's name of it.
        section: which interface, the system prompt, and what the server takes beyond OpenAI's interface.
        wording: how a suite's texts are put to an instruct model; None asks with the bare texts.
    """

    def __init__(self, model: str, section: EndpointSection, wording: Wording | None = None) -> None:
        self._model = model
        self._section = section
        self._wording = wording
        self._chat = section.api == "chat"

    def refusal(self, request: GenerateRequest) -> str | None:
        """The reason why this server cannot be asked so, with the key that would allow it; None where it can."""
        for name in request.sampling.__struct_fields__:
            if name in (*ALWAYS, *STANDARD, *SPEED, *self._section.extensions):
                continue
            if getattr(request.sampling, name) != getattr(_DEFAULT, name):
                return (
                    f"{name} is no setting of OpenAI's interface: where the server takes it, name it in "
                    f"endpoint.extensions"
                )
        if not self._chat:
            for name, there in (
                ("a conversation", not isinstance(request.prompt, str)),
                ("tools", bool(request.tools)),
                ("a schema", request.schema is not None),
            ):
                if there:
                    return f"{name} needs endpoint.api = chat, and this run's is {self._section.api}"
        return None

    def body(self, request: GenerateRequest, n: int, part: int) -> dict[str, Any]:
        """The JSON body of a call for `n` completions, the `part`-th for this request."""
        sampling = request.sampling
        said = self._asked(request)
        said |= {
            "model": self._model,
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._section.token_field: sampling.max_tokens,
            # Servers that heed it answer alike when asked alike; 31 bits, since some read a C int.
            "seed": key(request.key, "seed", part) >> 33,
        }
        for name in (*STANDARD, *self._section.extensions):
            value = getattr(sampling, name, None)
            if value is not None and value != getattr(_DEFAULT, name):
                said[name] = dict(value) if name == "logit_bias" else value
        return said

    def messages(self, prompt: str | Sequence[Message], worded: bool = True) -> list[dict[str, Any]]:
        """The conversation that asks `prompt`; one that is a conversation already goes as it is."""
        if not isinstance(prompt, str):
            reasoning = "reasoning_content" in self._section.extensions
            said = [in_openai_form(m, text_arguments=True, reasoning=reasoning) for m in prompt]
        elif self._wording is not None and worded:
            said = [dict(message) for message in self._wording.messages(prompt)]
        else:
            said = [{"role": "user", "content": prompt}]
        system = self._section.system
        if not system:
            return said
        if said[0]["role"] == "system":
            return [{"role": "system", "content": f"{system}\n{said[0]['content']}"}, *said[1:]]
        return [{"role": "system", "content": system}, *said]

    def read(self, text: str, request: GenerateRequest) -> str:
        """The answer in what the model wrote."""
        return self._wording.read(text) if self._wording is not None and _worded(request) else text

    def digest(self, request: GenerateRequest) -> str:
        """Names a request: all that its answer depends on, its key included. 64 hexadecimal digits."""
        parts = (
            FORMAT,
            self._model,
            self._section.api,
            self._asked(request),
            request.n,
            _settings(request.sampling),
            request.key,
        )
        return hashlib.blake2b(packing.encode(parts), digest_size=32).hexdigest()

    def most(self, request: GenerateRequest) -> tuple[int, int]:
        """(prompt, completion) tokens that a request takes at most: a token is a byte or more, and a server that
        ignores `n` reads the prompt for every sample."""
        asked = self._asked(request)
        if self._chat:
            messages = asked.pop("messages")
            read = sum(len(message["content"].encode()) + EACH for message in messages)
            read += sum(len(msgspec.json.encode(m["tool_calls"])) for m in messages if "tool_calls" in m)
            read += sum(len(msgspec.json.encode(value)) for value in asked.values())
        else:
            read = len(asked["prompt"].encode())
        return request.n * (read + OVERHEAD), request.n * request.sampling.max_tokens

    def _asked(self, request: GenerateRequest) -> dict[str, Any]:
        """The prompt as the interface wants it, with tools and schema where there are any."""
        if not self._chat:
            return {"prompt": request.prompt}
        said: dict[str, Any] = {"messages": self.messages(request.prompt, _worded(request))}
        if request.tools:
            said["tools"] = [tool.described() for tool in request.tools]
        if request.schema is not None:
            fits = {"name": "answer", "schema": request.schema, "strict": True}
            said["response_format"] = {"type": "json_schema", "json_schema": fits}
        return said


def _settings(sampling: Sampling) -> msgspec.Struct:
    """The settings that a digest covers: those that came later only where they are set, so that older digests hold."""
    names = [
        name
        for name in sampling.__struct_fields__
        if name not in LATER or getattr(sampling, name) != getattr(_DEFAULT, name)
    ]
    return _struct(tuple(names))(*(getattr(sampling, name) for name in names))


@cache
def _struct(names: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Settings", names)


def _worded(request: GenerateRequest) -> bool:
    return request.worded and not request.tools and isinstance(request.prompt, str)
