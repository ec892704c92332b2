"""What clients' feedback comes to, whoever shouts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moevolve.serve.consensus import SHARE, ConsensusLabel, cap, consensus_labels, train_judge_split
from moevolve.serve.interactions import Feedback, Interaction


def asked(id: str, prompt: str, answer: str = "said") -> Interaction:
    return Interaction(id=id, client="asker", at=0, prompt=prompt, answers=[answer], weights="w")


def said(id: str, client: str, score: float, correction: str | None = None, at: int = 0) -> Feedback:
    return Feedback(id=id, choice=0, client=client, at=at, score=score, correction=correction)


def label(prompt: str, *clients: str) -> ConsensusLabel:
    return ConsensusLabel(prompt, "answer", tuple(sorted(clients)), (prompt,))


def answers(found: list[ConsensusLabel]) -> list[str]:
    return [label.answer for label in found]


def test_a_good_score_stands_for_the_answer_and_a_correction_for_itself() -> None:
    found = consensus_labels(
        [asked("1", "a"), asked("2", "b")], [said("1", "ann", 1.0), said("2", "ann", 0.0, "so")]
    )
    assert answers(found) == ["said", "so"]


def test_a_bad_score_alone_stands_for_nothing() -> None:
    assert consensus_labels([asked("1", "a")], [said("1", "ann", 0.2)]) == []


def test_more_than_half_of_the_voters_must_agree() -> None:
    votes = [said("1", "ann", 1.0), said("1", "bob", 0.0, "other")]
    assert consensus_labels([asked("1", "a")], votes) == []
    assert answers(consensus_labels([asked("1", "a")], [*votes, said("1", "cid", 0.9)])) == ["said"]
    assert consensus_labels([asked("1", "a")], [*votes, said("1", "cid", 0.1)]) == []


def test_one_client_has_one_vote_on_a_prompt_however_often_it_was_asked() -> None:
    interactions = [asked(str(number), "a", "wrong") for number in range(50)]
    flood = [said(str(number), "eve", 1.0, at=number) for number in range(50)]
    honest = [said("0", "ann", 0.0, "right"), said("0", "bob", 0.0, "right")]
    (found,) = consensus_labels(interactions, flood + honest)
    assert (found.answer, found.supporters) == ("right", ("ann", "bob"))


def test_a_client_may_change_its_mind() -> None:
    votes = [said("1", "ann", 1.0, at=1), said("1", "ann", 0.0, "better", at=2)]
    assert answers(consensus_labels([asked("1", "a")], votes[::-1])) == ["better"]


def test_feedback_on_what_was_erased_counts_for_nothing() -> None:
    assert consensus_labels([], [said("1", "ann", 1.0)]) == []


def test_a_flood_is_cut_to_the_size_of_the_others_parts() -> None:
    found = [label(f"eve {number}", "eve") for number in range(1000)]
    found += [label(f"{name} {number}", name) for name in ("ann", "bob", "cid") for number in range(10)]
    kept = cap(found)
    assert sum(c.supporters == ("eve",) for c in kept) == SHARE * 10
    assert sum(c.supporters != ("eve",) for c in kept) == 30
    assert label("eve 999", "eve") in kept and label("eve 0", "eve") not in kept


@given(
    st.lists(st.tuples(st.integers(0, 9), st.frozensets(st.sampled_from("abcdef"), min_size=1)), max_size=60),
    st.integers(0, 20),
)
def test_nobody_judges_what_it_taught(drawn: list[tuple[int, frozenset[str]]], cycle: int) -> None:
    found = [label(str(prompt), *clients) for prompt, clients in drawn]
    parts = train_judge_split(found, 7, cycle)
    assert not set(parts.trainers) & set(parts.judges)
    assert all(set(parts.trainers) & set(c.supporters) for c in parts.train)
    assert not any(set(parts.trainers) & set(c.supporters) for c in parts.judge)
    assert not {c.prompt for c in parts.train} & {c.prompt for c in parts.judge}
    assert parts == train_judge_split(found, 7, cycle)
