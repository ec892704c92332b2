"""The grammar of plans: frozen structs, decoded strictly from the JSON that a sandboxed program sends.

A text is one of `Text`, a list of texts one of `Parts`. A `Binding` is a function of one or two texts: its variables are
numbered from the outside in, by the host's count of the bindings around them. Numbers are bounded where they are decoded.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from moevolve.errors import UsageError

MOST_BYTES = 64 << 10
"""Of one plan's JSON."""
MOST_LITERAL = 256
"""Characters of one constant."""

Size = Annotated[int, msgspec.Meta(ge=1, le=64)]
Length = Annotated[int, msgspec.Meta(ge=0, le=4096)]
Samples = Annotated[int, msgspec.Meta(ge=1, le=32)]
Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=8.0)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]


class PlanError(UsageError):
    """An expression that no program of a suite with `answers = "policy"` may build."""

    failure = "malformed"
    """Failure of the attempts that have no plan for this reason."""


class UnsteadyPlan(PlanError):
    """None, since two tries of one key gave two plans."""

    failure = "nondeterministic"


class Node(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=str.lower):
    """Base of all expressions; the tag is the class's name in lower case."""


class Literal(Node, frozen=True):
    """A constant, for prompts alone."""

    text: Annotated[str, msgspec.Meta(max_length=MOST_LITERAL)]


class Payload(Node, frozen=True):
    """The task's text between its verb and its end."""


class Prompt(Node, frozen=True):
    """The task's whole prompt."""


class Operand(Node, frozen=True):
    """The text before (0) or after (2) the sign of a payload, or the sign itself (1)."""

    text: Text
    index: Annotated[int, msgspec.Meta(ge=0, le=2)]


class Lessons(Node, frozen=True):
    """Solved examples that memory has for the prompt: its `k` best lessons of successes, joined.

    Of their score words make up the share `words`, the vectors' nearness the rest.
    """

    k: Annotated[int, msgspec.Meta(ge=1, le=32)]
    words: Share = 0.5


class Variable(Node, frozen=True):
    """A text that a binding around this expression was given."""

    index: Annotated[int, msgspec.Meta(ge=0, le=64)]


class Concat(Node, frozen=True):
    """Texts one after another."""

    texts: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=64)]


class Slice(Node, frozen=True):
    """A beginning or an end of the policy's words, by Python's rules."""

    text: Text
    start: Annotated[int, msgspec.Meta(ge=-4096, le=4096)] | None
    stop: Annotated[int, msgspec.Meta(ge=-4096, le=4096)] | None


class Ask(Node, frozen=True):
    """The policy's likeliest answer."""

    prompt: Text


class Vote(Node, frozen=True):
    """The most frequent of likeliest answers and samples over prompts that ask the same.

    Where fewer than `least` of them agree, `otherwise`, if there is one.
    """

    prompts: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=8)]
    samples: Samples
    temperature: Temperature
    least: Share
    otherwise: Text | None


class Verify(Node, frozen=True):
    """The first answer that `back`, another question to the policy, leads to `gives`; the most frequent where none does."""

    prompt: Text
    samples: Samples
    temperature: Temperature
    back: Binding
    gives: Text


class Retry(Node, frozen=True):
    """The likeliest answer, or, where it is empty or as long as the prompt, the most frequent usable sample."""

    prompt: Text
    samples: Samples
    temperature: Temperature


class Window(Node, frozen=True):
    """Of `number,number`: `pair` of some digits from where they differ, then `one` of the number that it named."""

    text: Text
    size: Size
    above: Length
    pair: Binding
    one: Binding


class Fold(Node, frozen=True):
    """`first(part)`, then `then(so_far, part)` for each part after it."""

    parts: Parts
    first: Binding
    then: Binding


class Join(Node, frozen=True):
    """Parts one after another; as a `number`, without a first part that is `0`, since no number begins with it."""

    parts: Parts
    number: bool


class Cut(Node, frozen=True):
    """Parts of about `size` characters by one of the suite's cutters; a text of at most `above` stays whole."""

    text: Text
    size: Size
    at: Name
    above: Length


class Each(Node, frozen=True):
    """Each part through a binding, side by side."""

    parts: Parts
    way: Binding


class Backwards(Node, frozen=True):
    """The parts in reverse order."""

    parts: Parts


class Binding(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A function of one or two texts. `first` is the number of its first variable, which the host checks."""

    first: Annotated[int, msgspec.Meta(ge=0, le=64)]
    body: Text


Text = (
    Literal
    | Payload
    | Prompt
    | Operand
    | Lessons
    | Variable
    | Concat
    | Slice
    | Ask
    | Vote
    | Verify
    | Retry
    | Window
    | Fold
    | Join
)
Parts = Cut | Each | Backwards

_decoder: msgspec.json.Decoder[Text] = msgspec.json.Decoder(Text)
_encode = msgspec.json.Encoder().encode


def decode(data: bytes | str) -> Text:
    """A plan from its JSON.

    Raises:
        PlanError: it is no plan, or larger than a plan may be.
    """
    if len(data) > MOST_BYTES:
        raise PlanError(f"a plan of {len(data):,} bytes; at most {MOST_BYTES:,} are allowed")
    try:
        return _decoder.decode(data)
    except RecursionError:
        raise PlanError("a plan that is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"no plan: {error}") from None


def encode(plan: Text) -> bytes:
    """A plan's JSON: equal plans have equal bytes."""
    return _encode(plan)
