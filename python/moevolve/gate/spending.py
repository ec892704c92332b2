"""The error budget of a whole run: what each decision of the gate may spend of it."""

from __future__ import annotations

import msgspec

EVENNESS = 10
"""Decisions over which about half of a run's budget is spread; the other half lasts for ever."""


class AlphaSpending(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run's error budget, part of the snapshot: P(any false promotion, over all decisions) <= `alpha`.

    The online fallback procedure (Tian and Ramdas, Online control of the familywise error rate, 2021) over the weights
    g(k) = c / ((k + c - 1)(k + c)), c = `evenness`, which sum to 1 over k = 1, 2, ... The k-th decision *without a
    promotion* is tested at alpha * g(k); a promotion gives its share back, so that the next decision has it again.

    Proof of the bound. Let every decision, given all before it, promote a candidate that is not better with probability
    at most its level. Count up to the first false promotion: every promotion before was a true one and cost nothing, so
    the k-th decision on a candidate that is not better has a level of at most alpha * g(k), and the levels sum to at most
    alpha.
    """

    alpha: float = 0.05
    """Bound on the probability that a run ever promotes a candidate which is not better."""
    decisions: int = 0
    promotions: int = 0
    evenness: int = EVENNESS
    """Decisions over which about half of the budget is spread: with few of them the first ones have more each."""

    @property
    def rule(self) -> str:
        """The rule's name on record."""
        return f"fallback-harmonic-{self.evenness}"

    @property
    def level(self) -> float:
        """Error rate of the next decision."""
        k, c = self.decisions - self.promotions + 1, self.evenness
        return self.alpha * c / ((k + c - 1) * (k + c))

    @property
    def spent(self) -> float:
        """What the decisions so far have used up: the bound on the probability of a false promotion among them."""
        k = self.decisions - self.promotions
        return self.alpha * (1 - self.evenness / (k + self.evenness))

    def after(self, *, promoted: bool) -> AlphaSpending:
        """The state after one more decision. One that was void has spent its share too: it might have promoted."""
        return msgspec.structs.replace(
            self, decisions=self.decisions + 1, promotions=self.promotions + promoted
        )


RULE = AlphaSpending().rule
"""The rule of a run."""
