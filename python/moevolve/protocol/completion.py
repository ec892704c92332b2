"""Sampled answers."""

from __future__ import annotations

import msgspec

from moevolve.protocol.messages import ToolCall


class Completion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sampled answer, whoever sampled it.

    `logprobs` are natural logs under temperature 1, one per token and one more where an end token was drawn. A server
    tells neither tokens nor logprobs: both are empty there.
    """

    text: str
    tokens: list[int]
    logprobs: list[float]
    finish: str
    """`stop` when an end token or stop text came, `length` at the token limit, `tool_calls` where tools are called; of a
    server also `content_filter`, and `refusal` where the model declined and said nothing else."""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    usage: int | None = None
    """Tokens as a server counted them."""
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()
    """Where the request asks for them: for each of `tokens` the likeliest ones with their log-probabilities."""
    prompt_tokens: int = 0
    """Of a policy's answer to a request: tokens of the prompt as it was read, once, on the first of its completions; 0 where
    a server does not tell."""

    @property
    def logprob(self) -> float | None:
        """Log-probability of the whole answer, its end included; None where it is not known."""
        return sum(self.logprobs) if self.logprobs else None

    @property
    def count(self) -> int:
        """Tokens drawn, an end token included."""
        return max(len(self.tokens), len(self.logprobs)) if self.usage is None else self.usage


class Samples(tuple[Completion, ...]):
    """The completions of one prompt; `.text` and `.tokens` are the first one's."""

    __slots__ = ()

    @property
    def text(self) -> str:
        return self[0].text

    @property
    def tokens(self) -> list[int]:
        return self[0].tokens
