"""What expires in a cycle, what falls with it, and what is said of the lessons of people."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from moevolve.config import Config
from moevolve.journal.lessons import MemoryStore, Query, Standing
from moevolve.loop.snapshot import Snapshot
from moevolve.loop.stages.consolidate import consolidate
from moevolve.loop.stages.proposing import _told
from moevolve.loop.stages.remember import remember
from moevolve.memory.lessons import LessonMemory, Writes
from moevolve.memory.trust import Evidence, Rate
from moevolve.protocol.requests import Note
from moevolve.records import Consolidated, Lesson, Record, Remembered
from moevolve.rollouts.attempts import Attempt, Counts, Rollouts
from moevolve.tasks.task import Task, Verdict

SKILL = "text/reverse"


def lesson(id: str, answer: str, **fields: Any) -> Lesson:
    common = {"skill": SKILL, "level": 1, "prompt": "rev:ab=", "success": True, "run": "r", "cycle": 1}
    return Lesson(
        **{"id": id, "text": f"rev:ab={answer}", "answer": answer, "variant": "v", **common, **fields}
    )


class Run:
    """A run of a memory, a snapshot and records, and nothing else."""

    def __init__(self, folder: Path, lessons: list[Lesson], **evidence: Evidence) -> None:
        self.config = Config.load("small", {"memory.without": 0.0})
        self.lessons = LessonMemory(MemoryStore(folder), "r", self.config.memory)
        self.lessons.write(Writes(lessons))
        self.state = Snapshot(evidence=evidence, without={SKILL: Rate(18, 20)})
        self.champion = SimpleNamespace(id="v0001")
        self.written: list[Record] = []
        self.journal = SimpleNamespace(write=self.written.extend)

    def practise(self, cycle: int, *recalled: str, notes: tuple[Note, ...] = ()) -> None:
        """Twelve attempts that recall some lessons and fail, and the end of the cycle."""
        task, wrong = (
            Task(prompt="rev:xy=", skill=SKILL, level=1),
            Verdict(score=0.0, success=False, failure="wrong"),
        )
        attempts = [Attempt(task, "", wrong, (), (recalled,), notes) for _ in range(12)]
        remember(self, cycle, [], None, Rollouts(attempts, Counts()))  # type: ignore[arg-type]
        consolidate(self, cycle)  # type: ignore[arg-type]
        self.lessons.write(self.state.writes)
        self.lessons.open_cycle(cycle + 1)

    def holding(self) -> list[str]:
        return sorted(hit.lesson.id for hit in self.lessons.store.search(Query(k=99)))


def test_with_a_lesson_that_was_made_of_others_these_expire(tmp_path: Path) -> None:
    run = Run(tmp_path, [lesson("a", "ab"), lesson("b", "bb"), lesson("other", "ba", prompt="rev:ba=")])
    run.practise(2)
    [made] = [record for record in run.written if isinstance(record, Consolidated)]
    assert run.holding() == sorted(["other", made.lesson])
    run.practise(3, made.lesson)
    told = [record for record in run.written if isinstance(record, Remembered)][-1]
    assert told.expired == [made.lesson] == list(told.trust), "on record is what attempts told of"
    assert run.holding() == ["other"]
    assert run.lessons.store.check() == 4


def test_what_expires_as_it_is_made_one_falls_with_all_that_it_was_made_of(tmp_path: Path) -> None:
    harm = Evidence(0.0, 1.5)
    assert not harm.expired and (harm + harm).expired
    run = Run(tmp_path, [lesson("a", "ab"), lesson("b", "bb")], a=harm, b=harm)
    run.practise(2)
    [made] = [record for record in run.written if isinstance(record, Consolidated)]
    assert made.decision == "merged" and run.holding() == []


def test_a_program_may_go_on_saying_things_whatever_expired(tmp_path: Path) -> None:
    """Each text is said in three cycles, in the last of them after it has expired; no cycle is refused by memory."""
    run = Run(tmp_path, [])
    for cycle in range(2, 9):
        note = Note(
            text=f"payloads of up to {cycle // 3} letters need no split at all here", kind="procedure"
        )
        run.practise(cycle, *run.holding(), notes=(note,))
    run.lessons.store.check()
    held = {each.id: run.lessons.store.standing(each.id) for each in run.lessons.store.all()}
    assert sum(each == Standing(each.trust, forgotten=True) for each in held.values() if each) >= 2
    texts = [each.text for each in run.lessons.store.all() if not each.sources]
    assert len(texts) == len(set(texts)), "nothing that expired is back"


def test_a_brief_has_a_persons_lesson_in_its_own_words() -> None:
    assert _told(lesson("a", "ba")) == "rev:ab= -> ba (right)"
    said = msgspec.structs.replace(lesson("b", ""), prompt="", text="read from the end")
    assert _told(said) == "read from the end"
