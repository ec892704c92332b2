"""What runs in the grader's process: it makes tasks again from their names, grades answers, and sends verdicts.

A user's check may hang, crash, print, fork or fill the disk, or run what an answer says. So each of its answers is graded in
a fork of its own, which can neither hear the host nor speak to it; the host ends a process that says nothing any more.
Where a suite's folder has the check, a task comes with its answer, and no other task is there to be read.
"""

from __future__ import annotations

import hashlib
import importlib
import marshal
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import FrameType

import msgspec

from moevolve.errors import UsageError
from moevolve.tasks.checks import TASKS, Check, CheckFile
from moevolve.tasks.grader import carried
from moevolve.tasks.grading import CHECK_ERROR, CHECK_TIMEOUT, SUCCESS, failure_of, grade, refused, trace
from moevolve.tasks.skill import Skill
from moevolve.tasks.task import Task, Verdict, WorkspaceCheck

WORKSPACE = Path("/box/graded")
"""Where a box shows what an attempt left."""
MOST = 1 << 16
"""Bytes of a fork's verdict."""
IMPORT = "import"
"""Failure of a proof whose check cannot be imported."""


class Item(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """An answer to grade. `identity` is a digest, so that a generator that drew another task is found out."""

    skill: str
    level: int
    seed: int
    identity: str
    answer: str


class Posed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """An answer to grade by the check of a suite's folder, with the line of the one task that it is about."""

    skill: str
    file: str | None
    """The check's; None where it came with the skills."""
    line: bytes
    """The task as its author wrote it, marshalled."""
    answer: str


class Proof(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Whether files of checks can be imported: a success, or `IMPORT` with the reason."""

    files: tuple[str, ...]


Checked = Item | Posed | Proof
"""What runs a user's own code."""


class Order(msgspec.Struct, frozen=True):
    """What the host asks: verdicts on `items`, one at a time and in forks where they have a check of their own."""

    items: list[Checked]
    checked: bool
    workspace: str | None = None
    """The folder with what the attempt left, for the check of a suite's folder."""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """A verdict on the wire."""

    score: float
    success: bool
    failure: str | None
    detail: str

    def verdict(self) -> Verdict:
        """The verdict, whoever sent it.

        Raises:
            ValueError: it contradicts itself.
        """
        if self.success != (self.score == 1.0) or not 0.0 <= self.score <= 1.0:
            raise ValueError("a verdict that contradicts itself")
        failure = None if self.success else failure_of(self.failure)
        return Verdict(score=self.score, success=self.success, failure=failure, detail=self.detail)


class Skills(msgspec.Struct, frozen=True):
    """What is graded: skills, and the processor time of one check."""

    skills: dict[str, Skill]
    """But for those that the check of a suite's folder judges."""
    checks: dict[str, Check]
    """Skill -> its check, where that is in no file."""
    libraries: tuple[str, ...]
    """What the checks in files import, to be imported once."""
    check_seconds: float


class OwnModules:
    """Imports a user's own modules, from folders whose list of files stays closed.

    Args:
        folders: where to look.
    """

    def __init__(self, folders: list[str]) -> None:
        self.folders = folders

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        *packages, last = name.split(".")
        for folder in self.folders:
            for place in (f"{last}.py", f"{last}/__init__.py"):
                file = Path(folder, *packages, place)
                if file.is_file():
                    return spec_from_file_location(name, file)
            if Path(folder, *packages, last).is_dir():
                spec = ModuleSpec(name, None, is_package=True)
                spec.submodule_search_locations = [str(Path(folder, *packages, last))]
                return spec
        return None


class CheckTimeout(BaseException):
    """A check that used up its time; no `Exception`, so that the check's own handlers let it through."""


def digest(identity: str) -> str:
    """A task's identity on the wire."""
    return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _alarm(number: int, frame: FrameType | None) -> None:
    raise CheckTimeout


def main(source: int, target: int, own: list[str]) -> None:
    """Serves orders until the host is gone.

    Args:
        source: descriptor of the host's messages; the folders to import from have been read.
        target: descriptor of ours.
        own: folders of a user's own modules.
    """
    sys.meta_path.append(OwnModules(own))
    start: Skills = carried.loads(_read(source))
    _import(start.libraries)
    signal.signal(signal.SIGPROF, _alarm)
    _write(target, msgspec.json.encode(list[Told]()))
    while True:
        order = msgspec.json.decode(_read(source), type=Order)
        if not order.checked:
            _write(target, msgspec.json.encode([_told(_graded(start, item)) for item in order.items]))
            continue
        workspace = None if order.workspace is None else Path(order.workspace)
        for item in order.items:
            _write(target, msgspec.json.encode([_apart(start, item, workspace, source, target)]))


def _apart(start: Skills, item: Checked, workspace: Path | None, source: int, target: int) -> Told:
    """The verdict of a fork on one answer."""
    inlet, outlet = os.pipe()
    try:
        child = os.fork()
    except OSError:
        # A machine on which this process may not fork: checks share it.
        os.close(inlet)
        os.close(outlet)
        return _told(_graded(start, item, workspace))
    if not child:
        try:
            for descriptor in (source, target, inlet):
                os.close(descriptor)
            body = msgspec.json.encode(_told(_graded(start, item, workspace)))
            while body:
                body = body[os.write(outlet, body) :]
        finally:
            os._exit(0)
    os.close(outlet)
    said = b""
    while (part := os.read(inlet, MOST)) and len(said) < MOST:
        said += part
    os.close(inlet)
    _, status = os.waitpid(child, 0)
    try:
        return msgspec.json.decode(said, type=Told)
    except msgspec.DecodeError:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"code {os.WEXITSTATUS(status)}"
        return _told(refused(CHECK_ERROR, f"the check ended its process: {how}"))


def prepared(argument: bytes) -> Skills:
    """What a nursery of checks holds: libraries, and no task."""
    start: Skills = carried.loads(argument)
    _import(start.libraries)
    return start


def shown(start: Skills, body: bytes) -> bytes:
    """The verdict on one answer, in a box that shows the workspace."""
    signal.signal(signal.SIGPROF, _alarm)
    item: Checked = msgspec.json.decode(body, type=Checked)
    return msgspec.json.encode(_told(_graded(start, item, WORKSPACE)))


def _import(libraries: Iterable[str]) -> None:
    """For all forks at once. What cannot be imported here is tried again, and told, in each."""
    for name in libraries:
        with suppress(BaseException):
            importlib.import_module(name)


def _graded(start: Skills, item: Checked, workspace: Path | None = None) -> Verdict:
    seconds = start.check_seconds
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
        try:
            if isinstance(item, Proof):
                return _proved(item)
            if isinstance(item, Posed):
                return _by_check(start, item, workspace)
            skill = start.skills[item.skill]
            task = skill.task(item.level, item.seed)
            if digest(task.identity) != item.identity:
                return refused(CHECK_ERROR, _another(task))
            return skill.grade(task, item.answer)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except CheckTimeout:
        return refused(CHECK_TIMEOUT, f"the check used more than {seconds:g} s of processor time")
    except Exception:  # noqa: BLE001  whatever a generator or check raises is a verdict
        return refused(CHECK_ERROR, trace())
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        return refused(CHECK_ERROR, f"the check raised {type(error).__name__}")


def _proved(proof: Proof) -> Verdict:
    for file in proof.files:
        try:
            _of(file).load()
        except UsageError as error:
            closed = f"; {TASKS} is closed to checks: `task` is the line that an answer is about"
            return refused(IMPORT, f"{error}{closed if TASKS in str(error) else ''}")
    return SUCCESS


def _by_check(start: Skills, posed: Posed, workspace: Path | None) -> Verdict:
    check = start.checks[posed.skill] if posed.file is None else _of(posed.file)
    line = marshal.loads(posed.line)
    # Only the check's own is filled in: nothing else of a task decides where it has one.
    task = Task(prompt="", skill=posed.skill, grade=WorkspaceCheck(check, line))
    return grade(task, posed.answer, None, workspace)


def _of(file: str) -> CheckFile:
    """The check of a file, with what stands beside it to import."""
    check = CheckFile(file)
    sys.meta_path.append(OwnModules([str(check.folder)]))
    return check


def _another(task: Task) -> str:
    return f"the generator of {task.skill} made another task of the same name here: it must draw from its rng alone"


def _told(verdict: Verdict) -> Told:
    detail = verdict.detail.encode("utf-8", "replace").decode()
    return Told(verdict.score, verdict.success, verdict.failure, detail)


def _read(source: int) -> bytes:
    return _exactly(source, int.from_bytes(_exactly(source, 4), "little"))


def _exactly(source: int, count: int) -> bytes:
    parts = []
    while count:
        part = os.read(source, min(count, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _write(target: int, body: bytes) -> None:
    data = memoryview(len(body).to_bytes(4, "little") + body)
    while data:
        data = data[os.write(target, data) :]
