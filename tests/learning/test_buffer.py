"""The training buffer keeps confirmed answers and mixes them for rehearsal."""

from pathlib import Path
from random import Random

from moevolve.learning.buffer import Buffer
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import Exchange
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks.files import TaskFiles
from moevolve.tasks.suite import suite
from moevolve.tasks.task import Task, Verdict


def attempt(prompt: str, skill: str = "text/sort", success: bool = True, answer: str = "x") -> Attempt:
    task = Task(skill=skill, level=1, seed=0, prompt=prompt, answer="gold")
    verdict = Verdict(score=float(success), success=success, failure=None if success else "wrong", detail="")
    return Attempt(task, answer, verdict)


def test_only_confirmed_answers_are_kept_and_never_the_gold_text() -> None:
    buffer = Buffer(10)
    assert buffer.add([attempt("a"), attempt("b", success=False)], cycle=1) == 1
    assert [(item.prompt, item.answer) for item in buffer.items()] == [("a", "x")]


def test_the_unfiltered_null_keeps_wrong_answers_too() -> None:
    buffer = Buffer(10)
    buffer.add([attempt("a"), attempt("b", success=False)], cycle=1, confirmed_only=False)
    assert len(buffer) == 2


def test_one_answer_a_prompt_and_the_oldest_go_first() -> None:
    buffer = Buffer(3)
    buffer.add([attempt(prompt) for prompt in "abca"], cycle=1)
    buffer.add([attempt("d")], cycle=2)
    assert [item.prompt for item in buffer.items()] == ["c", "a", "d"]


def test_batches_follow_the_generator_and_hold_the_recent_share() -> None:
    buffer = Buffer(1000)
    buffer.add([attempt(f"old {i}") for i in range(200)], cycle=1)
    buffer.add([attempt(f"new {i}") for i in range(200)], cycle=2)
    first = list(buffer.batches(2, 20, 50, 0.6, Random(7)))
    assert first == list(buffer.batches(2, 20, 50, 0.6, Random(7)))
    recent = sum(item.cycle == 2 for batch in first for item in batch) / 1000
    assert 0.75 < recent < 0.85  # .6, and half of the rest


def test_rehearsal_gives_skills_equal_turns_whatever_their_number_of_answers() -> None:
    buffer = Buffer(1000)
    buffer.add([attempt(f"s{i}", "text/sort") for i in range(300)], cycle=1)
    buffer.add([attempt(f"r{i}", "text/reverse") for i in range(3)], cycle=1)
    [batch] = buffer.batches(1, 1, 600, 0.0, Random(3))
    share = sum(item.skill == "text/reverse" for item in batch) / 600
    assert 0.4 < share < 0.6


def test_recent_answers_are_drawn_by_their_skills_need_and_rehearsal_takes_equal_turns() -> None:
    buffer = Buffer(4000)
    needs = {"number/add": 0.6, "text/reverse": 0.1, "text/sort": 0.1}
    for skill, count in (("number/add", 500), ("text/reverse", 500), ("text/sort", 900)):
        buffer.add([attempt(f"{skill} {i}", skill) for i in range(count)], cycle=1)

    def shares(recent: float) -> dict[str, float]:
        [batch] = buffer.batches(1, 1, 4000, recent, Random(3), needs=needs)
        return {skill: sum(item.skill == skill for item in batch) / 4000 for skill in needs}

    assert 0.7 < shares(1.0)["number/add"] < 0.8
    assert all(0.3 < share < 0.37 for share in shares(0.0).values()), "none is forgotten"


def test_a_needed_skill_with_a_handful_of_answers_is_not_learnt_by_heart() -> None:
    buffer = Buffer(2000)
    buffer.add([attempt(f"s{i}", "text/sort") for i in range(600)], cycle=1)
    buffer.add([attempt(f"a{i}", "number/add") for i in range(4)], cycle=1)
    [batch] = buffer.batches(1, 1, 4000, 1.0, Random(3), needs={"number/add": 1.0, "text/sort": 0.5})
    assert sum(item.skill == "number/add" for item in batch) < 600


def test_what_a_tree_grew_gets_its_share_of_the_rehearsal_and_no_more() -> None:
    buffer = Buffer(1000)
    for skill in ("text/sort", "text/reverse", "compose/a", "compose/b", "compose/c"):
        buffer.add([attempt(f"{skill} {i}", skill) for i in range(100)], cycle=1)
    grown = frozenset({"compose/a", "compose/b", "compose/c"})
    [batch] = buffer.batches(2, 1, 2000, 0.0, Random(3), grown, 0.1)
    counts = {skill: sum(item.skill == skill for item in batch) for skill in ("text/sort", "compose/a")}
    assert 0.07 < sum(item.skill in grown for item in batch) / 2000 < 0.13
    assert counts["text/sort"] > 10 * counts["compose/a"]
    [before] = buffer.batches(2, 1, 600, 0.0, Random(3))
    assert 0.5 < sum(item.skill in grown for item in before) / 600 < 0.7, (
        "without a share, skills have equal turns"
    )


def test_tasks_of_one_prompt_are_kept_apart_and_learnt_as_they_were_asked() -> None:
    tasks = [
        Task(prompt="Fix it.", skill="text/fix", level=1, files=TaskFiles(Path("files", name), name))
        for name in ("one", "two", "one")
    ]
    verdict = Verdict(score=1.0, success=True)
    buffer = Buffer(10)
    assert buffer.add([Attempt(task, "done", verdict) for task in tasks], cycle=1) == 2
    assert [item.prompt for item in buffer.items()] == ["Fix it."] * 2
    assert [item.key for item in buffer.items()] == [tasks[1].identity, tasks[0].identity]
    assert [item.key for item in Buffer(10, buffer.items()).items()] == [item.key for item in buffer.items()]


def test_what_a_program_asked_in_a_conversation_is_kept_by_its_last_text() -> None:
    asked = (Message("system", "Be brief."), Message("user", "2 + 2?"))
    said = [Exchange(prompt=prompt, text="4", tokens=(1,), ended=True) for prompt in (asked, "2 + 2?")]
    task = Task(prompt="2 + 2?", skill="text/add", level=1)
    buffer = Buffer(10)
    own = Attempt(task, "4", Verdict(score=1.0, success=True))
    assert buffer.add_exchanges([own], [said], 1, suite("primer")) == 1
    assert [item.prompt for item in buffer.items()] == ["2 + 2?"] * 2
    assert [item.exchange.prompt for item in buffer.items() if item.exchange] == [asked, "2 + 2?"]
