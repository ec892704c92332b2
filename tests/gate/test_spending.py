"""A run's error budget: what decisions spend, what promotions give back, and the bound for the whole run."""

from random import Random

import msgspec
import pytest

from moevolve.gate.spending import AlphaSpending


def test_decisions_without_a_promotion_spend_the_series() -> None:
    state, levels = AlphaSpending(alpha=0.05), []
    for _ in range(3):
        levels.append(state.level)
        state = state.after(promoted=False)
    assert levels == pytest.approx([0.05 * 10 / (10 * 11), 0.05 * 10 / (11 * 12), 0.05 * 10 / (12 * 13)])
    assert state.spent == pytest.approx(sum(levels))


def test_a_promotion_gives_its_share_back() -> None:
    state = AlphaSpending().after(promoted=False)
    after = state.after(promoted=True)
    assert (after.level, after.spent) == (state.level, state.spent)
    assert (after.decisions, after.promotions) == (2, 1)


def test_the_budget_is_never_overspent() -> None:
    state, total = AlphaSpending(alpha=0.05), 0.0
    for _ in range(5000):
        total += state.level
        state = state.after(promoted=False)
    assert total == pytest.approx(state.spent)
    assert 0.0499 < state.spent < 0.05


def test_false_promotions_of_a_whole_run_stay_below_alpha() -> None:
    # Every decision uses its level up to the last, and every second candidate is truly better and always promoted.
    ruined = 0
    for seed in range(4000):
        rng, state = Random(seed), AlphaSpending(alpha=0.05)
        for decision in range(60):
            null = decision % 2 == 0
            promoted = rng.random() < state.level if null else True
            ruined += null and promoted
            if null and promoted:
                break
            state = state.after(promoted=promoted)
    assert ruined / 4000 <= 0.05


def test_the_state_survives_a_snapshot() -> None:
    state = AlphaSpending(alpha=0.1, decisions=7, promotions=2)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=AlphaSpending) == state
