"""Budget: what a run may ask of its policy in tokens and requests, held before each round is answered.

A round whose completions, each as long as it may be, would pass the limit is not begun: the run ends in order, with a record
and with its last score, for which twice what the first one took is laid aside.
"""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.config import GuardSection
from moevolve.errors import SpendingLimitError
from moevolve.journal.figures import counted
from moevolve.protocol.policy import Policy
from moevolve.protocol.requests import GenerateRequest, Reply
from moevolve.records import Guarded

NAME = "budget"
KEPT_BACK = 2
"""What the last score may take, in what the first took: a program that splits asks more."""


class RunBudget:
    """What a run has asked so far, and what is left.

    Args:
        section: the limits.
    """

    def __init__(self, section: GuardSection) -> None:
        self.section = section
        self.tokens = 0
        self.requests = 0
        self._spare = (0, 0)

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.section.most_tokens is not None or self.section.most_requests is not None

    def restore(self, tokens: int, requests: int) -> None:
        """Goes on from what a run asked before."""
        self.tokens, self.requests = tokens, requests

    def keep_back(self, tokens: int, requests: int) -> None:
        """Lays aside what the last score may take, judged by the first."""
        self._spare = (KEPT_BACK * tokens, KEPT_BACK * requests)

    def release(self) -> None:
        """Frees what was laid aside: it is time for the last score."""
        self._spare = (0, 0)

    def policy(self, policy: Policy) -> Policy:
        """The policy within this budget."""
        return BudgetedPolicy(policy, self)

    def afford(self, requests: Sequence[GenerateRequest]) -> None:
        """Makes sure that a round fits.

        Raises:
            SpendingLimitError: it may not.
        """
        tokens = sum(request.n * request.sampling.max_tokens for request in requests)
        for what, most, used, wanted, spare in (
            ("token", self.section.most_tokens, self.tokens, tokens, self._spare[0]),
            ("request", self.section.most_requests, self.requests, len(requests), self._spare[1]),
        ):
            if most is not None and used + wanted + spare > most:
                laid = f", {spare:,} laid aside for the last score" if spare else ""
                raise SpendingLimitError(
                    f"the limit of {counted(most, what)} leaves no room for the next round: {used:,} used{laid}, up to "
                    f"{wanted:,} asked for (guard.most_{what}s)"
                )

    def check(self, cycle: int) -> Guarded | None:
        """What was asked so far, for the record; None without limits."""
        used = [
            f"{used:,} of {counted(most, what)}"
            for what, most, used in (
                ("token", self.section.most_tokens, self.tokens),
                ("request", self.section.most_requests, self.requests),
            )
            if most is not None
        ]
        if not used:
            return None
        return Guarded(cycle=cycle, guard=NAME, checked=1, vetoed=0, detail=", ".join(used))


class BudgetedPolicy:
    """A policy that is asked only what its budget covers.

    Args:
        policy: answers.
        budget: is counted on.
    """

    def __init__(self, policy: Policy, budget: RunBudget) -> None:
        self._policy = policy
        self._budget = budget

    @property
    def weights(self) -> str:
        return self._policy.weights

    @property
    def generated(self) -> int:
        return self._policy.generated

    def answer(self, requests: Sequence[GenerateRequest]) -> Sequence[Reply]:
        self._budget.afford(requests)
        before = self._policy.generated
        replies = self._policy.answer(requests)
        self._budget.tokens += self._policy.generated - before
        self._budget.requests += len(requests)
        return replies
