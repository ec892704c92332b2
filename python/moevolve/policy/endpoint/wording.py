"""What a request says on the wire: the one place where prompts become messages."""

from __future__ import annotations

from typing import Any

from moevolve.config import EndpointSection
from moevolve.program.requests import GenerateRequest
from moevolve.randomness import key

PATHS = {"chat": "/chat/completions", "completions": "/completions"}


def body(request: GenerateRequest, model: str, section: EndpointSection, n: int, part: int) -> dict[str, Any]:
    """The JSON body of a call for `n` texts, the `part`-th for this request."""
    chat = section.api == "chat"
    prompt = {"messages": messages(request, section.system)} if chat else {"prompt": request.prompt}
    return prompt | {
        "model": model,
        "n": n,
        "temperature": request.temperature,
        "top_p": request.top_p,
        section.token_field: request.max_tokens,
        # Servers that heed it answer alike when asked alike; 31 bits, since some read a C int.
        "seed": key(request.key, "seed", part) >> 33,
    }


def messages(request: GenerateRequest, system: str | None) -> list[dict[str, str]]:
    """The conversation that asks for an answer."""
    asked = {"role": "user", "content": request.prompt}
    return [{"role": "system", "content": system}, asked] if system else [asked]
