"""The gate: error and power by simulation, no harm to any skill, what is sampled next, and missing answers."""

import math
from collections.abc import Callable
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moevolve.errors import UsageError
from moevolve.gate.betting import GateVerdict, Paired, PairedGate
from moevolve.gate.capital import least_tasks, log_capital, mirrored
from moevolve.records import Pairs

SKILLS = [f"branch/{number:02}" for number in range(12)]
ALPHA = 0.05
WIN, LOSS, TIE = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)


def gate(**changes: object) -> PairedGate:
    settings = {"alpha": ALPHA, "margin": 0.05, "min_n": 192, "max_n": 1536, "skills": SKILLS} | changes
    return PairedGate(**settings)  # type: ignore[arg-type]


def play(rng: Random, better: list[float], worse: list[float], **changes: object) -> GateVerdict:
    """Feeds what the gate asks for; skill k wins with better[k] and loses with worse[k]."""
    test = gate(**changes)
    while test.verdict.decision is None:
        batch: list[Paired] = []
        for want in test.wants():
            k = SKILLS.index(want.skill)
            weights = (better[k], worse[k], 1 - better[k] - worse[k])
            batch += [Paired(want.skill, *pair) for pair in rng.choices((WIN, LOSS, TIE), weights, k=want.n)]
        test.update(batch)
    return test.verdict


def promoted(runs: int, better: list[float], worse: list[float], **changes: object) -> float:
    verdicts = [play(Random(f"{seed} {better}"), better, worse, **changes) for seed in range(runs)]
    return sum(verdict.decision == "promote" for verdict in verdicts) / runs


def rounds(n: int, pair: tuple[float, float] = TIE) -> list[Paired]:
    """`n` whole rounds of skills."""
    return [Paired(skill, *pair) for _ in range(n) for skill in SKILLS]


# ---------------------------------------------------------------- error


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ([0.10] * 12, [0.10] * 12),
        ([0.02] * 12, [0.02] * 12),
        ([0.40] * 12, [0.40] * 12),
        # Skills differ and their mean is 0: one large gain paid for by eleven losses.
        ([0.55] + [0.0] * 11, [0.0] + [0.05] * 11),
    ],
)
def test_a_candidate_that_is_not_better_is_seldom_promoted(better: list[float], worse: list[float]) -> None:
    assert promoted(300, better, worse) <= ALPHA


@pytest.mark.parametrize("skill", [0, 7])
def test_a_skill_at_the_margin_is_seldom_called_unharmed(skill: int) -> None:
    better, worse = [0.12] * 12, [0.06] * 12
    better[skill], worse[skill] = 0.05, 0.10
    assert promoted(150, better, worse, max_n=3072) <= ALPHA


def test_a_skill_that_lost_a_tenth_vetoes_whatever_the_others_gained() -> None:
    better, worse = [0.12] * 12, [0.06] * 12
    better[4], worse[4] = 0.02, 0.12
    assert promoted(150, better, worse, max_n=3072) <= 0.01


# ---------------------------------------------------------------- power


def test_a_gain_of_a_twentieth_at_every_skill_is_found_within_the_budget() -> None:
    verdicts = [play(Random(seed), [0.12] * 12, [0.07] * 12, alpha=0.002, max_n=3072) for seed in range(60)]
    assert sum(verdict.decision == "promote" for verdict in verdicts) / 60 >= 0.8
    assert sum(verdict.n for verdict in verdicts) / 60 < 3000


def test_a_gain_of_a_twentieth_in_one_skill_takes_what_showing_the_others_unharmed_takes() -> None:
    verdicts = [play(Random(seed), [0.6] + [0.0] * 11, [0.0] * 12) for seed in range(30)]
    assert all(verdict.decision == "promote" for verdict in verdicts)
    assert sum(verdict.n for verdict in verdicts) / 30 < 12 * (least_tasks(0.05, 0.01) + 8)


def test_a_collapse_is_discarded_at_once() -> None:
    verdict = play(Random(0), [0.0] * 12, [0.5] * 12)
    assert verdict.decision == "discard"
    assert verdict.n == 96
    assert verdict.reason.startswith("worse than the champion")


def test_two_variants_that_answer_alike_do_not_use_up_the_budget() -> None:
    verdict = play(Random(0), [0.0] * 12, [0.0] * 12)
    assert verdict.decision == "archive"
    assert verdict.n < 1536 / 4
    assert verdict.evidence == 0.0


# ---------------------------------------------------------------- no skill may pay for the others


