"""A run's champion as an agent for tasks that come from elsewhere: what a client asks is solved as a task of the run's
suite, within the run's limits, with its tools and its memory.

A task of a suite with environments has a world of its own, which begins with what the client says of it and is forgotten
with the attempt: whatever its tools do happens in there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec

from moevolve.agents.host import ProgramHost
from moevolve.agents.manifest import manifest_of
from moevolve.agents.plans.behaviour import Behaviour
from moevolve.config.roles import RoleSection
from moevolve.errors import UsageError
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop import resolve
from moevolve.loop.live_tools import live
from moevolve.loop.variants import genome_in
from moevolve.memory.lessons import LessonMemory
from moevolve.protocol.messages import Message
from moevolve.protocol.policy import Policy
from moevolve.protocol.requests import Outcome, PublicTask
from moevolve.protocol.rollouts import RolloutJob
from moevolve.randomness import key
from moevolve.records import VariantAdded
from moevolve.rollouts.executors.local import LocalExecutor, Programs
from moevolve.tasks.environment import Environment
from moevolve.tasks.task import Task
from moevolve.tasks.tools.process import CallFailed

EVERY = 1 << 62
"""A cycle that comes after all whose lessons may be recalled."""


class UnfitTask(UsageError):
    """A task that the champion cannot be given.

    Args:
        part: what of it is wrong: `messages`, `unnamed` (they do not say of which skill it is), `skill` or `task` (the
            fields of its world).
        message: why, and what to do.
    """

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


class ChampionAgent:
    """The champion's program of one run.

    Args:
        store: the run, open for reading.

    Raises:
        UsageError: the run holds no record yet, its suite is not here, or its tools cannot be loaded.
    """

    def __init__(self, store: RunStore) -> None:
        started = read(store).started
        self._store = store
        self.config = resolve.on_record(started, store.path)
        self.suite = resolve.suite(self.config)
        self._tools = live(self.suite)
        if self._tools is not None:
            _ = self._tools.tools  # What cannot be loaded says so now, and not to a client.
        self._host = ProgramHost(self.config.limits(), self.config.sandbox, self._tools, self.suite.cutters)
        self._memory = LessonMemory(
            MemoryStore(memory_folder(store.path)),
            started.run,
            self.config.memory,
            resolve.embedder(self.config),
        )
        self._reading = threading.Lock()
        self._behaviours: dict[str, Behaviour] = {}
        self._visits = count(1)
        self._sessions: dict[int, tuple[int, ...]] = {}
        """Of attempts under way, by the identity of the policy that they ask."""
        self._champion: VariantAdded | None = None

    @property
    def champion(self) -> VariantAdded:
        """Whose program answers now."""
        assert self._champion is not None, "a champion has been deployed"
        return self._champion

    @property
    def worlds(self) -> bool:
        """Whether tasks have environments."""
        return self.suite.environments is not None

    def close(self) -> None:
        """Ends the processes of tools and boxes."""
        if self._tools is not None:
            self._tools.close()
        self._host.boxes.close()

    def deploy(self, champion: VariantAdded) -> None:
        """Lets this variant's program answer from now on."""
        self._memory.open_cycle(EVERY)
        self._champion = champion

    def task(
        self, messages: Sequence[Message], skill: str | None = None, fields: Mapping[str, Any] | None = None
    ) -> Task:
        """The task that a conversation is.

        Args:
            messages: the conversation.
            skill: the task's; None reads it off its first word, or takes the only one.
            fields: what its world begins with, as its line of `tasks.jsonl` would say.

        Raises:
            UnfitTask: it asks for no skill of the suite, or for what the program does not read.
        """
        last = messages[-1]
        if last.role != "user" or not last.content:
            raise UnfitTask("messages", "the task is what the role `user` says last, and that is empty")
        if len(messages) > 1 and (why := self._deaf()) is not None:
            raise UnfitTask(
                "messages", f"{why}: send one message of the role `user`, with all that the task says"
            )
        path = self._skill(last.content if len(messages) == 1 else None, skill)
        world = self._world(path)
        if fields and world is None:
            raise UnfitTask("task", f"tasks of {path} have no environment: nothing reads their fields")
        return Task(
            prompt=last.content,
            messages=tuple(messages) if len(messages) > 1 else (),
            skill=path,
            level=self.suite.skills[path].levels[0],
            fields=dict(fields or {}),
            environment=world,
        )

    def _deaf(self) -> str | None:
        """Why the program does not read a conversation; None where it does."""
        if self.suite.answers == "policy":
            return f"programs of suite {self.suite.name} are plans, which solve one text"
        manifest = manifest_of(genome_in(self._store, self.champion.program).files)
        if manifest.boxed and not (manifest.kind == "command" and manifest.task == "json"):
            return 'this agent reads one text (`task = "json"` in agent.toml gives a command all of a conversation)'
        return None

    def _skill(self, prompt: str | None, named: str | None) -> str:
        skills = self.suite.skills
        if named is not None:
            if named not in skills:
                raise UnfitTask("skill", f"suite {self.suite.name} has {', '.join(skills)}")
            return named
        verb, colon, _ = (prompt or "").partition(":")
        found = [path for path, leaf in skills.items() if colon and leaf.verb == verb] or list(skills)
        if len(found) != 1:
            raise UnfitTask(
                "unnamed",
                f"it does not begin as a task of suite {self.suite.name} does: name its skill, one of {', '.join(skills)}",
            )
        return found[0]

    def _world(self, path: str) -> type[Environment] | None:
        """The environment that tasks of a skill are about."""
        if not self.worlds:
            return None
        leaf = self.suite.skills[path]
        if leaf.listed is None:
            return leaf.task(leaf.levels[0], 0).environment
        return next((task.environment for tasks in leaf.listed.tasks.values() for task in tasks), None)

    def limits(self, tokens: int | None = None) -> RoleSection:
        """What an attempt may spend: the run's limits of its solver, and no more than so many tokens."""
        limits = self._host.roles.solver
        most = limits.tokens if tokens is None else min(limits.tokens, tokens)
        return msgspec.structs.replace(limits, tokens=most)

    def solve(
        self, champion: VariantAdded, task: Task, keys: Sequence[int], limits: RoleSection, policy: Policy
    ) -> list[Outcome]:
        """One attempt of a variant's program a key; blocks the caller's thread.

        Raises:
            UnfitTask: its environment cannot begin with it.
            Abandoned: see `abandon`.
        """
        programs = Programs(
            self._host,
            self.suite,
            lambda program: genome_in(self._store, program),
            lambda program: self._behaviour(champion),
        )
        recall = self._memory.recall if self._memory.on else None
        executor = LocalExecutor(lambda weights: dict.fromkeys(weights, policy), programs, recall)
        public = PublicTask(prompt=task.prompt, skill=task.skill, messages=task.messages)
        job = RolloutJob(
            weights=champion.weights,
            program=champion.program,
            tasks=(public,) * len(keys),
            keys=tuple(keys),
            limits=limits,
            visit=next(self._visits),
        )
        self._sessions[id(policy)] = job.sessions
        try:
            self._begin(job.sessions, task)
            [result] = executor.submit([job]).results()
        finally:
            del self._sessions[id(policy)]
            if self._tools is not None:
                self._tools.forget(job.sessions)
        return result.outcomes

    def abandon(self, policy: Policy) -> None:
        """Ends the boxes of attempts that ask a policy: nobody waits for them. Any thread may call it; what shares a process
        ends at its next request, which the policy refuses."""
        self._host.boxes.abandon(self._sessions.get(id(policy), ()))

    def _begin(self, sessions: Iterable[int], task: Task) -> None:
        if task.environment is None:
            return
        assert self._tools is not None, "a suite with environments has tools"
        try:
            for session in sessions:
                self._tools.begin(session, task)
        except CallFailed as error:
            raise UnfitTask(
                "task",
                f"its environment {task.environment.__name__} cannot begin with this task ({error}): give what a line of "
                "the suite's tasks.jsonl says beside the prompt",
            ) from None

    def _behaviour(self, champion: VariantAdded) -> Behaviour:
        with self._reading:
            found = self._behaviours.get(champion.program)
            if found is None:
                if champion.behaviour is not None:
                    found = Behaviour.decoded(self._store.blob(champion.behaviour))
                else:
                    verbs = {path: leaf.verb for path, leaf in self.suite.skills.items()}
                    genome = genome_in(self._store, champion.program)
                    found = self._host.behaviour(genome, verbs, key("behaviour", champion.program))
                self._behaviours = {champion.program: found}
            return found
