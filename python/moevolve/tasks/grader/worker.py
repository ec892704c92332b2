"""What runs in the grader's process: it makes tasks again from their names, grades answers, and sends verdicts.

A user's check may hang, crash, print, fork or fill the disk, or run what an answer says. So each of its answers is graded in
a fork of its own, which can neither hear the host nor speak to it; the host ends a process that says nothing any more.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import signal
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import FrameType

import msgspec

from moevolve.errors import UsageError
from moevolve.tasks.checks import check_files
from moevolve.tasks.grader import carried
from moevolve.tasks.grading import CHECK_ERROR, CHECK_TIMEOUT, refused, trace
from moevolve.tasks.skill import Skill
from moevolve.tasks.task import Task, Verdict

WORKSPACE = Path("/box/graded")
"""Where a box shows what an attempt left."""
MOST = 1 << 16
"""Bytes of a fork's verdict."""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """An answer to grade. `prompt` is a digest, so that a generator that drew another task is found out."""

    skill: str
    level: int
    seed: int
    prompt: str
    answer: str


class Order(msgspec.Struct, frozen=True):
    """What the host asks: verdicts on `items`, one at a time and in forks where they have a check of their own."""

    items: list[Item]
    checked: bool


class Told(msgspec.Struct, frozen=True, array_like=True):
    """A verdict on the wire."""

    score: float
    success: bool
    failure: str | None
    detail: str


class Skills(msgspec.Struct, frozen=True):
    """What is graded: skills, and the processor time of one check."""

    skills: dict[str, Skill]
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


def digest(prompt: str) -> str:
    """A prompt's name on the wire."""
    return hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


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
    start = carried.loads(_read(source))
    signal.signal(signal.SIGPROF, _alarm)
    _write(target, msgspec.json.encode(list[Told]()))
    while True:
        order = msgspec.json.decode(_read(source), type=Order)
        if not order.checked:
            _write(target, msgspec.json.encode([_told(_graded(start, item)) for item in order.items]))
            continue
        for item in order.items:
            _write(target, msgspec.json.encode([_apart(start, item, source, target)]))


def _apart(start: Skills, item: Item, source: int, target: int) -> Told:
    """The verdict of a fork on one answer."""
    inlet, outlet = os.pipe()
    try:
        child = os.fork()
    except OSError:
        # A machine on which this process may not fork: checks share it.
        os.close(inlet)
        os.close(outlet)
        return _told(_graded(start, item))
    if not child:
        try:
            for descriptor in (source, target, inlet):
                os.close(descriptor)
            body = msgspec.json.encode(_told(_graded(start, item)))
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
    """What a nursery of checks holds: the skills, of `main`'s folders and first message."""
    own, skills = marshal.loads(argument)
    sys.meta_path.append(OwnModules(own))
    start: Skills = carried.loads(skills)
    for check in check_files(start.skills.values()):
        # For all boxes at once. One that cannot be imported here is tried again, and told, in each.
        with suppress(BaseException):
            check.load()
    return start


def proved(start: Skills, body: bytes) -> bytes:
    """Why a check of a folder cannot be imported; empty where each can."""
    for check in check_files(start.skills.values()):
        try:
            check.load()
        except UsageError as error:
            return str(error).encode("utf-8", "replace")
    return b""


def shown(start: Skills, body: bytes) -> bytes:
    """The verdict on one answer, in a box that shows the workspace."""
    signal.signal(signal.SIGPROF, _alarm)
    item = msgspec.json.decode(body, type=Item)
    return msgspec.json.encode(_told(_graded(start, item, WORKSPACE)))


def _graded(start: Skills, item: Item, workspace: Path | None = None) -> Verdict:
    skill = start.skills[item.skill]
    seconds = start.check_seconds
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
        try:
            task = skill.task(item.level, item.seed)
            if digest(task.prompt) != item.prompt:
                return refused(CHECK_ERROR, _another(task))
            return skill.grade(task, item.answer, workspace)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except CheckTimeout:
        return refused(CHECK_TIMEOUT, f"the check used more than {seconds:g} s of processor time")
    except Exception:  # noqa: BLE001  whatever a generator or check raises is a verdict
        return refused(CHECK_ERROR, trace())
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        return refused(CHECK_ERROR, f"the check raised {type(error).__name__}")


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
