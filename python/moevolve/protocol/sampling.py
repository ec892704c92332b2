"""How samples are drawn, and what is told about them while they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec


class Constraint(msgspec.Struct, frozen=True):
    """What a text must be: a schema, an expression or a grammar, as it is compiled."""

    form: Literal["json", "regex", "lark"]
    source: str


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
    """Counts the prompt's tokens too; the other two penalties do not."""
    stop: tuple[str, ...] = ()
    """Texts that end a sample; the completion ends before the one that is complete first."""
    stop_tokens: tuple[int, ...] = ()
    """Tokens that end a sample, besides the model's own."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Tokens and what is added to their logits, after the penalties."""
    top_logprobs: int = 0
    """Alternatives told with each token, at most 20."""
    speculate: int = 0
    """Most draft tokens a step, from what followed the same tokens before; changes the speed alone."""
    ignore_eos: bool = False
    """The model's end tokens are tokens like others."""
    min_tokens: int = 0
    """No end token, and no stop text, ends a sample before so many tokens."""
    allowed_tokens: tuple[int, ...] = ()
    """The only tokens that may come, end tokens among them; empty for all."""
    constraint: Constraint | None = None
    """What the text must be; it ends where that does."""


class TokenRequest(msgspec.Struct, frozen=True):
    """A prompt in tokens, how it is continued, and the samples that continue it: one form for every caller of an engine."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    sampling: Sampling
    keys: Sequence[int]
    """One sample a key of 64 bits; the key is all the randomness of a sample."""
    marks: Sequence[str] | None = ()
    """Special tokens that show in the text, as of `Engine.text`; stop texts are looked for in what shows."""
    follows: bool = False
    """Whether the text is read as the rest of the prompt's, a blank at its beginning included; else as a text by itself."""
    compiled: Any = None
    """The sampling's constraint as the engine has compiled it; whoever draws puts it there."""


class Drawn(msgspec.Struct, frozen=True, gc=False):
    """One token of one sample, its log-probability at temperature 1, and the likeliest tokens with theirs.

    Log-probabilities are natural logs before penalties and biases.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Event(msgspec.Struct, frozen=True, gc=False):
    """Progress of one sample in one step."""

    request: int
    sample: int
    """Its index among the request's keys."""
    drawn: tuple[Drawn, ...]
    """Without the end token; up to the token that completes a stop text."""
    finish: str | None
    """None while it goes on, then `stop`, `length` or `cancelled`."""
    text: str | None = None
    """Where the request has stop texts, what may be shown now: whole characters, and no beginning of a stop text."""
    offsets: tuple[int, ...] = ()
    """Beside `text`: where each token's text begins in the whole text, in characters."""
    stop: str | None = None
    """The stop text that ended the sample."""
    end_logprob: float | None = None
    """Log-probability of the end token that ended it."""
