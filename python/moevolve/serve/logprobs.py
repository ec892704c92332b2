"""Log-probabilities of tokens in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moevolve.models.engine import Engine
from moevolve.serve.samples import OffsetToken


class TokenNames:
    """Tokens as answers tell them.

    Args:
        engine: whose tokens they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def text(self, token: int) -> str:
        """The token's text; without a tokenizer its number."""
        return self._engine.decode([token], special=True) if self._engine.has_tokenizer else str(token)

    def entry(self, token: int, logprob: float) -> dict[str, Any]:
        """A token of a chat's answer."""
        text = self.text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

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