def test_harm_to_one_skill_is_a_veto_however_large_the_gain_elsewhere() -> None:
    verdicts = [play(Random(seed), [0.0] + [0.2] * 11, [0.6] + [0.02] * 11) for seed in range(30)]
    assert all(verdict.decision == "archive" for verdict in verdicts)
    assert all(verdict.vetoes == verdict.harmed == (SKILLS[0],) for verdict in verdicts)
    assert all("harms branch/00" in verdict.reason for verdict in verdicts)


def test_false_harm_stays_below_its_error_rate() -> None:
    # Every skill exactly at its margin: -.05.
    verdicts = [play(Random(seed), [0.1] * 12, [0.15] * 12) for seed in range(300)]
    assert sum(bool(verdict.harmed) for verdict in verdicts) / 300 <= 0.01


def test_a_shown_gain_waits_until_every_skill_is_shown_unharmed_and_asks_for_those_alone() -> None:
    test = gate(min_n=48)
    test.update(rounds(20, WIN))
    assert test.verdict.decision == "promote"
    test = gate(min_n=48)
    test.update([Paired(skill, *(WIN if skill < SKILLS[6] else TIE)) for skill in SKILLS for _ in range(20)])
    assert test.verdict.decision is None
    assert test.verdict.reason.startswith("better; showing branch/06, branch/07")
    assert all(want.skill >= SKILLS[6] for want in test.wants())
    while test.verdict.decision is None:
        test.update([Paired(want.skill, *TIE) for want in test.wants() for _ in range(want.n)])
    assert test.verdict.decision == "promote"
    assert all(bound > -0.05 for bound in test.verdict.bounds.values())


def test_the_skill_that_looks_worst_is_sampled_first() -> None:
    test = gate(min_n=48)
    test.update(rounds(2, WIN) + rounds(14, TIE))
    test.update([Paired(SKILLS[3], *LOSS)] * 3)
    assert SKILLS[3] in [want.skill for want in test.wants()]
    assert len(test.wants()) == 4


def test_what_is_under_way_is_not_asked_for_again() -> None:
    test = gate(skills=["a", "b"], min_n=2, max_n=400)
    test.update([Paired("a", *WIN), Paired("b", *TIE)] * 40)
    first, second = test.wants(), test.wants()
    assert [(want.skill, want.n) for want in first] == [("b", 88)]
    assert [(want.skill, want.n) for want in second] == [("b", 8)]
    test.update([Paired("b", *TIE)] * 10)  # Most of it was not fresh: the rest is asked for once more.
    assert test.wants()[0].n > 40


def test_a_gain_that_is_shown_stays_shown_whatever_single_skills_do_next() -> None:
    test = gate(min_n=48)
    test.update(rounds(2, WIN) + rounds(14, TIE))
    shown = test.verdict.evidence
    test.update([Paired(want.skill, *TIE) for want in test.wants() for _ in range(want.n)])
    assert test.verdict.evidence == shown >= math.log(1 / ALPHA)


def test_a_skill_that_cannot_be_shown_unharmed_ends_the_test() -> None:
    better, worse = [0.2] * 12, [0.02] * 12
    better[5], worse[5] = 0.30, 0.34
    verdicts = [play(Random(seed), better, worse) for seed in range(20)]
    stopped = [verdict for verdict in verdicts if verdict.decision == "archive"]
    assert len(stopped) > 10
    assert all(verdict.vetoes == (SKILLS[5],) for verdict in stopped)
    assert any("cannot be shown unharmed" in verdict.reason for verdict in stopped)
    assert not any(verdict.harmed for verdict in stopped)


# ---------------------------------------------------------------- answers that are missing


def test_who_alone_has_no_answer_loses_the_pair() -> None:
    test = gate(skills=["a"], min_n=1, max_n=100)
    test.update([Paired("a", None, 1.0), Paired("a", 1.0, None), Paired("a", None, 0.0)])
    assert (test.verdict.n, test.verdict.wins, test.verdict.losses, test.verdict.missing) == (3, 1, 1, 0)


def test_more_than_three_in_a_hundred_missing_is_no_decision() -> None:
    few, many = gate(), gate()
    few.update(rounds(16, LOSS) + [Paired(SKILLS[0], None, None)] * 5)
    many.update(rounds(16, LOSS) + [Paired(SKILLS[0], None, None)] * 6)
    assert few.verdict.decision == "discard"
    assert (many.verdict.decision, many.verdict.missing) == ("void", 6)
    assert "6 of 198 pairs unanswered" in many.verdict.reason


