"""The grader's process, seen from the host: answers in, verdicts out, batch by batch; started once and kept warm.

It is sandboxed like a program's, and reads installed packages and the folders of a user's own skills besides: no secret of
the host, no network, nothing to write to. It gets names of tasks and answers, and makes gold answers again itself, so
that no message holds one. What it says is decoded strictly; whatever a check does to its process is that answer's verdict.
Checks of a suite's folder run in boxes (`workspaces`), whoever made the attempt; here where a machine makes none. They may
read what lies beside them but for `tasks.jsonl`, and get the one task that an answer is about.
"""

from __future__ import annotations

import marshal
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import msgspec

from moevolve import _native
from moevolve.agents.box.workspace import Workspace
from moevolve.agents.process import ENVIRONMENT, FLAGS
from moevolve.agents.readable import HIDDEN_MODULES, interpreter_files
from moevolve.config import SandboxSection
from moevolve.errors import SafetyError, SandboxError, UsageError
from moevolve.rollouts.workspaces import WorkspaceGrader, offered
from moevolve.tasks.checks import CheckFile, check_by, check_files, libraries
from moevolve.tasks.folder import CHECK, answer_files
from moevolve.tasks.grader import carried
from moevolve.tasks.grader.worker import IMPORT, Checked, Item, Order, Posed, Proof, Skills, Told, digest
from moevolve.tasks.grading import CHECK_ERROR, CHECK_TIMEOUT, UNRUN, hopeless, plain, refused
from moevolve.tasks.skill import Skill
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
        self._shown: TemporaryDirectory[str] | None = None

    def grade(
        self, given: Sequence[tuple[Task, str]], workspaces: Sequence[Workspace | None] = ()
    ) -> list[Verdict]:
        """Verdicts on answers, in their order; a check sees the workspace that an attempt left, or else the task's files.

        Raises:
            SandboxError: the process cannot be started, or dies while nothing but our own code runs in it.
            UsageError: a skill cannot be sent to it.
        """
        left = workspaces or [None] * len(given)
        verdicts: dict[int, Verdict] = {}
        listed: dict[int, tuple[Posed, Workspace]] = {}
        own: dict[int, Item] = {}
        free: dict[int, Item] = {}
        for index, ((task, answer), workspace) in enumerate(zip(given, left, strict=True)):
            if isinstance(task.grade, WorkspaceCheck):
                listed[index] = _posed(task, task.grade, plain(answer)), workspace or _untouched(task)
                continue
            item = Item(task.skill, task.level, task.seed, digest(task.identity), plain(answer))
            (own if task.judged else free)[index] = item
        for start in range(0, len(free), BATCH):
            part = list(free)[start : start + BATCH]
            verdicts |= zip(part, self._compared([free[index] for index in part]), strict=True)
        verdicts |= zip(own, self._checked(list(own.values())), strict=True)
        if listed:
            verdicts |= zip(listed, self._by_checks(list(listed.values())), strict=True)
        return [verdicts[index] for index in range(len(given))]

    def start(self) -> None:
        """Starts the process, unless this thread has one."""
        if self._native is not None and self._owner == threading.get_ident():
            return
        self._end()
        skills = {path: skill for path, skill in self._suite.skills.items() if check_by(skill) is None}
        first = carried.dumps(self._sent(skills), self._what)
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
        """Imports the checks of a suite's folder, where they will run.

        Raises:
            UsageError: one cannot be imported; says why.
            SandboxError: nothing starts in which they could be.
        """
        files = tuple(check.file for check in self._files)
        if not files:
            return
        [verdict] = self._by_checks([(Proof(files), Workspace(None, {}))])
        if verdict.failure == IMPORT:
            raise UsageError(verdict.detail)
        if not verdict.success:
            raise UsageError(
                f"the suite's {CHECK} ends its process, or does not end, when it is imported: {verdict.detail}"
            )

    def _by_checks(self, given: Sequence[tuple[Posed | Proof, Workspace]]) -> list[Verdict]:
        """Verdicts of the checks of a suite's folder: in boxes, or in forks on a machine that makes none."""
        if not offered():
            return self._checked([item for item, _ in given], [workspace for _, workspace in given])
        if self._boxes is None:
            files, hidden = list(map(str, self._beside_checks())), list(map(str, self._closed))
            self._boxes = WorkspaceGrader(self._sent({}), self._what, files, hidden)
        return self._boxes.grade(given)

    def _sent(self, skills: dict[str, Skill]) -> Skills:
        """What a process that grades has from the beginning."""
        checks = {path: check_by(skill) for path, skill in self._suite.skills.items()}
        carried_checks = {
            path: check
            for path, check in checks.items()
            if check is not None and not isinstance(check, CheckFile)
        }
        return Skills(skills, carried_checks, libraries(self._files), self._sandbox.check_seconds)

    def close(self) -> None:
        """Ends its processes; more answers would start others."""
        self._end()
        if self._shown is not None:
            self._shown.cleanup()
            self._shown = None
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
                self._say(Order([*items], checked=False))
                told = self._hear(PATIENCE)
                if len(told) != len(items):
                    raise ValueError(f"{len(told)} verdicts on {len(items)} answers")
                return [each.verdict() for each in told]
            except (SandboxError, TimeoutError, ValueError) as error:
                said = self._end()
                if not left:
                    raise SandboxError(f"the grader's process died: {error}\n{said}".strip()) from error
        raise AssertionError("the last try returns or raises")

    def _checked(
        self, items: Sequence[Checked], workspaces: Sequence[Workspace] | None = None
    ) -> list[Verdict]:
        """Verdicts of checks of a user's own, which may do anything to the process they run in; one at a time where they see
        workspaces."""
        verdicts: list[Verdict] = []
        while len(verdicts) < len(items):
            shown = None if workspaces is None else self._show(workspaces[len(verdicts)])
            self.start()
            rest = items[len(verdicts) :][: BATCH if shown is None else 1]
            try:
                self._say(Order([*rest], checked=True, workspace=shown))
                for _ in rest:
                    [told] = self._hear(self._seconds)
                    verdicts.append(told.verdict())
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
        own = [*carried.package_folders(), *self._beside_modules(), *self._beside_checks()]
        if self._shown is not None:
            own.append(Path(self._shown.name))
        hidden = [path for path in paths.hidden if Path(path).name.partition(".")[0] in HIDDEN_MODULES]
        return _native.spawn(
            paths.interpreter,
            [*FLAGS, "-c", BOOT],
            [*ENVIRONMENT, *ONE_THREAD],
            [*paths.readable, *LIBRARIES, *map(str, own)],
            paths.executable,
            hidden=[*hidden, *map(str, self._closed)],
            memory=MEMORY,
            cpu_seconds=10**6,
            open_files=64,
            warm=warm,
            strict=self._sandbox.strict,
        )

    def _show(self, workspace: Workspace) -> str:
        """The folder in which a process without boxes sees a workspace; it holds that of one attempt at a time."""
        if self._shown is None:
            self._end()  # What it may read is settled when it starts.
            self._shown = TemporaryDirectory(prefix="moevolve-")
        folder = Path(self._shown.name)
        assert workspace.files is not None, "who has a mount has boxes"
        try:
            for entry in folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            for name, data in workspace.files.items():
                if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
                    raise SandboxError(f"a workspace holds {name!r}, which leads out of it")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
        except OSError as error:
            raise SandboxError(
                f"what an attempt left cannot be shown to the suite's {CHECK}: {error}"
            ) from error
        return str(folder)

    @cached_property
    def _files(self) -> list[CheckFile]:
        return check_files(self._suite.skills.values())

    @cached_property
    def _closed(self) -> list[Path]:
        return answer_files(self._suite)

    @property
    def _what(self) -> str:
        return f"suite {self._suite.name}"

    def _modules(self) -> dict[str, Path]:
        """The files of a user's own modules that skills come from, by name."""
        modules = {skill.generator.__module__ or "" for skill in self._suite.skills.values()}
        files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted(modules)}
        return {
            name: Path(file).resolve() for name, file in files.items() if file and not carried.installed(name)
        }

    def _roots(self) -> list[Path]:
        """The folders that their names begin from."""
        return [file.parents[name.count(".")] for name, file in self._modules().items()]

    def _beside_modules(self) -> list[Path]:
        return [
            path for folder in {file.parent for file in self._modules().values()} for path in _visible(folder)
        ]

    def _beside_checks(self) -> list[Path]:
        """What checks may read of their folders: all but the tasks, whose answers are there."""
        return [
            path
            for check in self._files
            for path in _visible(check.folder)
            if path.resolve() not in self._closed
        ]


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, but for hidden files, where secrets are kept."""
    return [Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]


def _posed(task: Task, grade: WorkspaceCheck, answer: str) -> Posed:
    file = grade.check.file if isinstance(grade.check, CheckFile) else None
    return Posed(task.skill, file, marshal.dumps(grade.fields), answer)


def _untouched(task: Task) -> Workspace:
    """The workspace of an attempt that had none, or changed nothing: what its task puts there."""
    return Workspace(None, {} if task.files is None else dict(task.files.read()))
