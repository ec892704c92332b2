"""What is kept of the traffic, and that it can be erased."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from moevolve.errors import CapacityError, UsageError
from moevolve.journal.store import RunStore
from moevolve.serve.interactions import (
    LONGEST,
    MOST_VERDICTS,
    Feedback,
    Interaction,
    Interactions,
    client_name,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore.create(tmp_path / "run") as store:
        yield store


def asked(number: int, client: str = "ann") -> Interaction:
    return Interaction(id=f"i{number}", client=client, at=number, prompt="p", answers=["a"], weights="w")


def said(number: int, client: str, score: float = 1.0) -> Feedback:
    return Feedback(id=f"i{number}", choice=0, client=client, at=0, score=score)


def test_what_was_kept_is_listed_also_by_the_next_server(store: RunStore) -> None:
    kept = Interactions(store)
    for number in (3, 1, 2):
        kept.keep(asked(number, "ann" if number < 3 else "bob"))
    kept.judge(said(1, "bob"))
    again = Interactions(store)
    assert [row.id for row in again.all()] == ["i1", "i2", "i3"]
    assert [row.id for row in again.all("bob")] == ["i3"]
    assert again.feedback("i1") == [said(1, "bob")] == again.feedback()


def test_a_newer_verdict_takes_the_older_ones_place(store: RunStore) -> None:
    kept = Interactions(store)
    kept.keep(asked(1))
    kept.judge(said(1, "bob", 1.0))
    kept.judge(said(1, "bob", 0.0))
    assert [feedback.score for feedback in kept.feedback()] == [0.0]


def test_the_oldest_go_first_and_take_their_feedback_along(store: RunStore) -> None:
    kept = Interactions(store, most=2)
    kept.keep(asked(1))
    kept.judge(said(1, "bob"))
    kept.keep(asked(2))
    kept.keep(asked(3))
    assert [row.id for row in kept.all()] == ["i2", "i3"] and kept.feedback() == []
    with pytest.raises(UsageError, match="no answer 'i1'"):
        kept.judge(said(1, "bob"))


def test_erasing_one_erases_what_was_said_of_it(store: RunStore) -> None:
    kept = Interactions(store)
    for number in (1, 10):
        kept.keep(asked(number))
        kept.judge(said(number, "bob"))
    assert kept.erase(["i1", "unknown"]) == 1
    assert [row.id for row in kept.all()] == ["i10"] and kept.feedback() == [said(10, "bob")]
    assert store.scan("interactions", "i1")[0][0] == "i10" and len(store.scan("feedback")) == 1


def test_a_client_can_be_forgotten(store: RunStore) -> None:
    kept = Interactions(store)
    kept.keep(asked(1, "ann"))
    kept.keep(asked(2, "bob"))
    kept.judge(said(2, "ann"))
    kept.judge(said(2, "bob"))
    assert kept.erase(client="ann") == 1
    assert [row.client for row in kept.all()] == ["bob"] and kept.feedback() == [said(2, "bob")]


def test_nobody_erases_what_is_another_clients(store: RunStore) -> None:
    kept = Interactions(store)
    kept.keep(asked(1, "ann"))
    assert kept.erase(["i1"], client="eve") == 0 and len(kept) == 1


def test_names_that_could_not_be_keys_are_hashed() -> None:
    assert client_name("ann@example") == "ann@example"
    assert client_name("a/b") != client_name("a/c") and "/" not in client_name("a/b")
    assert len(client_name("x" * 9999)) < 40


def test_what_is_too_long_to_learn_from_is_not_kept(store: RunStore) -> None:
    kept = Interactions(store)
    kept.keep(msgspec.structs.replace(asked(1), prompt="x" * (LONGEST + 1)))
    assert len(kept) == 0 and kept.all() == []


def test_one_answer_has_a_bounded_number_of_judges(store: RunStore) -> None:
    kept = Interactions(store)
    kept.keep(asked(1))
    for number in range(MOST_VERDICTS):
        kept.judge(said(1, f"client{number}"))
    with pytest.raises(CapacityError, match="no more are heard"):
        kept.judge(said(1, "late"))
    kept.judge(said(1, "client0", 0.0))
    assert len(kept.feedback("i1")) == MOST_VERDICTS
