"""From keyword arguments to `Sampling`: defaults by the number of samples, and every value checked by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import msgspec

from moevolve.errors import UsageError
from moevolve.models import constraints
from moevolve.protocol.sampling import Constraint, Sampling

MAX_TOKENS = 64
"""New tokens of a sample where nobody says another number."""
MAX_TOP_LOGPROBS = 20


class Settings(TypedDict, total=False):
    """Fields of `Sampling` as keyword arguments; `temperature` None is greedy for one sample and 1.0 for more."""

    max_tokens: int
    temperature: float | None
    top_p: float
    top_k: int
    min_p: float
    frequency_penalty: float
    presence_penalty: float
    repetition_penalty: float
    stop: str | Sequence[str]
    stop_tokens: Sequence[int]
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]]
    top_logprobs: int
    speculate: int
    ignore_eos: bool
    min_tokens: int
    allowed_tokens: Sequence[int]
    schema: Mapping[str, Any] | bool
    regex: str
    choice: Sequence[str]
    grammar: str


def resolve(sampling: Sampling | None, n: int, **settings: Unpack[Settings]) -> Sampling:
    """The sampling in force for `n` samples a prompt: `sampling`, or one made of single settings.

    Raises:
        UsageError: both are given, a setting is unknown, or a value is out of range; names it.
    """
    if n < 1:
        raise UsageError(f"n={n}: at least 1 sample of each prompt")
    if sampling is not None:
        if settings:
            raise UsageError(f"give `sampling` or {', '.join(sorted(settings))}, not both")
        return checked(sampling)
    if unknown := sorted(settings.keys() - Settings.__annotations__.keys()):
        known = ", ".join(Settings.__annotations__)
        raise UsageError(f"there is no sampling setting {unknown[0]!r}; known are {known}")
    fields: dict[str, Any] = dict(settings)
    fields.setdefault("max_tokens", MAX_TOKENS)
    if fields.get("temperature") is None:
        fields["temperature"] = 0.0 if n == 1 else 1.0
    stop = settings.get("stop", ())
    fields["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    fields["stop_tokens"] = tuple(settings.get("stop_tokens", ()))
    bias = settings.get("logit_bias", ())
    pairs = bias.items() if isinstance(bias, Mapping) else bias
    fields["allowed_tokens"] = tuple(settings.get("allowed_tokens", ()))
    fields["constraint"] = form_of(**{name: fields.pop(name) for name in FORMS if name in fields})
    fields["logit_bias"] = tuple((int(token), float(by)) for token, by in pairs)
    try:
        return checked(msgspec.convert(fields, Sampling))
    except msgspec.ValidationError as error:
        raise UsageError(f"sampling settings: {error}") from None


FORMS: dict[str, Callable[[Any], Constraint]] = {
    "schema": constraints.json_schema,
    "regex": constraints.regex,
    "choice": constraints.choice,
    "grammar": constraints.grammar,
}
"""Settings that hold a text to a form, and what makes a constraint of each."""


def form_of(**settings: Any) -> Constraint | None:
    """The form that a text is held to, by one of `FORMS`; None for none.

    Raises:
        UsageError: several are given, or one cannot be.
    """
    asked = {name: value for name, value in settings.items() if value is not None}
    if len(asked) > 1:
        raise UsageError(f"give {' or '.join(asked)}, not both: a text has one form")
    return next((FORMS[name](value) for name, value in asked.items()), None)


def checked(sampling: Sampling) -> Sampling:
    """The same sampling, if a sample can be drawn by it; tokens outside a model's vocabulary are the engine's to refuse.

    Raises:
        UsageError: names the field, its value and its range.
    """
    unbounded = math.inf
    _within("max_tokens", sampling.max_tokens, 1)
    _within("temperature", sampling.temperature, 0)
    _within("top_k", sampling.top_k, 0)
    _within("min_p", sampling.min_p, 0, 1)
    _within("frequency_penalty", sampling.frequency_penalty, -unbounded)
    _within("presence_penalty", sampling.presence_penalty, -unbounded)
    _within("top_logprobs", sampling.top_logprobs, 0, MAX_TOP_LOGPROBS)
    _within("speculate", sampling.speculate, 0)
    _within("min_tokens", sampling.min_tokens, 0, sampling.max_tokens)
    if sampling.constraint is not None and sampling.ignore_eos:
        raise UsageError("ignore_eos: a text that is held to a form ends where it does")
    if not 0 < sampling.top_p <= 1:
        raise UsageError(f"top_p={sampling.top_p}: it lies in (0, 1]")
    if not 0 < sampling.repetition_penalty < unbounded:
        raise UsageError(f"repetition_penalty={sampling.repetition_penalty}: it is finite and above 0")
    if "" in sampling.stop:
        raise UsageError("stop: a stop text has at least one character")
    if not all(math.isfinite(by) for _, by in sampling.logit_bias):
        raise UsageError("logit_bias: every bias is a finite number")
    biased = (token for token, _ in sampling.logit_bias)
    if min((*sampling.stop_tokens, *sampling.allowed_tokens, *biased), default=0) < 0:
        raise UsageError("stop_tokens, allowed_tokens, logit_bias: token ids are not negative")
    return sampling


def _within(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not low <= value <= high or not math.isfinite(value):
        bounds = f"at least {low:g}" if high == math.inf else f"it lies between {low:g} and {high:g}"
        raise UsageError(f"{name}={value}: {'a finite number' if low == -math.inf else bounds}")
