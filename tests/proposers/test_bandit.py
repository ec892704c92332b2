"""The bandit over proposers: what theirs came to and what it cost, rebuilt from the journal alone."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from msgspec.structs import replace

from moevolve.journal.proposers import Account, Accounts, earned
from moevolve.proposers.bandit import slots
from moevolve.records import Gated, Proposed, ProposerAsked, Record, Screened
from moevolve.report.search import figures, lines


def shares(accounts: dict[str, Account], seeds: int = 100) -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in range(seeds):
        found.update(slots(("a", "b"), accounts, 8, Random(seed)))
    return found


def test_all_candidates_are_shared_out_and_one_seed_gives_one_answer() -> None:
    assert sum(slots(("a", "b", "c"), {}, 8, Random(1)).values()) == 8
    assert slots(("a", "b"), {}, 8, Random(1)) == slots(("a", "b"), {}, 8, Random(1))
    assert slots(("a",), {}, 8, Random(1)) == {"a": 8}


def test_who_knows_nothing_of_them_treats_them_alike() -> None:
    found = shares({})
    assert 350 < found["a"] < 450


def test_whose_candidates_pass_is_asked_more() -> None:
    found = shares(
        {"a": Account(asked=20, screened=20, passed=12), "b": Account(asked=20, screened=20, passed=2)}
    )
    assert found["a"] > 3 * found["b"]
    assert found["b"] > 0, "nobody's chance is ever nothing"


def test_a_flatterer_and_a_repeater_lose_their_turns() -> None:
    found = shares(
        {"a": Account(asked=20, screened=20, passed=4), "b": Account(asked=20, repeats=9, broken=11)}
    )
    assert found["b"] < 80


@pytest.mark.parametrize("failure", [None, "timeout"])
def test_who_delivers_nothing_loses_turns_too(failure: str | None) -> None:
    accounts = Accounts()
    for _ in range(10):
        accounts.take(replace(asked("b", asked=4, made=0), broken=[], failure=failure))
    found = shares({"a": Account(asked=20, screened=20, passed=4), "b": accounts.proposers["b"]})
    assert accounts.proposers["b"].silent == 40 and found["b"] < 80
    [said] = lines(figures(accounts.proposers), [])
    assert "40 never delivered" in said


def test_fewer_candidates_than_asked_are_no_failure_while_there_are_some() -> None:
    """Of those of a proposer that failed, the ones that came are counted by what they come to."""
    accounts = Accounts()
    accounts.take(asked("a", made=2))
    assert accounts.proposers["a"].silent == 0
    accounts.take(replace(asked("a", made=1, repeats=1), failure="error"))
    assert accounts.proposers["a"].silent == 1
    accounts.take(replace(asked("a", asked=1, made=0), broken=["x: y", "x: z"]))
    assert accounts.proposers["a"].silent == 1


def test_of_two_alike_the_cheaper_one_is_asked_more() -> None:
    found = shares(
        {
            "a": Account(asked=20, screened=20, passed=10),
            "b": Account(asked=20, screened=20, passed=10, tokens=90_000),
        }
    )
    assert found["a"] > 2 * found["b"]


def asked(name: str, **counts: int) -> ProposerAsked:
    fields = {"asked": 4, "made": 2, "repeats": 0, "requests": 3, "tokens": 100} | counts
    return ProposerAsked(cycle=1, step=0, proposer=name, broken=["x: y"], failure=None, detail="", **fields)


def proposed(variant: str, proposer: str, operator: str) -> Proposed:
    return Proposed(
        cycle=1,
        level="program",
        variant=variant,
        parent="v0",
        operator=operator,
        summary="s",
        files=[],
        proposer=proposer,
    )


def screened(variant: str, score: float) -> Screened:
    return Screened(cycle=1, variant=variant, score=score, baseline=0.5, n=10, passed=score > 0.5)


RECORDS: list[Record] = [
    asked("improver", repeats=1),
    asked("model", tokens=5000),
    proposed("v1", "improver", "chain"),
    screened("v1", 0.6),
    proposed("v2", "model", "rewrite"),
    screened("v2", 0.4),
    Gated(
        cycle=1,
        level="program",
        candidate="v1",
        champion="v0",
        decision="promote",
        reason="",
        n=9,
        wins=5,
        losses=1,
        gain=0.1,
        evidence=9.0,
        alpha=0.01,
        skills={},
        tokens=1,
    ),
]


def test_the_accounts_are_what_the_records_say() -> None:
    accounts = Accounts()
    for record in RECORDS:
        accounts.take(record)
    improver, model = accounts.proposers["improver"], accounts.proposers["model"]
    assert (improver.promoted, improver.passed, improver.repeats, improver.broken) == (1, 1, 1, 1)
    assert (model.promoted, model.passed, model.screened, model.tokens) == (0, 0, 1, 5000)
    assert [name for name, _ in earned(accounts.operators)] == ["chain", "rewrite"]


def test_a_line_of_the_report_says_who_earned_what() -> None:
    accounts = Accounts()
    for record in RECORDS:
        accounts.take(record)
    said = lines(figures(accounts.proposers), figures(accounts.operators))
    assert said == [
        "Proposers: improver 1 promoted, 1 of 1 passed, +0.100 in the screening, 1 broken, 1 repeated, for 3 requests, 100 "
        "tokens and 10 attempts of screening, 100 tokens a promotion; model 0 promoted, 0 of 1 passed, +0.000 in the "
        "screening, 1 broken, for 3 requests, 5k tokens and 10 attempts of screening",
        "Operators that earned their cost: chain 1 of 1 passed, +0.100, 1 promoted, for 10 attempts",
        "Operators that did not: rewrite 0 of 1 passed, for 10 attempts",
    ]
