"""What a row may stand for: Enter opens it, `y` copies its name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from moevolve.records import Lesson, Sample


class VariantTarget(msgspec.Struct, frozen=True):
    """A variant, by its row."""

    row: int
    name: str


class DiffTarget(msgspec.Struct, frozen=True):
    """What tells a variant from another one, by their rows."""

    before: int
    after: int
    name: str


class EntryTarget(msgspec.Struct, frozen=True):
    """An entry of the journal."""

    seq: int

    @property
    def name(self) -> str:
        return str(self.seq)


class SkillTarget(msgspec.Struct, frozen=True):
    name: str
    """The skill's path."""


class CycleTarget(msgspec.Struct, frozen=True):
    number: int

    @property
    def name(self) -> str:
        return f"cycle {self.number}"


class SampleTarget(msgspec.Struct, frozen=True):
    """A kept attempt, and the stage that it is of."""

    cycle: int
    stage: str
    variant: str
    sample: Sample

    @property
    def name(self) -> str:
        return self.sample.task


class LessonTarget(msgspec.Struct, frozen=True):
    lesson: Lesson

    @property
    def name(self) -> str:
        return self.lesson.id


class RunTarget(msgspec.Struct, frozen=True):
    path: Path

    @property
    def name(self) -> str:
        return str(self.path)


class PageTarget(msgspec.Struct, frozen=True):
    """A screen by its number."""

    number: int
    name: str


class FoldTarget(msgspec.Struct, frozen=True):
    """A branch that opens and closes."""

    key: str

    @property
    def name(self) -> str:
        return self.key


class ActionTarget(msgspec.Struct, frozen=True):
    """Something to do, by the application's name of it."""

    action: str
    name: str


Target = (
    VariantTarget
    | DiffTarget
    | EntryTarget
    | SkillTarget
    | CycleTarget
    | SampleTarget
    | LessonTarget
    | RunTarget
    | PageTarget
    | FoldTarget
    | ActionTarget
)
