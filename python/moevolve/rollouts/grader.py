"""The grader's process, seen from the host: answers in, verdicts out, batch by batch; started once and kept warm.

It is sandboxed like a program's, and reads installed packages and the folders of a user's own skills besides: no secret of
the host, no network, nothing to write to. It gets names of tasks and answers, and makes gold answers again itself, so
that no message holds one. What it says is decoded strictly; whatever a check does to its process is that answer's verdict.
Checks of a suite's folder run in boxes (`workspaces`), on a machine that can make them, whoever made the attempt.
"""

from __future__ import annotations

import marshal
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from moevolve import _native
from moevolve.agents.box.workspace import Workspace
from moevolve.agents.process import ENVIRONMENT, FLAGS
from moevolve.agents.readable import HIDDEN_MODULES, interpreter_files
from moevolve.config import SandboxSection
from moevolve.errors import SafetyError, SandboxError
from moevolve.rollouts.workspaces import UNRUN, WorkspaceGrader, hopeless, offered
from moevolve.tasks.checks import check_files
from moevolve.tasks.grader import carried
from moevolve.tasks.grader.worker import Item, Order, Skills, Told, digest
from moevolve.tasks.grading import CHECK_ERROR, CHECK_TIMEOUT, failure_of, plain, refused
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task, Verdict, WorkspaceCheck

BATCH = 1024
"""Answers of one message."""
STARTS = 3
"""Tries to start the process."""
PATIENCE = 60.0
"""Seconds that the process may be silent while only our own code runs in it."""
FRAME = 8 << 20
MEMORY = 2 << 30
"""Address space in bytes: a check may import large libraries."""

BOOT = """
import marshal, os, sys
def more(count):
    part = os.read(0, count)
    return part + more(count - len(part)) if part and len(part) < count else part
packages, own = marshal.loads(more(int.from_bytes(more(4), "little")))
sys.path += packages
source, target = os.dup(0), os.dup(1)
os.dup2(2, 1)
os.close(0)
from moevolve.tasks.grader.worker import main
main(source, target, own)
"""

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
"""Where the shared libraries of packages lie; folders that do not exist are left out."""

