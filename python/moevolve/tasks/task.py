"""What crosses between those who make tasks, those who attempt them and those who grade: Task and Verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from moevolve.errors import UsageError
from moevolve.protocol.messages import Message
from moevolve.tasks.environment import Environment
from moevolve.tasks.files import TaskFiles

Match = Literal["exact", "last line"]


NAMED = ("id", "skill", "level", "prompt", "messages", "answer", "files")
"""Fields of a listed task that stand elsewhere in it, or tell nothing about it."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt with a hidden answer or check. A (skill, level, seed) names it for ever.

    Whoever writes a skill gives `prompt` and either `answer` or `grade`; the suite fills in the rest.
    """

    prompt: str
    answer: str | None = None
    """The gold answer; the grader compares it with the stripped answer, exactly."""
    match: Match = "exact"
    """What of an answer is compared with the gold one: all of it, or, where that differs, its last line."""
    grade: Callable[[str], float | Verdict] | None = None
    """A check of the user's own: answer -> score in [0, 1], or a verdict. It decides alone where it is given."""
    messages: tuple[Message, ...] = ()
    """The conversation that ends in `prompt`, where the task is one."""
    fields: dict[str, Any] = {}
    """Whatever else the task's author wrote beside it, for the check alone."""
    files: TaskFiles | None = None
    """What lies in the workspace of an agent that has one."""
    environment: type[Environment] | None = None
    """The world that the task is about: attempts change it by its tools, and its end state decides."""
    skill: str = ""
    level: int = 0
    seed: int = 0

    @property
    def question(self) -> str | tuple[Message, ...]:
        """What a policy is asked: the conversation where the task is one, else the prompt."""
        return self.messages or self.prompt

    @property
    def identity(self) -> str:
        """What tells the task from others: its prompt, with the conversation, files and world that it is about.

        Raises:
            UsageError: its world holds what has no form of its own in JSON.
        """
        about: dict[str, Any] = {}
        if self.messages:
            about["messages"] = self.messages
        if self.files is not None:
            about["files"] = self.files.name
        if self.environment is not None:
            about["world"] = {name: value for name, value in self.fields.items() if name not in NAMED}
        if not about:
            return self.prompt
        try:
            return msgspec.json.encode((self.prompt, _named_by_text(about)), order="sorted").decode()
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise UsageError(
                f"task {self.called!r} cannot be told from others by its fields, which must be what JSON can hold: {error}"
            ) from error

    @property
    def id(self) -> str:
        """`text/reverse/3/12345`: the skill's path, the level and the seed of the generator."""
        return f"{self.skill}/{self.level}/{self.seed}"

    @property
    def called(self) -> str:
        """What its author calls it, or its id."""
        return str(self.fields.get("id", self.id))

    @property
    def judged(self) -> bool:
        """Whether a user's own code decides about answers: a check, or the score of an environment."""
        return self.grade is not None or self.environment is not None


def _named_by_text(value: Any) -> Any:
    """The same value with texts as the keys of its mappings.

    Raises:
        ValueError: two keys have one text.
    """
    if isinstance(value, Mapping):
        named = {
            name if isinstance(name, str) else repr(name): _named_by_text(each)
            for name, each in value.items()
        }
        if len(named) < len(value):
            raise ValueError("two keys of a mapping read the same")
        return named
    return [_named_by_text(each) for each in value] if isinstance(value, list | tuple) else value


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The sealed grader's answer. `detail` never holds the gold answer: programs may come to read it."""

    score: float
    success: bool
    """Only a full score is a success; partial credit is not."""
    failure: str | None = None
    """None, `wrong`, `malformed`, or the type of what stopped the attempt before it had an answer."""
    detail: str = ""


class WorkspaceCheck(msgspec.Struct, frozen=True):
    """A check that may look at what an attempt left: `check(task, answer, workspace)`, bound to its task."""

    check: Callable[[dict[str, Any], str, Path | None], float | Verdict]
    fields: dict[str, Any]
    """The task as its author wrote it."""

    def __call__(self, answer: str, workspace: Path | None = None) -> float | Verdict:
        """The score of an answer; `workspace` is None where no process of the graders' asks."""
        return self.check(self.fields, answer, workspace)
