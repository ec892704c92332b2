"""How samples are drawn, and what is told about them while they are."""

from __future__ import annotations

import msgspec


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens of a sample are drawn."""

    max_tokens: int
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps every token."""
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    """Texts that end a sample; the completion ends before them."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int = 0
    """Alternatives told with each token, at most 20."""
    speculate: int = 0
    """Most tokens guessed from the prompt a step; the distribution of the draws stays as it is."""
    ignore_eos: bool = False


class Drawn(msgspec.Struct, frozen=True):
    """One token of one sample, its log-probability at temperature 1, and the likeliest tokens with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Event(msgspec.Struct, frozen=True):
    """Progress of one sample in one round."""

    request: int
    sample: int
    drawn: tuple[Drawn, ...]
    finish: str | None
    """None while it goes on, then `stop`, `length` or `cancelled`."""
