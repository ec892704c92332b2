"""Log-probabilities of tokens in OpenAI's shapes: a token is told by its text, or by its bytes where they are no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moevolve.models.engine import Engine
from moevolve.models.text_reader import TextReader
from moevolve.serve.samples import OffsetToken

Scores = Sequence[tuple[float | None, Sequence[tuple[int, float]]]]
"""Of each token of a prompt its log-probability, None for the first, and the likeliest ones in its place."""


class TokenNames:
    """Tokens as answers tell them.

    Args:
        engine: whose tokens they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def bytes(self, token: int) -> bytes:
        """What the token stands for; without a tokenizer its number."""
        if not self._engine.has_tokenizer:
            return str(token).encode()
        return self._engine.token_bytes([token])[0]

    def text(self, token: int) -> str:
        """The token's text; of one that is part of a character `bytes:` and its bytes, as OpenAI writes them."""
        found = self.bytes(token)
        try:
            return found.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)

    def entry(self, token: int, logprob: float) -> dict[str, Any]:
        """A token of a chat's answer."""
        return {"token": self.text(token), "logprob": logprob, "bytes": list(self.bytes(token))}

    def likeliest(self, top: Sequence[tuple[int, float]]) -> dict[str, float]:
        """Alternatives by their texts; those that read like another one before them by their number."""
        found: dict[str, float] = {}
        for token, logprob in top:
            text = self.text(token)
            found[text if text not in found else f"token_id:{token}"] = logprob
        return found


def in_completion(
    names: TokenNames, tokens: Sequence[OffsetToken], most: int, before: int
) -> dict[str, list[Any] | None]:
    """Drawn tokens as a completion tells them; `before` characters stand before the first."""
    return {
        "tokens": [names.text(told.drawn.token) for told in tokens],
        "token_logprobs": [told.drawn.logprob for told in tokens],
        "top_logprobs": [names.likeliest(told.drawn.top[:most]) for told in tokens] if most else None,
        "text_offset": [before + told.offset for told in tokens],
    }


def of_prompt(engine: Engine, ids: Sequence[int], scores: Scores, most: int) -> dict[str, list[Any] | None]:
    """A prompt's tokens as a completion tells them."""
    names = TokenNames(engine)
    reading = TextReader(engine).read(ids, None)
    return {
        "tokens": [names.text(token) for token in ids],
        "token_logprobs": [logprob for logprob, _ in scores],
        "top_logprobs": [names.likeliest(top) if top else None for _, top in scores] if most else None,
        "text_offset": list(reading.offsets),
    }


def joined(
    first: dict[str, list[Any] | None], second: dict[str, list[Any] | None]
) -> dict[str, list[Any] | None]:
    """Two parts of a text as one."""
    return {name: None if part is None else [*part, *(second[name] or [])] for name, part in first.items()}
