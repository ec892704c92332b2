"""A prompt's split is its own hash: no two splits share one, whatever the seed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.tasks.splits import SHARES, SPLITS, split_of
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
