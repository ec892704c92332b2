"""A prompt's split is its own hash: no two splits share one, whatever the seed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.errors import SafetyError
from moevolve.tasks.splits import NO_SECRET, SHARES, SPLITS, secret_of, split_of
from moevolve.tasks.suite import suite

PRIMER = suite("primer")


@given(st.text())
def test_every_text_has_one_split(prompt: str) -> None:
    assert split_of(prompt) in SPLITS
    assert split_of(prompt) == split_of(prompt)


def test_the_split_of_a_prompt_is_fixed_for_ever() -> None:
    # Changing the hash would let an old run's training prompts into a new run's sealed test.
    prompts = ["rev:bdca=", "add:12+5=", "cmp:41,39=", "par:3719=", ""]
    assert [split_of(prompt) for prompt in prompts] == FIXED


FIXED = ["train", "sealed", "sealed", "train", "dev"]


def test_a_secret_makes_other_splits_that_nobody_tells_without_it() -> None:
    ours, theirs = (secret_of(seed, "seal") for seed in (1, 2))
    assert secret_of(1, "seal") == ours != secret_of(1, "another seal")
    prompts = [f"prompt {number}" for number in range(20_000)]
    for secret, other in ((ours, theirs), (ours, NO_SECRET)):
        agree = sum(split_of(prompt, secret) == split_of(prompt, other) for prompt in prompts)
        chance = sum(share**2 for share in SHARES.values())
        assert abs(agree / len(prompts) - chance) < 0.015


@pytest.mark.parametrize("again", ["  say  7 ", "SAY 7", "say\n7"])
def test_prompts_that_differ_in_blanks_or_case_are_one(again: str) -> None:
    for secret in (NO_SECRET, secret_of(3, "seal")):
        assert split_of(again, secret) == split_of("say 7", secret)


def test_a_runs_tasks_are_its_own_and_its_sealed_split_is_closed() -> None:
    ours, theirs = (PRIMER.keyed(secret_of(seed, "seal")) for seed in (1, 2))
    cells = [("text/reverse", 9)] * 40
    drawn = {each.prompt for each in ours.sample("train", cells, 1)}
    assert drawn.isdisjoint(each.prompt for each in theirs.sample("train", cells, 1))
    assert {ours.split_of(prompt) for prompt in drawn} == {"train"}
    with pytest.raises(SafetyError, match="split 'sealed' is closed"):
        ours.draw("sealed", "text/reverse", 9, 1)
    with pytest.raises(SafetyError):
        ours.only(["text/reverse"]).draw("sealed", "text/reverse", 9, 1)
    assert ours.opened().draw("sealed", "text/reverse", 9, 1).prompt not in drawn


def test_shares_are_kept() -> None:
    seen = Counter(split_of(f"prompt {number}") for number in range(20_000))
    for split, share in SHARES.items():
        assert abs(seen[split] / 20_000 - share) < 0.01


@pytest.mark.parametrize("path", sorted(PRIMER.skills))
def test_no_prompt_is_drawn_in_two_splits(path: str) -> None:
    # Level 1 has the fewest prompts, so a leak would show here first; two run seeds, as two runs have.
    prompts = {
        split: {PRIMER.draw(split, path, 1, seed, index).prompt for seed in (1, 2) for index in range(100)}
        for split in SPLITS
    }
    for first in SPLITS:
        for second in SPLITS:
            if first != second:
                assert not prompts[first] & prompts[second]
