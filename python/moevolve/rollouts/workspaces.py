"""Checks of suites' folders: each in a box of its own, where what the attempt left shows read-only, without a copy.

Whoever made the attempt, the box is the same: it has a `/tmp` and a working folder, and may start threads and programs. It
is forked from a process that has the suite's check loaded; it has no network, and what it does to itself is that answer's
verdict.
"""

from __future__ import annotations

import asyncio
import marshal
import weakref
from collections.abc import Sequence

import msgspec

from moevolve import _native
from moevolve.agents.box import nursery as nurseries
from moevolve.agents.box.attempt import environment
from moevolve.agents.box.interpreter import interpreter
from moevolve.agents.box.nursery import Nursery, Spec
from moevolve.agents.box.running import Ended, Running, job
from moevolve.agents.box.workspace import Workspace
from moevolve.errors import SandboxError, UsageError
from moevolve.tasks.folder import CHECK
from moevolve.tasks.grader import carried
from moevolve.tasks.grader.worker import Item, Told
from moevolve.tasks.grading import CHECK_ERROR, CHECK_TIMEOUT, failure_of, refused
from moevolve.tasks.task import Verdict

WORKER = "moevolve.tasks.grader.worker"
AT_ONCE = 8
"""Checks that run at one time."""
TURN = 4 * AT_ONCE
"""Checks after which those that do not end are counted."""
LIMITS = {"workspace": 64 << 20, "nodes": 16384, "memory": 2 << 30, "processes": 64, "files": 256}
PRINTED = 1 << 20
"""Bytes that a check may print."""
HUNG = 4
"""Answers of one call whose checks do not end, after which the rest is not run."""
SHARE = 0.1
"""Of the answers so far, which those must be more than."""
UNRUN = refused(CHECK_TIMEOUT, f"not run: {HUNG} checks and more before it did not end")


class WorkspaceGrader:
    """Grades answers with workspaces.

    Args:
        skills: the suite's, as bytes for `worker.prepared`.
        seconds: processor time of one check.
        own: folders of a user's own modules.
        files: what else of this machine those modules need to see.
    """

    def __init__(self, skills: bytes, seconds: float, own: Sequence[str], files: Sequence[str]) -> None:
        self._seconds = seconds
        self._interpreter = interpreter(None)
        packages = tuple(map(str, carried.package_folders()))
        self._nursery = Nursery(
            Spec(
                self._interpreter,
                readable=(*packages, *files),
                path=packages,
                prepare=f"{WORKER}:prepared",
                argument=marshal.dumps((list(own), skills), 2),
            )
        )

        weakref.finalize(self, nurseries.close, [self._nursery])

    def grade(self, given: Sequence[tuple[Item, Workspace]]) -> list[Verdict]:
        """Verdicts, in the order of what is given.

        Raises:
            SafetyError: this machine cannot make boxes.
            SandboxError: a box cannot be made.
        """
        return asyncio.run_coroutine_threadsafe(self._all(given), nurseries.loop()).result()

    def close(self) -> None:
        """Ends its processes."""
        nurseries.close([self._nursery])

    def prove(self) -> None:
        """Imports the checks.

        Raises:
            UsageError: one cannot be imported; says why.
        """
        proving = self._ended("proved", b"", Workspace(None, {}))
        try:
            ended = asyncio.run_coroutine_threadsafe(proving, nurseries.loop()).result()
        except SandboxError as error:
            raise UsageError(f"no process starts that has imported the suite's {CHECK}: {error}") from error
        if ended.code != 0:
            raise UsageError(f"the suite's {CHECK} ends its process, or does not end, when it is imported")
        if ended.answer:
            raise UsageError(ended.answer.decode("utf-8", "replace"))

    async def _all(self, given: Sequence[tuple[Item, Workspace]]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for start in range(0, len(given), TURN):
            verdicts += await self._turn(given[start : start + TURN])
            if hopeless(verdicts):
                return verdicts + [UNRUN] * (len(given) - len(verdicts))
        return verdicts

    async def _turn(self, given: Sequence[tuple[Item, Workspace]]) -> list[Verdict]:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(item: Item, workspace: Workspace) -> Verdict:
            async with slots:
                return await self._one(item, workspace)

        return list(await asyncio.gather(*(one(item, workspace) for item, workspace in given)))

    async def _one(self, item: Item, workspace: Workspace) -> Verdict:
        ended = await self._ended("shown", msgspec.json.encode(item), workspace)
        return _verdict(ended, self._seconds, self._patience)

    async def _ended(self, entry: str, told: bytes, workspace: Workspace) -> Ended:
        made = job(
            "call",
            argv=["check"],
            entry=f"{WORKER}:{entry}",
            stdin=told,
            show=None if workspace.files is None else dict(workspace.files),
            environment=environment(self._interpreter),
            limits={**LIMITS, "cpu": int(self._seconds) + 2},
        )
        running = Running(self._nursery, made, self._patience, PRINTED, workspace)
        ended = await running.run()
        if running.workspace is not None:
            running.workspace.close()
        return ended

    @property
    def _patience(self) -> float:
        return 4 * self._seconds + 20


def offered() -> bool:
    """Whether this machine can make boxes."""
    return not set(nurseries.NEEDED) & set(_native.probe()["missing"])


def hopeless(verdicts: Sequence[Verdict]) -> bool:
    """Whether so many checks did not end that no further one is run."""
    hung = sum(verdict.failure == CHECK_TIMEOUT for verdict in verdicts)
    return hung >= HUNG and hung > SHARE * len(verdicts)


def _verdict(ended: Ended, seconds: float, patience: float) -> Verdict:
    if ended.timeout:
        return refused(CHECK_TIMEOUT, f"the check did not end within {patience:g} s, asleep or not")
    if ended.limit == "cpu_seconds":
        return refused(CHECK_TIMEOUT, f"the check used more than {seconds:g} s of processor time")
    if ended.limit is not None:
        return refused(CHECK_ERROR, f"the check reached a limit of its box: {ended.limit}")
    if ended.signal is not None:
        return refused(CHECK_ERROR, f"the check ended its process: signal {ended.signal}")
    if ended.code != 0:
        # Whatever it has said, it has not come to the end of saying it.
        return refused(CHECK_ERROR, f"the check ended its process: code {ended.code}")
    try:
        told = msgspec.json.decode(ended.answer, type=Told)
    except msgspec.DecodeError:
        return refused(CHECK_ERROR, f"the check ended its process: code {ended.code}")
    if told.success != (told.score == 1.0) or not 0.0 <= told.score <= 1.0:
        return refused(CHECK_ERROR, "the check sent a verdict that contradicts itself")
    return Verdict(
        score=told.score, success=told.success, failure=None if told.success else failure_of(told.failure),
        detail=told.detail,
    )  # fmt: skip
