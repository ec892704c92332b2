"""What a memory promises of its answers, counted over many lessons:

    python benches/memory_worth.py [--lessons 100000] [--seed 1] [--json] [--require]

Lessons are facts made from a seed, `the port of kazomerlin is 4711`, with vectors of hashed n-grams, asked for as a run
asks: by words and vectors, the best five. A thousand facts are then told anew, in other words as often as not; two hundred
questions have no answer, half of them about a thing that memory knows; two hundred are mistyped, two hundred out of order,
ten in other scripts; and one writer says the same thing ten thousand times with a word changed. `--require` exits 1 if a
promise is not kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/fixtures"))

from facts import ATTRIBUTES, SYLLABLES  # noqa: E402

from moevolve.config.memory import MemorySection
from moevolve.journal.lessons import MemoryStore
from moevolve.memory.embedding import HashedNgrams
from moevolve.memory.lessons import LessonMemory, Writes
from moevolve.memory.writing import of_programs
from moevolve.protocol.requests import Note, RecallRequest
from moevolve.records import Lesson
from moevolve.tasks.task import Task
from promises import Row, told

SKILL = "facts"
FORMS = (
    "by now {thing} has another {attribute}, namely {value}",
    "the {attribute} of {thing} is {value}",
    "{thing}: {attribute} {value}",
)
SURE = 0.6
"""Confidence below which a question counts as unanswered."""
BATCH = 1000
TOP = 5
ASKED = 200
UPDATES = 1000
FLOOD = 10_000
SCRIPTS = (
    "μεταφορά του ψηφίου",
    "перенос цифры в следующий разряд",
    "העברת הספרה",
    "حمل الرقم إلى العمود التالي",
    "अंक आगे ले जाना",
    "ทดเลขหลักถัดไป",
    "数字进位到下一位",
    "繰り上がりの数字",
    "자리 올림을 한다",
    "ციფრის გადატანა",
)

Fact = tuple[str, str]


class Facts:
    """A memory of facts; of each thing one attribute is missing.

    Args:
        folder: where the memory is made.
        count: how many facts.
        seed: what they are drawn from.
    """

    def __init__(self, folder: Path, count: int, seed: int) -> None:
        self.draw = Random(seed)
        known = -(-count // (len(ATTRIBUTES) - 1))
        names: dict[str, None] = {}
        while len(names) < known + ASKED:
            names["".join(self.draw.choices(SYLLABLES, k=4))] = None
        self.things, self.unknown = list(names)[:known], list(names)[known:]
        self.missing = {thing: self.draw.choice(ATTRIBUTES) for thing in self.things}
        every = [
            (thing, attribute)
            for thing in self.things
            for attribute in ATTRIBUTES
            if attribute != self.missing[thing]
        ]
        self.ids = {fact: f"f{number:07}" for number, fact in enumerate(every[:count])}
        self.texts = {fact: f"the {fact[1]} of {fact[0]} is {self.value()}" for fact in self.ids}
        self.memory = LessonMemory(
            MemoryStore(folder, map_size=16 << 30), "r", MemorySection(), HashedNgrams()
        )
        self.write([lesson(id, self.texts[fact]) for fact, id in self.ids.items()], cycle=2)

    def value(self) -> str:
        return str(self.draw.randrange(1000, 9999))

    def write(self, lessons: Sequence[Lesson], cycle: int) -> None:
        """Writes lessons, and begins the cycle that recalls them."""
        for first in range(0, len(lessons), BATCH):
            self.memory.write(Writes(list(lessons[first : first + BATCH])))
        self.memory.open_cycle(cycle)

    def sample(self, count: int) -> list[Fact]:
        return self.draw.sample(list(self.ids), count)

    def top(self, question: str, k: int = TOP, **settings: Any) -> list[str]:
        """Ids of the best answers."""
        request = RecallRequest(skill=SKILL, query=question, k=k, **settings)
        return [each.id for each in self.memory.recall(request)]

    def found(self, facts: Sequence[Fact], ask: Callable[[Fact], str], **settings: Any) -> float:
        """Share of facts that a question of a form finds among the best."""
        return sum(self.ids[fact] in self.top(ask(fact), **settings) for fact in facts) / len(facts)


def lesson(id: str, text: str, **fields: Any) -> Lesson:
    common = {"skill": SKILL, "level": 1, "prompt": "", "answer": "", "success": True, "run": "r", "cycle": 1}
    return Lesson(**{"id": id, "text": text, "variant": "", **common, **fields})


def question(fact: Fact) -> str:
    return f"what is the {fact[1]} of {fact[0]}"


def answers(facts: Facts) -> list[Row]:
    """Questions with an answer, without one, mistyped, out of order."""
    asked = facts.sample(ASKED)
    plain, sure = facts.found(asked, question), facts.found(asked, question, confidence=SURE)
    strange = [(thing, facts.draw.choice(ATTRIBUTES)) for thing in facts.unknown[: ASKED // 2]]
    strange += [(thing, facts.missing[thing]) for thing in facts.draw.sample(facts.things, ASKED // 2)]
    silent = sum(not facts.top(question(fact), confidence=SURE) for fact in strange)

    def mistyped(fact: Fact) -> str:
        at = facts.draw.randrange(1, len(fact[0]) - 1)
        return question((fact[0][:at] + fact[0][at : at + 2][::-1] + fact[0][at + 2 :], fact[1]))

    def shuffled(fact: Fact) -> str:
        words = question(fact).split()
        facts.draw.shuffle(words)
        return " ".join(words)

    return [
        Row(f"recall@{TOP}", plain, 0.97, False, f"{ASKED} questions that have an answer"),
        Row(
            "abstention",
            silent / ASKED,
            0.9,
            False,
            f"{silent} of {ASKED} questions without an answer got none",
        ),
        Row(f"recall@{TOP} lost by abstention", plain - sure, 0.02, True, f"at confidence {SURE}"),
        Row(
            "recall, mistyped",
            facts.found(asked, mistyped),
            0.85,
            False,
            "two letters of the thing's name swapped",
        ),
        Row("recall, words in any order", facts.found(asked, shuffled), 0.97, False, f"{ASKED} questions"),
    ]


def scripts(facts: Facts) -> Row:
    """Texts of other scripts by half of them."""
    lessons = [lesson(f"s{number}", text) for number, text in enumerate(SCRIPTS)]
    facts.write(lessons, cycle=2)
    found = sum(each.id in facts.top(each.text[: max(4, len(each.text) // 2)]) for each in lessons)
    return Row(
        "recall, other scripts",
        found / len(lessons),
        1.0,
        False,
        f"{found} of {len(lessons)}, by half a text",
    )


def updates(facts: Facts) -> list[Row]:
    """Facts told anew: how often the older one is returned at all."""
    chosen = facts.sample(UPDATES)
    new = {
        fact: lesson(
            f"n{number}",
            facts.draw.choice(FORMS).format(thing=fact[0], attribute=fact[1], value=facts.value()),
            cycle=2,
            supersedes=facts.ids[fact],
        )
        for number, fact in enumerate(chosen)
    }
    facts.write(list(new.values()), cycle=3)
    older = sum(facts.ids[fact] in facts.top(facts.texts[fact], k=10) for fact in chosen)
    words = sum(new[fact].id in facts.top(question(fact), words=1.0, vector=0.0) for fact in chosen)
    both = sum(new[fact].id in facts.top(question(fact)) for fact in chosen)
    return [
        Row("superseded lessons returned", older, 0, True, f"of {UPDATES}, each asked for in its own words"),
        Row(
            "updates found by words",
            words / UPDATES,
            0.97,
            False,
            f"{words} of {UPDATES} among the best {TOP}",
        ),
        Row(
            "updates found by words and vectors",
            both / UPDATES,
            0.0,
            False,
            "told, not promised: letters of another form are nearer to other facts of the thing",
        ),
    ]


def flood(facts: Facts) -> list[Row]:
    """What ten thousand near copies of one writer change in others' answers."""
    asked = [question(fact) for fact in facts.sample(ASKED)]
    before = [facts.top(each) for each in asked]
    count, words = facts.memory.store.count(), [f"flood{at}" for at in range(6)] + list(ATTRIBUTES[:6])
    task = Task(prompt="p", skill=SKILL, level=1)
    for cycle in range(3, 3 + FLOOD // BATCH):
        notes = []
        for number in range(BATCH):
            copy = list(words)
            copy[facts.draw.randrange(len(copy))] = f"copy{cycle}x{number}"
            notes.append((task, Note(text=" ".join(copy), kind="fact")))
        admitted = of_programs(facts.memory, facts.memory.section, cycle, "v0001", notes)
        facts.write(admitted.lessons, cycle=cycle + 1)
    changed = sum(facts.top(each) != old for each, old in zip(asked, before, strict=True))
    return [
        Row("answers changed by a flood", changed / ASKED, 0.01, True, f"{changed} of {ASKED} top {TOP}"),
        Row(
            "near copies kept", facts.memory.store.count() - count, 20, True, f"of {FLOOD:,}, from one writer"
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lessons", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the memory is made (default: a temporary folder)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require", action="store_true", help="exit 1 if a promise is not kept")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        facts = Facts(Path(folder) / "memory", options.lessons, options.seed)
        rows = [*answers(facts), scripts(facts), *updates(facts), *flood(facts)]
        count = facts.memory.store.check()
        rows.append(
            Row("lessons whose indices agree", count, options.lessons + UPDATES, False, "all that are kept")
        )
        facts.memory.store.close()
    print(
        f"{options.lessons:,} lessons, seed {options.seed}, {time.monotonic() - began:.0f} s", file=sys.stderr
    )
    return told(rows, options.json, options.require)


if __name__ == "__main__":
    sys.exit(main())
