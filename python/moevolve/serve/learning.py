"""Learning beside the traffic: keeps what clients allow, starts cycles in a process of their own, swaps what passed."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from moevolve.errors import MoevolveError, UsageError
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.models.champions import Champion
from moevolve.records import Gated, Record
from moevolve.serve.deployed import Deployed
from moevolve.serve.interactions import Feedback, Interaction, Interactions
from moevolve.serve.learner import NOTHING, lesson_id
from moevolve.serve.service import Service

Result = TypeVar("Result")

_decode_record = msgspec.json.Decoder(Record).decode


class Learning:
    """A server's memory of its traffic, and its cycles. Methods belong to the loop's thread; the store's work does not.

    Args:
        deployed: the server's run.
        service: what newer weights are deployed to.
        say: tells the person.
        every: seconds between scheduled cycles; None learns on request only.
        threads: of a cycle's engines.
        most: interactions that are kept.
        hidden: environment variables that a cycle's process does not get.
    """

    def __init__(
        self,
        deployed: Deployed,
        service: Service,
        say: Callable[[str], None],
        *,
        every: float | None,
        threads: int,
        most: int,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self.deployed = deployed
        self.interactions = Interactions(deployed.store, most)
        self.last = "no cycle yet"
        """What became of the newest cycle."""
        self._service = service
        self._say = say
        self._every = every
        self._threads = threads
        self._environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self._writer = ThreadPoolExecutor(1, "moevolve serve: store")
        self._cycle: asyncio.Task[None] | None = None
        self._schedule: asyncio.Task[None] | None = None
        self._erased: set[str] = set()
        """What was erased while a cycle ran, which may have read it before and write lessons of it later."""

    def begin(self) -> None:
        """Starts the schedule, if there is one."""
        if self._every is not None:
            self._schedule = asyncio.get_running_loop().create_task(self._scheduled(self._every))

    async def close(self) -> None:
        """Ends a cycle under way, and writes what is left to write."""
        for task in (self._schedule, self._cycle):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await asyncio.to_thread(self._writer.shutdown)

    # What is kept

    def keep(self, interaction: Interaction) -> None:
        """Keeps an interaction; a failure is told to the person, the client has its answer."""
        future = self._writer.submit(self.interactions.keep, interaction)
        future.add_done_callback(lambda done: self._told(done.exception()))

    async def judge(self, id: str, choice: int, client: str, score: float, correction: str | None) -> None:
        """Keeps a client's feedback.

        Raises:
            UsageError: there is no such answer.
        """
        feedback = Feedback(
            id=id,
            choice=choice,
            client=client,
            at=time.time_ns() // 1_000_000,
            score=score,
            correction=correction,
        )
        await self._do(lambda: self.interactions.judge(feedback))

    async def listed(self, client: str | None) -> list[dict[str, Any]]:
        """Interactions with the feedback on them, oldest first."""

        def read() -> list[dict[str, Any]]:
            said: dict[str, list[Feedback]] = {}
            for feedback in self.interactions.feedback():
                said.setdefault(feedback.id, []).append(feedback)
            return [
                {
                    **msgspec.to_builtins(interaction),
                    "feedback": [
                        msgspec.to_builtins(feedback)
                        for feedback in said.get(interaction.id, ())
                        if client in (None, interaction.client, feedback.client)
                    ],
                }
                for interaction in self.interactions.all(client)
            ]

        return await self._do(read)

    async def erase(self, ids: Sequence[str] | None, client: str | None) -> int:
        """Erases interactions, the feedback on them, and the lessons from them; returns how many."""

        def work() -> int:
            touched = self.interactions.touched(ids, client)
            if running:
                self._erased.update(touched)  # Before anything is gone: the cycle has read it.
            purge_lessons(self.deployed, touched)
            return self.interactions.erase(ids, client)

        running = self.running
        return await self._do(work)

    # What is learned

    @property
    def running(self) -> bool:
        """Whether a cycle is under way."""
        return self._cycle is not None and not self._cycle.done()

    def learn(self) -> bool:
        """Starts a cycle; False if one is under way."""
        if self.running:
            return False
        self._cycle = asyncio.get_running_loop().create_task(self._one())
        return True

    async def finished(self) -> None:
        """Waits for the cycle under way."""
        if self._cycle is not None:
            await asyncio.shield(self._cycle)

    async def roll_back(self, variant: str | None) -> Champion:
        """Serves an earlier champion again.

        Raises:
            UsageError: there is none, or a cycle is under way.
        """
        if self.running:
            raise UsageError("a cycle is under way: its result would come on top of the older weights")
        champion = await self._do(lambda: self.deployed.roll_back(variant))
        await self._deploy(champion)
        self._say(f"moevolve: rolled back to {champion.variant}, weights {champion.weights[:12]}")
        return champion

    async def state(self) -> dict[str, Any]:
        """What there is and what became of it."""
        champion = await self._do(self.deployed.champion)
        return {
            "champion": champion.variant,
            "weights": champion.weights,
            "champions": await self._do(self.deployed.history),
            "cycles": await self._do(lambda: self.deployed.cycles),
            "running": self.running,
            "last": self.last,
            "interactions": len(self.interactions),
            "head": await self._do(self.deployed.store.head),
        }

    async def _scheduled(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            if self.interactions.unseen:
                self.learn()
                await self.finished()

    async def _one(self) -> None:
        verdicts = self.interactions.verdicts
        try:
            try:
                self.last = await self._run()
            finally:
                erased, self._erased = self._erased, set()
                await self._do(lambda: purge_lessons(self.deployed, erased))
            # Of a cycle that fails the feedback stays unseen: the next one learns from it.
            await self._do(lambda: self.interactions.seen(verdicts))
        except (MoevolveError, OSError) as error:
            self.last = f"failed: {error}"
        self._say(f"moevolve: learning: {self.last}")

    async def _run(self) -> str:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "moevolve.serve.learner",
            str(self.deployed.store.path),
            "--threads",
            str(self._threads),
            "--device",
            self.deployed.device,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            limit=1 << 24,
        )
        assert child.stdout is not None and child.stderr is not None, "both are pipes"
        gated: Gated | None = None
        try:
            while line := await child.stdout.readline():
                try:
                    record = _decode_record(line)
                except msgspec.DecodeError as error:
                    raise MoevolveError(f"the cycle told something that is no record: {error}") from error
                await self._do(lambda record=record: self.deployed.record([record]))  # type: ignore[misc]
                gated = record if isinstance(record, Gated) else gated
            said = (await child.stderr.read()).decode(errors="replace").strip()
            code = await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if code == NOTHING:
            return f"not enough feedback: {said}"
        if code or gated is None:
            raise MoevolveError(said[-2000:] or f"the cycle's process ended with {code}")
        if gated.decision == "promote":
            await self._deploy(await self._do(self.deployed.champion))
        return f"{gated.candidate}: {gated.decision}: {gated.reason}"

    async def _deploy(self, champion: Champion) -> None:
        engine = await asyncio.to_thread(self.deployed.engine, champion)
        self._service.deploy(engine, champion.weights)

    async def _do(self, work: Callable[[], Result]) -> Result:
        """Does the store's work in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    def _told(self, error: BaseException | None) -> None:
        if error is not None:
            self._say(f"moevolve: an interaction was not kept: {error}")


def erase(
    deployed: Deployed, interactions: Interactions, ids: Sequence[str] | None, client: str | None
) -> int:
    """Erases interactions, feedback, and the lessons from either; returns how many interactions."""
    purge_lessons(deployed, interactions.touched(ids, client))  # while it is known which
    return interactions.erase(ids, client)


def purge_lessons(deployed: Deployed, interactions: Iterable[str]) -> None:
    """Purges the lessons that came from these interactions."""
    with MemoryStore(memory_folder(deployed.store.path)) as memory:
        for id in sorted(interactions):
            memory.purge(lesson_id(id))
