"""Memory under strain: a thousand updates, floods of near copies and of junk, and questions that nobody would put so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from moevolve.config.memory import MemorySection
from moevolve.journal.lessons import MemoryStore
from moevolve.memory.embedding import HashedNgrams
from moevolve.memory.lessons import LessonMemory, Writes
from moevolve.memory.writing import of_programs
from moevolve.protocol.requests import Note, RecallRequest
from moevolve.records import Lesson
from moevolve.tasks.task import Task

WORDS = [
    f"{a}{b}{c}" for a in ("ka", "zo", "mer", "lin", "tra") for b in ("vex", "dor", "pim") for c in "aeiou"
]
ASPECTS = ("port", "owner", "colour", "timeout", "region", "version", "budget", "deadline")
SKILL = "office/facts"


def lesson(id: str, text: str, **fields: Any) -> Lesson:
    common = {"skill": SKILL, "level": 1, "prompt": "", "answer": "", "success": True, "run": "r", "cycle": 1}
    return Lesson(**{"id": id, "text": text, "variant": "", **common, **fields})


def opened(folder: Path, lessons: list[Lesson], *, cycle: int = 1000) -> LessonMemory:
    memory = LessonMemory(MemoryStore(folder), "r", MemorySection(), HashedNgrams())
    memory.write(Writes(lessons))
    memory.open_cycle(cycle)
    return memory


def top(memory: LessonMemory, query: str, k: int = 5, **weights: Any) -> list[str]:
    return [each.id for each in memory.recall(RecallRequest(skill=SKILL, query=query, k=k, **weights))]


def test_none_of_a_thousand_updates_is_ranked_below_what_it_replaced(tmp_path: Path) -> None:
    draw = Random(1)
    facts = [(f"{word}{number}", aspect) for number in range(4) for word in WORDS for aspect in ASPECTS]
    facts = draw.sample(facts, 1000)
    old = [
        lesson(f"old{at:04}", f"the {aspect} of {thing} is {draw.randrange(1000, 9999)}", cycle=1)
        for at, (thing, aspect) in enumerate(facts)
    ]
    # An update says it otherwise as often as not, so that the older text is the nearer one.
    forms = (
        "by now {thing} has another {aspect}, namely {value}",
        "the {aspect} of {thing} is {value}",
        "{thing}: {aspect} {value}",
    )
    new = [
        lesson(
            f"new{at:04}",
            draw.choice(forms).format(thing=thing, aspect=aspect, value=draw.randrange(1000, 9999)),
            cycle=2,
            supersedes=f"old{at:04}",
        )
        for at, (thing, aspect) in enumerate(facts)
    ]
    memory = opened(tmp_path, old)
    memory.write(Writes(new))
    found = 0
    for at, (thing, aspect) in enumerate(facts):
        ids = top(memory, f"what is the {aspect} of {thing}", k=10)
        assert f"old{at:04}" not in ids and not any(id.startswith("old") for id in ids)
        found += f"new{at:04}" in top(memory, f"what is the {aspect} of {thing}", words=1.0, vector=0.0)
    assert found >= 980
    memory.open_cycle(2)
    sample = draw.sample(range(1000), 50)
    assert all(f"old{at:04}" in top(memory, old[at].text) for at in sample), "as of an earlier cycle it held"
    assert memory.store.check() == 2000


@pytest.fixture
def others() -> tuple[list[Lesson], list[str]]:
    """A thousand lessons of others, and two hundred questions about them that the flood is not about."""
    draw = Random(2)
    words = [f"word{number}" for number in range(400)]
    lessons = [lesson(f"{number:04}", " ".join(draw.choices(words, k=12))) for number in range(1000)]
    questions: list[str] = []
    while len(questions) < 200:
        asked = draw.sample(draw.choice(lessons).text.split(), 4)
        if not set(asked) & set(FLOOD):
            questions.append(" ".join(asked))
    return lessons, questions


FLOOD = [f"word{at}" for at in range(12)]


def copies(draw: Random, number: int) -> str:
    """A near copy: the same text with one word of its own."""
    flood = FLOOD.copy()
    flood[draw.randrange(12)] = f"copy{number}"
    return " ".join(flood)


def shuffles(draw: Random, number: int) -> str:
    """A near copy: the same words in another order, and a number."""
    flood = FLOOD.copy()
    draw.shuffle(flood)
    return f"{' '.join(flood)} {number}"


def shouts(draw: Random, number: int) -> str:
    """A near copy: other capitals and stops."""
    return "; ".join(draw.choice((f"Word{at}", f"WORD{at}", f"word{at}")) for at in range(12)) + "!" * (
        number % 40
    )


@pytest.mark.parametrize("way", [copies, shuffles, shouts])
def test_ten_thousand_near_copies_change_next_to_nothing(
    tmp_path: Path, others: tuple[list[Lesson], list[str]], way: Callable[[Random, int], str]
) -> None:
    lessons, questions = others
    memory, draw = opened(tmp_path, lessons), Random(3)
    before = [top(memory, question) for question in questions]
    task = Task(prompt="p", skill=SKILL, level=1)
    for cycle in range(2, 12):
        flood = [(task, Note(text=way(draw, 1000 * cycle + number), kind="fact")) for number in range(1000)]
        admitted = of_programs(memory, memory.section, cycle, "v0001", flood)
        memory.write(Writes(admitted.lessons))
        memory.open_cycle(1000)
    taken = memory.store.count() - len(lessons)
    current = memory.store.statistics().current - len(lessons)
    assert taken <= 20 and current <= 2, "what is said anew supersedes what was said"
    after = [top(memory, question) for question in questions]
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 2


def test_junk_of_many_words_is_held_by_its_quota(
    tmp_path: Path, others: tuple[list[Lesson], list[str]]
) -> None:
    lessons, questions = others
    memory, draw = opened(tmp_path, lessons), Random(4)
    task = Task(prompt="p", skill=SKILL, level=1)
    junk = [f"junk{number}" for number in range(5000)]
    for cycle in range(2, 6):
        flood = [(task, Note(text=" ".join(draw.choices(junk, k=12)), kind="fact")) for _ in range(2500)]
        memory.write(Writes(of_programs(memory, memory.section, cycle, "v0001", flood).lessons))
    memory.open_cycle(1000)
    assert memory.store.count() - len(lessons) == 4 * memory.section.quota
    mine = {each.id for each in lessons}
    strange = sum(not set(top(memory, question)) <= mine for question in questions)
    assert strange <= 2, "other questions are answered by what is about them"


def mistyped(draw: Random, text: str) -> str:
    """The question with two neighbouring letters swapped in its longest word."""
    words = text.split()
    at = max(range(len(words)), key=lambda index: len(words[index]))
    word, place = words[at], draw.randrange(1, len(words[at]) - 1)
    words[at] = word[:place] + word[place : place + 2][::-1] + word[place + 2 :]
    return " ".join(words)


def shuffled(draw: Random, text: str) -> str:
    words = text.split()
    draw.shuffle(words)
    return " ".join(words)


def shouted(draw: Random, text: str) -> str:
    return f"  {text.upper()}?!\t\n"


def padded(draw: Random, text: str) -> str:
    return f"could you please tell me, if it is no trouble, {text}, thank you very much"


def framed(draw: Random, text: str) -> str:
    return f"質問: {text} — спасибо 🙂"


@pytest.mark.parametrize(
    ("way", "least"), [(shuffled, 0.97), (mistyped, 0.85), (shouted, 0.97), (padded, 0.95), (framed, 0.95)]
)
def test_questions_in_any_form_find_what_they_are_about(
    tmp_path: Path, way: Callable[[Random, str], str], least: float
) -> None:
    draw = Random(5)
    facts = [(word, aspect) for word in WORDS for aspect in ASPECTS]
    memory = opened(
        tmp_path, [lesson(f"{at:04}", f"the {b} of {a} is {at}") for at, (a, b) in enumerate(facts)]
    )
    asked = draw.sample(range(len(facts)), 200)
    found = sum(f"{at:04}" in top(memory, way(draw, f"{facts[at][1]} of {facts[at][0]}")) for at in asked)
    assert found / len(asked) >= least, found


SCRIPTS = {
    "greek": "μεταφορά του ψηφίου",
    "hebrew": "העברת הספרה",
    "devanagari": "अंक आगे ले जाना",
    "thai": "ทดเลขหลักถัดไป",
    "han": "数字进位到下一位",
    "hangul": "자리 올림을 한다",
    "georgian": "ციფრის გადატანა",
    "emoji": "➕9️⃣➡️🔟",
    "combining": "re\u0301porter le chiffre",
    "right to left marks": "\u202eabc\u202c carry",
}


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_text_of_any_script_is_found_by_a_part_of_it(tmp_path: Path, script: str) -> None:
    memory = opened(tmp_path, [lesson(name, text) for name, text in SCRIPTS.items()])
    text = SCRIPTS[script]
    for part in (text, text[: max(4, len(text) // 2)], text[::-1][::-1].swapcase()):
        assert script in top(memory, part, k=3)
    assert memory.store.check() == len(SCRIPTS)
