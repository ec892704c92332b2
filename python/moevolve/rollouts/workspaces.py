"""Checks of suites' folders: each in a box of its own, where what the attempt left shows read-only, without a copy.

Whoever made the attempt, the box is the same: it has a `/tmp` and a working folder, and may start threads and programs. It
is forked from a process that has imported the libraries that the check names, and imports the check itself; it has no
network, and what it does to itself is that answer's verdict. Of the suite's tasks it has the one that the answer is about,
in the memory of the check's own process: a program that the check starts reads none.
"""

from __future__ import annotations

import asyncio
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
from moevolve.tasks.grader import carried
from moevolve.tasks.grader.worker import Posed, Proof, Skills, Told
from moevolve.tasks.grading import CHECK_ERROR, CHECK_TIMEOUT, UNRUN, hopeless, refused
from moevolve.tasks.task import Verdict

WORKER = "moevolve.tasks.grader.worker"
AT_ONCE = 8
"""Checks that run at one time."""
TURN = 4 * AT_ONCE
"""Checks after which those that do not end are counted."""
LIMITS = {"workspace": 64 << 20, "nodes": 16384, "memory": 2 << 30, "processes": 64, "files": 256}
PRINTED = 1 << 20
"""Bytes that a check may print."""


class WorkspaceGrader:
    """Grades answers with workspaces.

    Args:
        start: what boxes have in common; no task.
        what: whose it is, for errors.
        files: what of the suite's folder checks may read.
        hidden: what stays closed wherever it shows.

    Raises:
        UsageError: a check cannot be sent to them.
    """

    def __init__(self, start: Skills, what: str, files: Sequence[str], hidden: Sequence[str]) -> None:
        self._seconds = start.check_seconds
        self._interpreter = interpreter(None)
        packages = tuple(map(str, carried.package_folders()))
        self._nursery = Nursery(
            Spec(
                self._interpreter,
                readable=(*packages, *files),
                path=packages,
                prepare=f"{WORKER}:prepared",
                argument=carried.dumps(start, what),
                hidden=tuple(hidden),
            )
        )

        weakref.finalize(self, nurseries.close, [self._nursery])

    def grade(self, given: Sequence[tuple[Posed | Proof, Workspace]]) -> list[Verdict]:
        """Verdicts, in the order of what is given.

        Raises:
            SafetyError: this machine cannot make boxes.
            SandboxError: a box cannot be made.
        """
        return asyncio.run_coroutine_threadsafe(self._all(given), nurseries.loop()).result()

    def close(self) -> None:
        """Ends its processes."""
        nurseries.close([self._nursery])

    async def _all(self, given: Sequence[tuple[Posed | Proof, Workspace]]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for start in range(0, len(given), TURN):
            verdicts += await self._turn(given[start : start + TURN])
            if hopeless(verdicts):
                return verdicts + [UNRUN] * (len(given) - len(verdicts))
        return verdicts

    async def _turn(self, given: Sequence[tuple[Posed | Proof, Workspace]]) -> list[Verdict]:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(item: Posed | Proof, workspace: Workspace) -> Verdict:
            async with slots:
                return await self._one(item, workspace)

        return list(await asyncio.gather(*(one(item, workspace) for item, workspace in given)))

    async def _one(self, item: Posed | Proof, workspace: Workspace) -> Verdict:
        made = job(
            "call",
            argv=["check"],
            entry=f"{WORKER}:shown",
            stdin=msgspec.json.encode(item),
            show=None if workspace.files is None else dict(workspace.files),
            environment=environment(self._interpreter),
            limits={**LIMITS, "cpu": int(self._seconds) + 2},
        )
        running = Running(self._nursery, made, self._patience, PRINTED, workspace)
        ended = await running.run()
        if running.workspace is not None:
            running.workspace.close()
        return _verdict(ended, self._seconds, self._patience)

    @property
    def _patience(self) -> float:
        return 4 * self._seconds + 20


def offered() -> bool:
    """Whether this machine can make boxes."""
    return not set(nurseries.NEEDED) & set(_native.probe()["missing"])


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
        return msgspec.json.decode(ended.answer, type=Told).verdict()
    except msgspec.DecodeError:
        return refused(CHECK_ERROR, f"the check ended its process: code {ended.code}")
    except ValueError as error:
        return refused(CHECK_ERROR, f"the check sent {error}")
