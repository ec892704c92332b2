"""The sealed grader: exact comparison of the stripped answer, or the task's own check."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from moevolve.errors import UsageError
from moevolve.protocol.requests import SILENT
from moevolve.tasks.environment import graded
from moevolve.tasks.modules import folders
from moevolve.tasks.task import Task, Verdict, WorkspaceCheck

TOO_LONG = 2
"""An answer this many times as long as the gold one, plus `SLACK`, is not an attempt at it."""
SLACK = 8

CHECK_ERROR = "check_error"
"""Failure of an attempt whose task's own check raised, or returned no score: it counts as no success, and ends no run."""
CHECK_TIMEOUT = "check_timeout"
"""Failure of an attempt whose task's own check did not end."""
BROKEN = (CHECK_ERROR, CHECK_TIMEOUT)
"""Failures that a check is to blame for."""
HUNG = 4
"""Answers of one call whose checks do not end, after which the rest is not run."""
SHARE = 0.1
"""Of the answers so far, which those must be more than."""
LONGEST = 1000
"""Characters of a check's traceback that are kept, its end first."""

_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
_NAME = re.compile(r"[a-z][a-z0-9 _-]{0,39}")

SUCCESS = Verdict(score=1.0, success=True)


def grade(task: Task, answer: str, alphabet: str | None = None, workspace: Path | None = None) -> Verdict:
    """Grades an answer.

    Args:
        task: the task, with its gold answer or its own check.
        answer: what an attempt returned; blanks around it do not count.
        alphabet: the characters that answers of this skill are made of; None allows all.
        workspace: what the attempt left, for a check that looks at it; None of attempts that have none.

    Returns:
        Score 1 for the gold answer and 0 for every other, or the score of the task's own check. An answer
        that is empty, far too long or made of other characters fails as `malformed`, any other as `wrong`. A check that
        raises, or returns anything but a number in [0, 1], fails as `check_error` with its traceback; a failure that it
        names itself is `wrong` where the name has a meaning to runs.

    Raises:
        UsageError: the task has neither an answer nor a check.
    """
    given = plain(answer)
    if task.judged:
        try:
            return _checked(task, given, _judged(task, given, workspace))
        except Exception:  # noqa: BLE001  a check is a user's code: whatever it raises is this attempt's verdict
            return refused(CHECK_ERROR, trace())
    if task.answer is None:
        raise UsageError(
            f"task {task.id} has neither an answer nor a check: give mv.Task(answer=...) or grade=..."
        )
    if given == task.answer:
        return SUCCESS
    if task.match == "last line":
        given = given.rpartition("\n")[2].strip()
        if given == task.answer:
            return SUCCESS
    problem = _malformed(given, task.answer, alphabet)
    if problem is not None:
        return refused("malformed", problem)
    return refused("wrong", "not the expected answer")


def _judged(task: Task, given: str, workspace: Path | None) -> float | Verdict:
    """The score of a task's own check, or of its environment."""
    if task.grade is None:
        return graded(task, given)
    return task.grade(given, workspace) if isinstance(task.grade, WorkspaceCheck) else task.grade(given)


def trace() -> str:
    """The end of the traceback of what is being handled, the same wherever the suite lies and whichever process grades."""
    text = traceback.format_exc()
    for folder in folders():
        text = text.replace(f"{folder}/", "")
    return _ADDRESS.sub("0x", text)[-LONGEST:].strip()


def plain(answer: str) -> str:
    """The one normal form of an answer, which is graded, kept and learned: a plain text without blanks around it."""
    return str.strip(str.encode(answer, "utf-8", "replace").decode())


def failure_of(name: object, reserved: Sequence[str] = SILENT) -> str:
    """What a failure is called that a check has named, or its process: `wrong` where the name is a reserved one or none."""
    return name if isinstance(name, str) and _NAME.fullmatch(name) and name not in reserved else "wrong"


def refused(failure: str, detail: str) -> Verdict:
    """A verdict without a score."""
    return Verdict(score=0.0, success=False, failure=failure, detail=detail)


UNRUN = refused(CHECK_TIMEOUT, f"not run: {HUNG} checks and more before it did not end")


def hopeless(verdicts: Sequence[Verdict]) -> bool:
    """Whether so many checks did not end that no further one is run."""
    hung = sum(verdict.failure == CHECK_TIMEOUT for verdict in verdicts)
    return hung >= HUNG and hung > SHARE * len(verdicts)


def _malformed(given: str, gold: str, alphabet: str | None) -> str | None:
    if not given:
        return "empty answer"
    if len(given) > TOO_LONG * len(gold) + SLACK:
        return f"{len(given)} characters, far longer than any answer here"
    if alphabet is not None and (alien := sorted(set(given) - set(alphabet))):
        return f"characters that no answer here holds: {''.join(alien[:8])!r}"
    return None


def _checked(task: Task, given: str, told: object) -> Verdict:
    """A verdict of what a check returned: a number, or a verdict of its own making."""
    score = told.score if isinstance(told, Verdict) else told
    if isinstance(score, str | bytes) or not hasattr(score, "__float__"):
        raise ValueError(f"the check of skill {task.skill!r} returned {_named(told)}, not a score in [0, 1]")
    value = float(score)
    if math.isnan(value) or not 0.0 <= value <= 1.0:
        raise ValueError(f"the check of skill {task.skill!r} returned {value!r}, not a score in [0, 1]")
    if value == 1.0:
        return SUCCESS
    if isinstance(told, Verdict):
        detail = str(told.detail)[-LONGEST:]
        failure = failure_of(told.failure, (*SILENT, *BROKEN))
        return Verdict(score=value, success=False, failure=failure, detail=detail)
    if not given:
        return Verdict(score=value, success=False, failure="malformed", detail="empty answer")
    return Verdict(score=value, success=False, failure="wrong", detail="the task's check was not met")


def _named(value: object) -> str:
    return "None" if value is None else type(value).__name__
