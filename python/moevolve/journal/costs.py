"""What a server was asked and charged over a run, added up by kind of stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from moevolve.journal.text import line
from moevolve.records import Metered

_WHOLE = ("initial", "final", "short")
"""Second words of stages that stand for themselves; of others the first word is the kind."""

_ENDINGS = {
    "length": "cut at max_tokens",
    "content_filter": "taken out by a content filter",
    "refusal": "refused by the model",
    "reasoning": "with reasoning and nothing else",
}


def said_endings(counts: Mapping[str, int]) -> list[str]:
    """How answers ended that did not end by themselves, in words: `12 answers cut at max_tokens`."""
    return [
        f"{count:,} answer{'s' * (count != 1)} {_ENDINGS.get(kind, line(kind))}"
        for kind, count in sorted(counts.items())
        if count
    ]


def said_refused(fields: Mapping[str, str]) -> list[str]:
    """What a server does not take, in its own words."""
    return [f"asked without {line(name)} from here on ({line(words)})" for name, words in fields.items()]


class StageCost(msgspec.Struct):
    """All stages of one kind: every gate, every screening."""

    stage: str
    requests: int = 0
    tokens: int = 0
    cost: Decimal | None = Decimal(0)
    """None where a bill came without prices."""
    failed: int = 0


class Spent:
    """The sum of a run's bills; see `Metered` for the words."""

    def __init__(self) -> None:
        self.bills = 0
        self.requests = self.reused = self.calls = self.unmetered = 0
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.faults: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.refused: dict[str, str] = {}
        self.reason = ""
        self.money: Decimal | None = Decimal(0)
        self.currency = ""
        self.stages: dict[str, StageCost] = {}

    def add(self, bill: Metered) -> None:
        """Adds one stage's bill."""
        self.bills += 1
        self.currency = self.currency or bill.currency
        for name in (
            "requests",
            "reused",
            "calls",
            "unmetered",
            "prompt_tokens",
            "cached_tokens",
            "completion_tokens",
        ):
            setattr(self, name, getattr(self, name) + getattr(bill, name))
        self.faults.update(bill.faults)
        self.failures.update(bill.failures)
        self.endings.update(bill.endings)
        self.refused |= bill.refused
        self.reason = self.reason or bill.reason
        self.money = _plus(self.money, bill.cost)
        first, _, second = bill.stage.partition(" ")
        name = bill.stage if second in _WHOLE else first
        stage = self.stages.setdefault(name, StageCost(name))
        stage.requests += bill.requests
        stage.tokens += bill.prompt_tokens + bill.completion_tokens
        stage.cost = _plus(stage.cost, bill.cost)
        stage.failed += sum(bill.failures.values())


def _plus(sum_: Decimal | None, cost: str | None) -> Decimal | None:
    return None if sum_ is None or cost is None else sum_ + Decimal(cost)
