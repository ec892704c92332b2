"""Labels of values: where a value in a program may come from."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

RAW, NUMBER, TRUTH, COMPUTED, POLICY, CHOSEN = ("task", "number", "truth", "computed", "policy", "chosen")
CONSTANT, MEMORY, RECITED = ("constant", "memory", "recited")
TASK, AGENT = "the task", "the agent"
Labels = frozenset[str]
NOTHING: Labels = frozenset()


class Value(msgspec.Struct, frozen=True):
    """What a value may come from, and which functions it may be."""

    labels: Labels = NOTHING
    functions: frozenset[str] = NOTHING

    def __or__(self, other: Value) -> Value:
        return Value(self.labels | other.labels, self.functions | other.functions)

    def plus(self, *labels: str) -> Value:
        return Value(self.labels | frozenset(labels), self.functions)


def recited(value: Value) -> Value:
    """A value that may be the answer on its own: without a word of the policy or the task it is recited."""
    alone = value.labels & {CONSTANT, MEMORY} and not value.labels & {POLICY, RAW, COMPUTED}
    return value.plus(RECITED) if alone else value


def union(values: Iterable[Value]) -> Value:
    whole = Value()
    for value in values:
        whole |= value
    return whole
