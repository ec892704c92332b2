"""What a memory answers, what it does not, and what a flood cannot change: planted facts, and questions about them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from facts import ATTRIBUTES, SYLLABLES

from moevolve.journal.lessons import MemoryStore, Query
from moevolve.memory.admission import NotAdmitted, admit
from moevolve.memory.embedding import HashedNgrams, embed_missing
from moevolve.records import Lesson

QUESTIONS = ("What is the {a} of {e}?", "Tell me {e}'s {a}, please", "{e} {a}", "which {a} does {e} use")
SURE = 0.6


def lesson(id: str, text: str, **fields: object) -> Lesson:
    return Lesson(
        **{  # type: ignore[arg-type]
            "id": id,
            "skill": "facts",
            "level": 1,
            "text": text,
            "prompt": "",
            "answer": "",
            "success": True,
            "run": "r",
            "cycle": 0,
            "variant": "",
            **fields,
        }
    )


class Facts:
    """Two thousand facts about five hundred things, and two hundred things of which nothing is known."""

    def __init__(self, folder: Path) -> None:
        self.random = random.Random(1)
        names = sorted({"".join(self.random.choices(SYLLABLES, k=3)) for _ in range(900)})
        self.random.shuffle(names)
        self.known, self.unknown = names[:500], names[500:700]
        self.facts = {
            (thing, attribute): f"{self.random.randrange(1000, 9999)}"
            for thing in self.known
            for attribute in self.random.sample(ATTRIBUTES, 4)
        }
        self.ids = {fact: f"{number:05}" for number, fact in enumerate(self.facts)}
        self.embedder = HashedNgrams()
        self.memory = MemoryStore(folder)
        self.memory.put(
            [
                lesson(self.ids[fact], f"The {fact[1]} of {fact[0]} is {self.facts[fact]}.")
                for fact in self.facts
            ]
        )
        assert embed_missing(self.memory, self.embedder) == len(self.facts)

    def question(self, thing: str, attribute: str) -> str:
        return self.random.choice(QUESTIONS).format(a=attribute, e=thing)

    def answers(
        self, question: str, *, vectors: bool = True, confidence: float = SURE, k: int = 5
    ) -> list[str]:
        vector = self.embedder.embed([question])[0] if vectors else None
        query = Query(text=question, vector=vector, k=k, confidence=confidence)
        return [hit.lesson.id for hit in self.memory.search(query)]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facts]:
    facts = Facts(tmp_path_factory.mktemp("facts") / "memory")
    yield facts
    facts.memory.close()


@pytest.mark.parametrize("vectors", [False, True])
def test_answers_are_found_and_unanswerable_questions_get_none(facts: Facts, *, vectors: bool) -> None:
    asked = facts.random.sample(sorted(facts.facts), 200)
    found = {SURE: 0, 0.0: 0}
    for fact in asked:
        question = facts.question(*fact)
        for confidence in found:
            found[confidence] += facts.ids[fact] in facts.answers(
                question, vectors=vectors, confidence=confidence
            )
    strange = [(thing, facts.random.choice(ATTRIBUTES)) for thing in facts.unknown[:100]]
    while len(strange) < 200:
        other = facts.random.choice(facts.known), facts.random.choice(ATTRIBUTES)
        if other not in facts.facts:
            strange.append(other)
    silent = sum(not facts.answers(facts.question(*fact), vectors=vectors) for fact in strange)
    assert silent >= 180
    assert found[0.0] >= 198
    assert found[SURE] >= found[0.0] - 4


def test_typing_errors_and_shuffled_words_find_what_was_meant(facts: Facts) -> None:
    asked = facts.random.sample(sorted(facts.facts), 100)
    found = 0
    for thing, attribute in asked:
        at = facts.random.randrange(1, len(thing) - 1)
        words = [attribute, "of", thing[:at] + thing[at + 1] + thing[at] + thing[at + 2 :], "what"]
        facts.random.shuffle(words)
        found += facts.ids[thing, attribute] in facts.answers(" ".join(words), confidence=0.0, k=5)
    assert found >= 85


@pytest.mark.parametrize(
    "text",
    [
        "数字の繰り上がり",
        "перенос цифры",
        "حمل الرقم",
        "\u0000\u0007",
        "🙂🙂",
        "a" * 100_000,
        " ",
        "\ud800".encode("utf-8", "replace").decode(),
    ],
)
def test_any_text_can_be_kept_and_asked(tmp_path: Path, text: str) -> None:
    with MemoryStore(tmp_path / "memory") as memory:
        memory.put([lesson("it", text), lesson("other", "carry the digit")])
        embed_missing(memory, HashedNgrams())
        hits = memory.search(Query(text=text, vector=HashedNgrams().embed([text])[0], k=2))
        assert hits[0].lesson.id == "it"
        assert memory.check() == 2


def test_a_flood_from_one_writer_changes_nobody_elses_answers(tmp_path: Path) -> None:
    draw = random.Random(2)
    words = [f"word{number}" for number in range(400)]
    with MemoryStore(tmp_path / "memory") as memory:
        memory.put([lesson(f"{number:04}", " ".join(draw.choices(words, k=12))) for number in range(1000)])
        flood = draw.choices(words, k=12)
        others = [word for word in words if word not in flood]
        questions = [" ".join(draw.choices(others, k=4)) for _ in range(200)]

        def top(question: str) -> list[str]:
            return [hit.lesson.id for hit in memory.search(Query(text=question, k=5))]

        before = [top(question) for question in questions]
        taken = 0
        for number in range(10_000):
            copy = flood.copy()
            copy[draw.randrange(12)] = f"copy{number}"
            try:
                admit(memory, lesson(f"flood{number}", " ".join(copy), source="flooder"))
                taken += 1
            except NotAdmitted:
                continue
        assert taken <= 20
        changed = sum(top(question) != old for question, old in zip(questions, before, strict=True))
        assert changed <= 2


def test_what_was_learnt_again_takes_the_place_of_what_was(facts: Facts) -> None:
    fact = facts.random.choice(sorted(facts.facts))
    new = f"By now {fact[0]} has another {fact[1]}, and it is 17"
    facts.memory.put([lesson("again", new, supersedes=facts.ids[fact])])
    answers = facts.answers(f"What is the {fact[1]} of {fact[0]}?")
    assert "again" in answers and facts.ids[fact] not in answers
    assert facts.memory.purge("again")
    assert facts.ids[fact] in facts.answers(f"{fact[1]} of {fact[0]}")


def test_vectors_are_made_again_for_another_embedder(tmp_path: Path) -> None:
    with MemoryStore(tmp_path / "memory") as memory:
        memory.put([lesson(str(number), f"text {number}") for number in range(10)])
        assert embed_missing(memory, HashedNgrams(64), batch=3) == 10
        assert embed_missing(memory, HashedNgrams(64)) == 0
        assert embed_missing(memory, HashedNgrams(128)) == 10
        assert (memory.statistics().dimensions, memory.statistics().embedder) == (128, "hashed-ngrams-128")
