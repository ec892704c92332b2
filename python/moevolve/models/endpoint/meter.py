"""What a run asked and what it was charged: counted per stage for the journal, held against the spending limit."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from moevolve.config import EndpointSection
from moevolve.errors import SpendingLimitError
from moevolve.journal import figures
from moevolve.models.endpoint.exchange import Exchange
from moevolve.models.endpoint.prices import price_of
from moevolve.models.endpoint.speech import Speech
from moevolve.protocol.requests import GenerateRequest
from moevolve.records import Metered

ENDINGS = ("content_filter", "length", "reasoning", "refusal")
"""How answers end that did not end by themselves."""
KEPT_BACK = 2
"""What the last evaluation may cost, in costs of the first: a program that splits asks more."""


class Meter:
    """Counts the exchanges of a run at their first use.

    Args:
        section: prices and limits.
        speech: how long a request may come to be.
        past: what the journal holds of a run that goes on.
    """

    def __init__(self, section: EndpointSection, speech: Speech, past: Iterable[Metered] = ()) -> None:
        self._section = section
        self._speech = speech
        self.price = price_of(section)
        self.generated = 0
        self._tokens = 0
        self._money = Decimal(0)
        self._spare_tokens = 0
        self._spare_money = Decimal(0)
        self._clear()
        for record in past:
            self.generated += record.completion_tokens
            self._tokens += record.prompt_tokens + record.completion_tokens
            self._money += Decimal(record.cost or 0)

    def _clear(self) -> None:
        self._requests = self._reused = self._calls = 0
        self._prompt = self._cached = self._completion = self._unmetered = 0
        self._faults: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._endings: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._reasons: list[tuple[str, str]] = []
        self._seals: list[bytes] = []

    def reuse(self) -> None:
        """Counts a request that equals an earlier one."""
        self._reused += 1

    def use(self, digest: str, request: GenerateRequest, exchange: Exchange) -> None:
        """Counts an exchange at its first use."""
        self._requests += 1
        self._calls += exchange.calls
        self._prompt += exchange.prompt_tokens
        self._cached += exchange.cached_tokens
        self._completion += exchange.completion_tokens
        self._unmetered += exchange.unmetered
        self._faults.update(exchange.faults)
        self._endings.update(each.finish for each in exchange.completions if each.finish in ENDINGS)
        for field, reason in exchange.refused.items():
            self._refused[field] = min(reason, self._refused.get(field, reason))
        if exchange.failure is not None:
            self._failures[exchange.failure] += 1
            self._reasons.append((digest, f"{exchange.failure}: {exchange.detail}"))
        self._seals.append(hashlib.blake2b(digest.encode() + exchange.content(), digest_size=16).digest())
        self.generated += exchange.completion_tokens
        self._tokens += exchange.prompt_tokens + exchange.completion_tokens
        self._money += self._cost(exchange.prompt_tokens, exchange.cached_tokens, exchange.completion_tokens)
        if exchange.unmetered:
            # The server does not say: against a limit the most counts that it can have been.
            prompt, completion = self._speech.most(request)
            self._tokens += prompt + completion
            self._money += self._cost(prompt, 0, completion)

    def bill(self, cycle: int, stage: str) -> Metered | None:
        """What was counted since the last bill; None where nothing was."""
        if not self._requests and not self._reused:
            return None
        cost = self._cost(self._prompt, self._cached, self._completion)
        record = Metered(
            cycle=cycle,
            stage=stage,
            requests=self._requests,
            reused=self._reused,
            calls=self._calls,
            faults=dict(sorted(self._faults.items())),
            failures=dict(sorted(self._failures.items())),
            endings=dict(sorted(self._endings.items())),
            prompt_tokens=self._prompt,
            cached_tokens=self._cached,
            completion_tokens=self._completion,
            unmetered=self._unmetered,
            cost=None if self.price is None else figures.money(cost),
            currency="" if self.price is None else self.price.currency,
            # Agents in boxes ask when they come to it: which of them came first is no part of what was asked.
            exchanges=hashlib.blake2b(b"".join(sorted(self._seals)), digest_size=16).hexdigest(),
            refused=dict(sorted(self._refused.items())),
            reason=min(self._reasons, default=("", ""))[1],
        )
        self._clear()
        return record

    def keep_back(self, first: Metered) -> None:
        """Lays aside what the last evaluation may cost, judged by the first."""
        self._spare_tokens = KEPT_BACK * (first.prompt_tokens + first.completion_tokens)
        self._spare_money = KEPT_BACK * Decimal(first.cost or 0)

    def release(self) -> None:
        """Frees what was laid aside: it is time for the last evaluation."""
        self._spare_tokens, self._spare_money = 0, Decimal(0)

    def affordable(
        self, wanted: Sequence[tuple[str, GenerateRequest]]
    ) -> Iterator[list[tuple[str, GenerateRequest]]]:
        """Cuts a round into parts, each within what is left whatever its answers come to; count a part before the next.

        Raises:
            SpendingLimitError: not even one more request is.
        """
        start = 0
        while start < len(wanted):
            end, tokens, money = start, self._tokens, self._money
            while end < len(wanted):
                prompt, completion = self._speech.most(wanted[end][1])
                tokens += prompt + completion
                money += self._cost(prompt, 0, completion)
                if not self._within(tokens, money):
                    break
                end += 1
            if end == start:
                raise SpendingLimitError(f"the spending limit of {self._limit()} leaves no further request")
            yield list(wanted[start:end])
            start = end

    def _within(self, tokens: int, money: Decimal) -> bool:
        most_tokens, most_cost = self._section.most_tokens, self._section.most_cost
        return (most_tokens is None or tokens + self._spare_tokens <= most_tokens) and (
            most_cost is None or money + self._spare_money <= Decimal(repr(most_cost))
        )

    def _limit(self) -> str:
        tokens, cost = self._section.most_tokens, self._section.most_cost
        named = [f"{tokens:,} tokens"] if tokens is not None else []
        return " and ".join([*named, f"{cost} {self._section.currency}"] if cost is not None else named)

    def _cost(self, prompt: int, cached: int, completion: int) -> Decimal:
        return Decimal(0) if self.price is None else self.price.cost(prompt, cached, completion)
