"""A run's memory as its one retriever: cycles, kinds, weights, budgets, and writes that can be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moevolve.config.memory import MemorySection
from moevolve.journal.lessons import GENERAL, MemoryStore, Query, Standing
from moevolve.memory.embedding import HashedNgrams
from moevolve.memory.lessons import LessonMemory, Writes
from moevolve.protocol.requests import RecallRequest
from moevolve.records import Lesson

TEXTS = ("carry the digit", "carry the large digit over", "sort the letters", "reverse the letters")


def lesson(id: str, text: str, **fields: Any) -> Lesson:
    common = {"skill": "s", "level": 1, "prompt": "", "answer": "", "success": True, "run": "r", "cycle": 1}
    return Lesson(**{"id": id, "text": text, "variant": "v", **common, **fields})


def memory(folder: Path, lessons: Sequence[Lesson] = (), *, cycle: int = 9, **settings: Any) -> LessonMemory:
    made = LessonMemory(MemoryStore(folder), "r", MemorySection(**settings), HashedNgrams())
    made.write(Writes(list(lessons)))
    made.open_cycle(cycle)
    return made


def ids(found: Sequence[Lesson]) -> list[str]:
    return [each.id for each in found]


LESSONS = [lesson(str(number), text) for number, text in enumerate(TEXTS)]


def test_a_recall_is_the_one_query_of_memory(tmp_path: Path) -> None:
    mine = memory(tmp_path, LESSONS, trust=0.2)
    for text in ("carry a digit", "letters that are sorted", "rev"):
        recalled = ids(mine.recall(RecallRequest(skill="s", query=text, k=3)))
        vector = HashedNgrams().embed([text])[0]
        by_query = mine.store.search(Query(text=text, vector=vector, skill="s", k=3))
        assert recalled == [hit.lesson.id for hit in by_query]


def test_a_cycle_sees_what_earlier_cycles_wrote(tmp_path: Path) -> None:
    lessons = [lesson(str(cycle), f"the same text {cycle}", cycle=cycle) for cycle in (1, 2, 3)]
    mine = memory(tmp_path, lessons)
    for cycle, seen in ((1, []), (2, ["1"]), (3, ["1", "2"])):
        mine.open_cycle(cycle)
        assert sorted(ids(mine.recall(RecallRequest(skill="s", query="the same text", k=9)))) == seen


def test_another_run_of_the_same_folder_is_not_seen(tmp_path: Path) -> None:
    mine = memory(tmp_path, [lesson("other", "carry the digit", run="q"), LESSONS[2]])
    assert ids(mine.recall(RecallRequest(skill="s", query="carry the digit", k=9))) == ["2"]


def test_failures_are_shown_to_those_who_ask_for_them(tmp_path: Path) -> None:
    kinds = ("fact", "failure", "tool")
    mine = memory(tmp_path, [lesson(kind, f"carry {kind}", kind=kind) for kind in kinds])

    def recalled(**fields: Any) -> list[str]:
        return sorted(ids(mine.recall(RecallRequest(skill="s", query="carry", k=9, **fields))))

    assert recalled() == ["fact", "tool"]
    assert recalled(kinds=("failure",)) == ["failure"]
    assert recalled(kinds=("failure", "tool")) == ["failure", "tool"]


def test_what_weighs_and_how_much_is_shown_is_the_askers_choice(tmp_path: Path) -> None:
    mine = memory(tmp_path, [lesson("words", "digit digits digit"), lesson("letters", "digits carrying")])

    def recalled(**fields: Any) -> list[str]:
        return ids(mine.recall(RecallRequest(skill="s", query="digits carry", k=9, **fields)))

    assert recalled(words=0.0, vector=1.0)[0] == "letters"
    assert recalled(budget=16) == recalled()[:1]
    assert recalled(budget=3) == []
    before = recalled(trust=0.0)
    mine.write(Writes(standings=[(before[0], Standing(trust=0.0)), (before[1], Standing(trust=1.0))]))
    assert recalled(trust=0.0) == before and recalled(trust=2.0) == before[::-1]
    assert recalled(confidence=1.0) in ([], ["letters"])


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    writes = Writes(LESSONS, [("0", Standing(trust=0.9)), ("1", Standing(trust=0.1, forgotten=True))])
    mine = memory(tmp_path, LESSONS)
    mine.write(writes)
    before = mine.store.statistics(), mine.store.standing("0"), mine.store.standing("1")
    mine.write(writes)
    assert (mine.store.statistics(), mine.store.standing("0"), mine.store.standing("1")) == before
    assert "1" not in ids(mine.recall(RecallRequest(skill="s", query="carry the large digit", k=9)))


def test_what_a_person_pinned_stays_whatever_outcomes_say(tmp_path: Path) -> None:
    mine = memory(tmp_path, LESSONS)
    mine.store.set_standings([("0", Standing(pinned=True))])
    mine.write(Writes(standings=[("0", Standing(trust=0.1, forgotten=True))]))
    assert mine.store.standing("0") == Standing(trust=pytest.approx(0.1), pinned=True)  # type: ignore[arg-type]


def test_shuffled_recalls_are_other_lessons_and_as_many(tmp_path: Path) -> None:
    many = [lesson(f"{number:02}", f"carry digit number {number}") for number in range(40)]
    mine = memory(tmp_path, many, mode="shuffled")
    fitting = memory(tmp_path, mode="on")
    drawn = set()
    for key in range(20):
        request = RecallRequest(skill="s", query="carry digit number 7", k=3, key=key)
        shown, best = ids(mine.recall(request)), ids(fitting.recall(request))
        assert len(shown) == 3 and not set(shown) & set(best)
        assert ids(mine.recall(request)) == shown
        drawn |= set(shown)
    assert len(drawn) > 15
    few = memory(tmp_path / "few", LESSONS[:2], mode="shuffled")
    assert len(few.recall(RecallRequest(skill="s", query="carry the digit", k=4))) == 2


def test_a_memory_that_is_off_holds_nothing(tmp_path: Path) -> None:
    off = memory(tmp_path, LESSONS, mode="off")
    assert off.recall(RecallRequest(skill="s", query="carry", k=9)) == []
    assert off.store.count() == 0 and not (tmp_path / "data.mdb").exists()


def test_without_an_embedder_words_decide(tmp_path: Path) -> None:
    mine = LessonMemory(MemoryStore(tmp_path), "r")
    mine.write(Writes(LESSONS))
    mine.open_cycle(2)
    assert ids(mine.recall(RecallRequest(skill="s", query="sort letters", k=1))) == ["2"]
    assert mine.store.statistics().vectors == 0


def test_shuffled_recalls_keep_to_the_budget(tmp_path: Path) -> None:
    """Otherwise an arm that shows other lessons would show more words, too."""
    short = [lesson(f"s{number}", f"carry digit {number}") for number in range(4)]
    long = [lesson(f"l{number}", f"letters {number} " + "of some word " * 9) for number in range(40)]
    mine = memory(tmp_path, [*short, *long], mode="shuffled")
    request = RecallRequest(skill="s", query="carry digit", k=4, words=1.0, vector=0.0, budget=200, key=1)
    shown = mine.recall(request)
    assert 0 < sum(len(each.text) for each in shown) <= 200
    assert mine.recall(msgspec.structs.replace(request, budget=60)) == []


def test_what_is_about_no_skill_in_particular_is_recalled_for_each(tmp_path: Path) -> None:
    lessons = [
        lesson("mine", "carry the digit", skill="s/x"),
        lesson("people", "carry what is over", skill=GENERAL),
        lesson("others", "carry on", skill="t"),
        lesson("below", "carry it", skill=f"{GENERAL}/y"),
    ]
    for number, mode in enumerate(("on", "shuffled")):
        mine = memory(tmp_path / str(number), lessons, mode=mode)
        found = mine.recall(RecallRequest(skill="s", query="carry", k=9))
        assert sorted(ids(found)) == ["mine", "people"]
        assert ids(mine.recall(RecallRequest(skill="u", query="carry", k=9))) == ["people"]
        assert [hit.lesson.id for hit in mine.store.search(Query(text="carry", skill="s"))] == ["mine"]