def test_a_policy_that_is_gone_ends_the_test() -> None:
    test = gate()
    test.update([Paired(skill, None, None) for skill in SKILLS for _ in range(8)])
    assert test.verdict.decision == "void"


def test_skills_whose_answers_were_missing_catch_up() -> None:
    test = gate(skills=["a", "b"], batch=4, min_n=1)
    test.update([Paired("a", *TIE), Paired("a", *TIE), Paired("b", *TIE), Paired("b", None, None)])
    assert [(want.skill, want.n) for want in test.wants()] == [("a", 2), ("b", 3)]


# ---------------------------------------------------------------- figures


def test_figures_by_hand() -> None:
    test = gate(skills=["a", "b"], min_n=2, max_n=100)
    test.update([Paired("a", 1.0, 0.0), Paired("a", 1.0, 1.0), Paired("b", 0.25, 0.5), Paired("b", 0.0, 1.0)])
    verdict = test.verdict
    assert (verdict.n, verdict.wins, verdict.losses) == (4, 1, 2)
    assert verdict.gain == -0.0625
    assert verdict.skills == {"a": 0.5, "b": -0.625}
    counts = {1.0: 1, 0.0: 1, -0.25: 1, -1.0: 1}
    assert verdict.evidence == log_capital(counts)
    assert verdict.against == log_capital(mirrored(counts))
    assert test.score("a") == (1.0, 2)


def test_before_any_task_nothing_is_known() -> None:
    verdict = gate().verdict
    assert verdict.decision is None
    assert (verdict.n, verdict.gain, verdict.evidence, verdict.skills) == (0, 0.0, 0.0, {})


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.3, 1.0])
        ),
        min_size=1,
        max_size=60,
    ),
)
def test_figures_do_not_depend_on_how_the_tasks_were_cut_into_batches(
    rows: list[tuple[str, float, float]],
) -> None:
    pairs = [Paired(*row) for row in rows]
    whole = gate(skills=["a", "b"], min_n=10**6, max_n=10**6, alpha=1e-300)
    whole.update(pairs)
    mixed = gate(skills=["a", "b"], min_n=10**6, max_n=10**6, alpha=1e-300)
    cut = len(rows) // 3
    mixed.update(pairs[:cut])
    mixed.update([])
    mixed.update(pairs[cut:])
    assert mixed.verdict == whole.verdict


# ---------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gate(alpha=0.0), "0 < alpha < 1"),
        (lambda: gate(margin=1.0), "margin"),
        (lambda: gate(skills=[]), "at least one skill"),
        (lambda: gate(min_n=9, max_n=8), "between 1 and max_n = 8, not 9"),
        (lambda: gate(best=["text/other"]), "text/other"),
        (lambda: gate().update([Paired("text/other", 1.0, 0.0)]), "text/other"),
        (lambda: gate().update([Paired(SKILLS[0], 1.0, 0.0, best=True)]), "a best level of its own"),
        (lambda: gate().update([Paired(SKILLS[0], 1.5, 0.0)]), "scores lie in"),
        (lambda: gate().update([Paired(SKILLS[0], math.nan, 0.0)]), "scores lie in"),
    ],
)
def test_misuse_is_named(call: Callable[[], None], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_a_decided_gate_takes_no_more_tasks() -> None:
    test = gate()
    test.update(rounds(8, LOSS))
    assert test.verdict.decision == "discard"
    with pytest.raises(UsageError, match="has decided"):
        test.update([])
    with pytest.raises(UsageError, match="has decided"):
        test.wants()


def test_what_was_taken_leads_to_the_same_verdict() -> None:
    first = PairedGate(alpha=0.05, margin=0.2, min_n=8, max_n=512, skills=["a", "b"], batch=32, best=["b"])
    draw = Random(5)
    while first.verdict.decision is None:
        first.update(
            Paired(
                want.skill,
                None if draw.random() < 0.01 else float(draw.random() < 0.8),
                draw.choice([0.0, 0.5, 1.0]),
                want.best,
            )
            for want in first.wants()
            for _ in range(want.n)
        )
    again = PairedGate(alpha=0.05, margin=0.2, min_n=8, max_n=512, skills=["a", "b"], batch=32, best=["b"])
    taken = msgspec.msgpack.decode(msgspec.msgpack.encode(first.pairs), type=list[Pairs])
    for batch in range(1 + taken[-1].batch):
        again.update(
            Paired(pairs.skill, ours, theirs, pairs.best)
            for pairs in taken
            if pairs.batch == batch
            for ours, theirs in zip(pairs.candidate, pairs.other, strict=True)
        )
    assert again.verdict == first.verdict