ONE_THREAD = [(name, "1") for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")]
"""Threads are refused inside, so that libraries had better start none."""


class GraderProcess:
    """One warm process that grades a suite's answers; it belongs to the thread that uses it.

    Args:
        suite: whose tasks are graded.
        sandbox: its settings.
    """

    def __init__(self, suite: Suite, sandbox: SandboxSection) -> None:
        self._suite = suite
        self._sandbox = sandbox
        self._native: _native.SandboxedProcess | None = None
        self._owner = 0
        self._boxes: WorkspaceGrader | None = None

    def grade(
        self, given: Sequence[tuple[Task, str]], workspaces: Sequence[Workspace | None] = ()
    ) -> list[Verdict]:
        """Verdicts on answers, in their order; a check sees the workspace that an attempt left, or else the task's files.

        Raises:
            SandboxError: the process cannot be started, or dies while nothing but our own code runs in it.
            UsageError: a skill cannot be sent to it.
        """
        items = [
            Item(task.skill, task.level, task.seed, digest(task.prompt), plain(answer))
            for task, answer in given
        ]
        verdicts: dict[int, Verdict] = {}
        free = [index for index, (task, _) in enumerate(given) if not task.judged]
        left = workspaces or [None] * len(given)
        seen = {
            index: workspace or _untouched(task)
            for index, ((task, _), workspace) in enumerate(zip(given, left, strict=True))
            if isinstance(task.grade, WorkspaceCheck) and (workspace is not None or offered())
        }
        own = [index for index, (task, _) in enumerate(given) if task.judged and index not in seen]
        if seen:
            boxed = self._in_boxes().grade([(items[index], workspace) for index, workspace in seen.items()])
            verdicts |= zip(seen, boxed, strict=True)
        for start in range(0, len(free), BATCH):
            part = free[start : start + BATCH]
            verdicts |= zip(part, self._compared([items[index] for index in part]), strict=True)
        verdicts |= zip(own, self._checked([items[index] for index in own]), strict=True)
        return [verdicts[index] for index in range(len(items))]

    def start(self) -> None:
        """Starts the process, unless this thread has one."""
        if self._native is not None and self._owner == threading.get_ident():
            return
        self._end()
        first = carried.dumps(
            Skills(self._suite.skills, self._sandbox.check_seconds), f"suite {self._suite.name}"
        )
        for left in reversed(range(STARTS)):
            try:
                self._native = self._spawned()
                self._owner = threading.get_ident()
                folders = [list(map(str, each)) for each in (carried.package_folders(), self._roots())]
                self._native.send(marshal.dumps(folders), PATIENCE)
                self._native.send(first, PATIENCE)
                self._hear(PATIENCE)
                return
            except (SandboxError, TimeoutError, ValueError) as error:
                said = self._end()
                if not left:
                    raise SandboxError(
                        f"the grader's process cannot be started: {error}\n{said}".strip()
                    ) from error

    def prove(self) -> None:
        """Imports the checks of a suite's folder; errors as of `WorkspaceGrader.prove`."""
        if check_files(self._suite.skills.values()) and offered():
            self._in_boxes().prove()

    def _in_boxes(self) -> WorkspaceGrader:
        """The grader of what has a workspace, which is made when the first comes."""
        if self._boxes is None:
            skills = Skills(self._suite.skills, self._sandbox.check_seconds)
            self._boxes = WorkspaceGrader(
                carried.dumps(skills, f"suite {self._suite.name}"),
                self._sandbox.check_seconds,
                list(map(str, self._roots())),
                list(map(str, self._own_files())),
            )
        return self._boxes

    def close(self) -> None:
        """Ends its processes; more answers would start others."""
        self._end()
        boxes, self._boxes = self._boxes, None
        if boxes is not None:
            boxes.close()

    def _end(self) -> str:
        """Ends the process; says what it wrote to stderr."""
        native, self._native = self._native, None
        if native is None:
            return ""
        said = native.stderr()
        native.close()
        return said[-2000:].strip()

    def _compared(self, items: list[Item]) -> list[Verdict]:
        """Verdicts where only code of this package compares: the process has no reason to die."""
        for left in reversed(range(STARTS)):
            self.start()
            try:
                self._say(Order(items, checked=False))
                told = self._hear(PATIENCE)
                if len(told) != len(items):
                    raise ValueError(f"{len(told)} verdicts on {len(items)} answers")
                return [_verdict(each) for each in told]
            except (SandboxError, TimeoutError, ValueError) as error:
                said = self._end()
                if not left:
                    raise SandboxError(f"the grader's process died: {error}\n{said}".strip()) from error
        raise AssertionError("the last try returns or raises")

    def _checked(self, items: list[Item]) -> list[Verdict]:
        """Verdicts of checks of a user's own, which may do anything to the process they run in."""
        verdicts: list[Verdict] = []
        while len(verdicts) < len(items):
            self.start()
            rest = items[len(verdicts) :][:BATCH]
            try:
                self._say(Order(rest, checked=True))
                for _ in rest:
                    [told] = self._hear(self._seconds)
                    verdicts.append(_verdict(told))
                    if hopeless(verdicts):
                        self._end()
                        return verdicts + [UNRUN] * (len(items) - len(verdicts))
            except TimeoutError:
                self._end()
                verdicts.append(
                    refused(CHECK_TIMEOUT, f"the check did not end within {self._seconds:g} s, asleep or not")
                )
            except (SandboxError, ValueError) as error:
                self._end()
                verdicts.append(refused(CHECK_ERROR, f"the check's process broke: {error}"[:500]))
        return verdicts

    def _say(self, order: Order) -> None:
        assert self._native is not None, "the process has been started"
        self._native.send(msgspec.json.encode(order), PATIENCE)

    def _hear(self, seconds: float) -> list[Told]:
        assert self._native is not None, "the process has been started"
        try:
            return msgspec.json.decode(self._native.receive(FRAME, seconds), type=list[Told])
        except msgspec.DecodeError as error:
            raise ValueError(f"no proper message: {error}") from None

    @property
    def _seconds(self) -> float:
        return 4 * self._sandbox.check_seconds + 20

    def _spawned(self) -> _native.SandboxedProcess:
        try:
            return self._spawn(warm=True)
        except SafetyError:
            if self._sandbox.strict:
                raise
            return self._spawn(warm=False)

    def _spawn(self, *, warm: bool) -> _native.SandboxedProcess:
        paths = interpreter_files()
        return _native.spawn(
            paths.interpreter,
            [*FLAGS, "-c", BOOT],
            [*ENVIRONMENT, *ONE_THREAD],
            [*paths.readable, *LIBRARIES, *map(str, [*carried.package_folders(), *self._own_files()])],
            paths.executable,
            hidden=[path for path in paths.hidden if Path(path).name.partition(".")[0] in HIDDEN_MODULES],
            memory=MEMORY,
            cpu_seconds=10**6,
            open_files=64,
            warm=warm,
            strict=self._sandbox.strict,
        )

    def _modules(self) -> dict[str, Path]:
        """The files of a user's own modules that skills come from, by name."""
        modules = {skill.generator.__module__ or "" for skill in self._suite.skills.values()}
        files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted(modules)}
        return {
            name: Path(file).resolve() for name, file in files.items() if file and not carried.installed(name)
        }

    def _roots(self) -> list[Path]:
        """The folders that their names begin from, and those of checks."""
        roots = [file.parents[name.count(".")] for name, file in self._modules().items()]
        return [*roots, *self._check_folders()]

    def _check_folders(self) -> list[Path]:
        return [check.folder for check in check_files(self._suite.skills.values())]

    def _own_files(self) -> list[Path]:
        """What lies in those folders, but for hidden files, where secrets are kept."""
        return [
            Path(entry.path)
            for folder in sorted(
                {*(file.parent for file in self._modules().values()), *self._check_folders()}
            )
            for entry in os.scandir(folder)
            if not entry.name.startswith(".")
        ]


def _untouched(task: Task) -> Workspace:
    """The workspace of an attempt that had none, or changed nothing: what its task puts there."""
    return Workspace(None, {} if task.files is None else dict(task.files.read()))


def _verdict(told: Told) -> Verdict:
    if told.success != (told.score == 1.0) or not 0.0 <= told.score <= 1.0:
        raise ValueError("a verdict that contradicts itself")
    failure = None if told.success else failure_of(told.failure)
    return Verdict(score=told.score, success=told.success, failure=failure, detail=told.detail)
