"""Rollouts as data: what an executor is given, and what it gives back. A job holds no answer, no grader and no seed.

All randomness of an attempt comes from its key, so a result is a function of its job alone: whichever machine or process
works on it, beside whatever else, in whatever order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from moevolve.config.roles import RoleSection
from moevolve.protocol.requests import Exchange, Outcome, PublicTask
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key
from moevolve.records import Struct


class RolloutJob(Struct, frozen=True):
    """Attempts of one variant on some tasks: through its program, or by its bare policy where `program` is None."""

    weights: str
    """Content hash."""
    program: str | None
    """Content hash."""
    tasks: tuple[PublicTask, ...]
    keys: tuple[int, ...]
    """One a task."""
    limits: RoleSection | None = None
    """Of a program's attempts; None for the executor's own."""
    samples: int = 1
    """Attempts of the bare policy on a task; a program makes one."""
    sampling: Sampling | None = None
    """The bare policy's; a program says for itself how it samples."""
    parts: bool = False
    """Return what the program asked for once each, with the answers."""
    memory: bool = True
    """Whether a program may recall."""
    twice: bool = False
    """Let a program that computes try again; an attempt that then goes another way fails as `nondeterministic`."""
    workspaces: bool = False
    """Hold on to what attempts leave in their workspaces, for the grader."""
    visit: int = 0
    """Tells apart attempts by one variant with one key that are there at one time, as clients of a server make them."""

    @property
    def sessions(self) -> tuple[int, ...]:
        """One a task: whose world an attempt's calls of tools reach.

        Variants that are compared draw by the same keys, so the key alone would give them one world.
        """
        whose = (self.weights, self.program or "", int(self.memory), *((self.visit,) if self.visit else ()))
        return tuple(key(each, *whose) for each in self.keys)


Part = tuple[str, str]
"""A request of a program, and its one completion."""


class RolloutResult(Struct, frozen=True):
    """What became of a job."""

    outcomes: list[Outcome]
    """In the order of the tasks; `samples` in a row of each."""
    tokens: int
    """Drawn for the job."""
    requests: int
    checked: int = 0
    """Attempts by plans, whose answers are made of the policy's words."""
    vetoed: int = 0
    """Those whose plan was refused, or whose answer was spelt from pieces that are too short."""
    parts: list[list[Part]] = []
    """By task, where the job wants them."""
    exchanges: list[list[Exchange]] | None = None
    """By task, where the job wants parts and its program computes: nothing says on which questions an answer stands."""


class Batch(Protocol):
    """Jobs that an executor has taken."""

    def results(self) -> list[RolloutResult]:
        """One result a job, in their order. Before this call the policy has answered nothing."""
        ...

    def cancel(self) -> None:
        """Drops the jobs."""
        ...


class Executor(Protocol):
    """Where rollouts run."""

    def submit(self, jobs: Sequence[RolloutJob]) -> Batch:
        """Takes jobs and prepares them, as far as that needs no answer of the policy."""
        ...
