"""Runs attempts in boxes and answers what they ask: whatever waits when the policy is free goes to it as one batch."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec

from moevolve.agents.box import nursery as nurseries
from moevolve.agents.box.attempt import BoxedAttempt
from moevolve.agents.box.conversation import Asked, Conversation
from moevolve.agents.box.interpreter import interpreter
from moevolve.agents.box.nursery import Nursery, Spec
from moevolve.agents.box.records import Records, Words
from moevolve.agents.gateway import Gateway, Kind
from moevolve.agents.genome import Genome
from moevolve.agents.manifest import Manifest, manifest_of
from moevolve.agents.wire import WireRequest
from moevolve.config.roles import RoleSection
from moevolve.protocol.requests import Outcome, PublicTask

ENDING = 30.0
"""Seconds that boxes may take to end when nobody waits for their answers any more."""

Table = Mapping[str, Kind[Any, Any]]


class Abandoned(Exception):
    """Nobody waits for the attempts any more."""


class BoxHost:
    """Attempts of agents of the kinds `command` and `class`.

    Args:
        records: attempts on record.
        hidden: files of this machine that no agent reads, wherever they would show.
    """

    def __init__(self, records: Records | None = None, hidden: Iterable[Path] = ()) -> None:
        self.records = records or Records()
        self._hidden = tuple(map(str, hidden))
        self._nurseries: dict[Spec, Nursery] = {}
        self._calls: dict[int, _Call] = {}
        """Attempts under way, by their sessions."""
        weakref.finalize(self, _ended, self._nurseries)

    def solve(
        self,
        genome: Genome,
        tasks: Sequence[PublicTask],
        table: Table,
        keys: Sequence[int],
        role: RoleSection,
        words: Words,
        *,
        keep: bool,
        sessions: Sequence[int],
    ) -> list[Outcome]:
        """One attempt on every task, each in a box of its own.

        Args:
            genome: the agent.
            tasks: what it sees of them.
            table: the kinds of requests that are answered.
            keys: one key a task.
            role: what an attempt may ask of the policy; the round is divided by it before it starts.
            words: whose the table's are.
            keep: hold on to workspaces, for `workspace.take`.
            sessions: one a task, whose world its calls of tools reach.

        Raises:
            SafetyError: this machine cannot make boxes.
            SandboxError: a box cannot be made.
            Abandoned: `abandon` was called for one of the sessions.
        """
        manifest = manifest_of(genome.files)
        nursery = self._nursery(manifest)
        call = _Call(len(tasks), manifest.limits.at_once, words.together)
        conversations = [
            Conversation(
                manifest,
                genome,
                task,
                BoxedAttempt(task.skill, key, role, session),
                call.ask(index),
                self.records,
                words,
                keep,
            )
            for index, (task, key, session) in enumerate(zip(tasks, keys, sessions, strict=True))
        ]
        gateway = Gateway(table)
        self._calls |= dict.fromkeys(sessions, call)
        work = asyncio.run_coroutine_threadsafe(call.run(conversations, nursery), nurseries.loop())
        try:
            while (asked := call.waiting()) is not None:
                call.reply(asked, self._replies(gateway, asked, conversations))
                for conversation in conversations:
                    if not conversation.attempt.open:
                        nurseries.loop().call_soon_threadsafe(conversation.stop)
        except BaseException:
            work.cancel()
            call.over.wait(ENDING)
            raise
        finally:
            for session in sessions:
                self._calls.pop(session, None)
        work.result()
        return [each.outcome() for each in conversations]

    def abandon(self, sessions: Iterable[int]) -> None:
        """Ends the boxes of attempts under way that nobody waits for any more; any thread may ask for it."""
        for session in sessions:
            if (call := self._calls.get(session)) is not None:
                call.abandon()

    def close(self) -> None:
        """Ends the nurseries."""
        _ended(self._nurseries)
        self.records.close()

    def _replies(
        self, gateway: Gateway, asked: Sequence[Asked], conversations: Sequence[Conversation]
    ) -> list[Any]:
        """One reply each; None to an attempt that is over.

        What an attempt asks at one time comes to what it would have come to one by one, as the record has it: only what it
        can pay in any case is answered together.
        """
        given: dict[int, Any] = {}
        waiting = list(asked)
        while waiting:
            waiting = [each for each in waiting if conversations[each.index].attempt.asks]
            now, waiting = _round(gateway, waiting, conversations)
            self._served(gateway, now, conversations, given)
        return [given.get(id(each)) for each in asked]

    def _served(
        self,
        gateway: Gateway,
        asked: Sequence[Asked],
        conversations: Sequence[Conversation],
        given: dict[int, Any],
    ) -> None:
        attempts = [each.attempt for each in conversations]
        live = []
        for each in asked:
            if not attempts[each.index].heard:  # What is on record was weighed when it was made.
                attempts[each.index].weigh(len(each.arguments))
            if attempts[each.index].asks:
                conversations[each.index].note(each.kind, each.arguments)
                live.append(each)
        replies = gateway.serve([_wire(each) for each in live], attempts).replies if live else []
        for each, reply in zip(live, replies, strict=True):
            given[id(each)] = reply
            if reply is not None and len(reply) > 2 and reply[2] == "budget" and attempts[each.index].open:
                # Clients ask again whatever they are told, so the first refusal is the attempt's end.
                attempts[each.index].dismiss("budget", reply[3])

    def _nursery(self, manifest: Manifest) -> Callable[[], Nursery]:
        """Gives the nursery of an agent; it is started when the first attempt needs it."""

        def made() -> Nursery:
            spec = Spec(
                interpreter(manifest.python),
                imports=manifest.preload if manifest.warm else (),
                readable=manifest.readable,
                hidden=self._hidden,
            )
            if spec not in self._nurseries:
                self._nurseries[spec] = Nursery(spec)
            return self._nurseries[spec]

        return made


def _wire(asked: Asked) -> WireRequest:
    return WireRequest(asked.kind, asked.index, msgspec.Raw(asked.arguments))


def _round(
    gateway: Gateway, asked: Sequence[Asked], conversations: Sequence[Conversation]
) -> tuple[list[Asked], list[Asked]]:
    """What is answered now, and what waits for it."""
    now: list[Asked] = []
    later: list[Asked] = []
    for index, group in groupby(asked, key=lambda each: each.index):
        own = list(group)
        most = 1
        if len(own) > 1:
            attempt = conversations[index].attempt
            most = gateway.together([_wire(each) for each in own], attempt)
            if not attempt.fits(sum(len(each.arguments) for each in own[:most])):
                most = 1
        now += own[:most]
        later += own[most:]
    return now, later


def _ended(held: dict[Spec, Nursery]) -> None:
    nurseries.close(held.values())
    held.clear()


class _Over:
    """An attempt that has ended."""


class _Call:
    """One call's attempts, between the thread that asks the policy and the loop of the boxes."""

    def __init__(self, count: int, at_once: int, together: bool) -> None:
        self._events: SimpleQueue[Asked | _Over | Abandoned | None] = SimpleQueue()
        self._left = count
        self._at_once = at_once
        self._together = together
        self.over = threading.Event()
        """Set when no box is left."""

    def ask(self, index: int) -> Callable[[str, bytes], asyncio.Future[Any]]:
        """What an attempt asks with: (kind, arguments) -> the reply to come."""

        def ask(kind: str, arguments: bytes) -> asyncio.Future[Any]:
            reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._events.put(Asked(index, kind, arguments, reply))
            return reply

        return ask

    def abandon(self) -> None:
        """Lets `waiting` raise."""
        self._events.put(Abandoned())

    def waiting(self) -> list[Asked] | None:
        """Whatever waits, once something does; None when all attempts have ended.

        Raises:
            Abandoned: nobody waits for them any more.
        """
        found: list[Asked] = []
        while not self._enough(found):
            event = self._events.get()
            if event is None:
                if not found:
                    return None
                self._events.put(None)
                break
            if isinstance(event, Abandoned):
                raise event
            if isinstance(event, _Over):
                self._left -= 1
            else:
                found.append(event)
        # Which came first among those that wait together says nothing.
        return sorted(found, key=lambda asked: (asked.index, asked.arguments))

    def _enough(self, found: Sequence[Asked]) -> bool:
        if self._together:
            return len({each.index for each in found}) >= max(1, min(self._at_once, self._left))
        return bool(found) and self._events.empty()

    def reply(self, asked: Sequence[Asked], replies: Sequence[Any]) -> None:
        """Answers what waits."""

        def give() -> None:
            for each, reply in zip(asked, replies, strict=True):
                if not each.reply.done():
                    each.reply.set_result(reply)

        nurseries.loop().call_soon_threadsafe(give)

    async def run(self, conversations: Sequence[Conversation], nursery: Callable[[], Nursery]) -> None:
        """Runs the attempts, so many at a time, in their order."""
        slots = asyncio.Semaphore(self._at_once)

        async def one(conversation: Conversation) -> None:
            async with slots:
                await conversation.run(nursery)
                self._events.put(_Over())

        try:
            tasks = [asyncio.ensure_future(one(each)) for each in conversations]
            try:
                await asyncio.gather(*tasks)
            except BaseException:
                for task in tasks:
                    if not task.cancelling():  # A box that is being ended is not to be disturbed.
                        task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise
        finally:
            self._events.put(None)
            self.over.set()
