"""Which proposer is asked for how many candidates: a bandit over what theirs came to, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from moevolve.journal.proposers import Account

COST = 0.5
"""By how much the dearest proposer's draws are lowered; the others' in proportion to what a candidate of theirs costs."""
EXPLORE = 0.1
"""Share of candidates that any proposer may get: what did badly so far may do better on another program."""
PROMOTED = 4
"""Successes that a promotion counts as: a candidate that only passes the screening may be lucky."""


def slots(
    names: Sequence[str], accounts: Mapping[str, Account], candidates: int, rng: Random
) -> dict[str, int]:
    """Candidates to ask of each proposer.

    One in ten of the `candidates` goes to anybody, the others each to the proposer with the largest draw from
    Beta(1 + successes, 1 + failures), less its share of the dearest one's cost. A success is a candidate that passed the
    screening or, four times over, the gate; a failure one that did not, that did not work, that was there already, or that
    never came, of a proposer that failed or had nothing to offer.

    Args:
        names: the proposers, in the order of the configuration.
        accounts: what is known of them.
        candidates: how many are wanted together.
        rng: the generator of the draws.
    """
    known = {name: accounts.get(name, Account()) for name in names}
    costs = {name: account.tokens / max(1, account.asked) for name, account in known.items()}
    dearest = max(costs.values(), default=0.0)
    found = dict.fromkeys(names, 0)
    for _ in range(candidates):
        if rng.random() < EXPLORE:
            found[rng.choice(names)] += 1
            continue
        draws = {
            name: rng.betavariate(1 + account.passed + PROMOTED * account.promoted, 1 + account.failed)
            * (1 - COST * (costs[name] / dearest if dearest else 0.0))
            for name, account in known.items()
        }
        found[max(draws, key=lambda name: draws[name])] += 1
    return found
