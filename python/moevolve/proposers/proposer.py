"""Who proposes edits of a program, each behind one Protocol and under a name that a run file gives it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from moevolve.agents.brief import Brief
from moevolve.agents.genome import Genome
from moevolve.agents.host import ProgramHost, Proposals
from moevolve.proposers.checks import Check
from moevolve.protocol.requests import Answer


class ProposalContext(msgspec.Struct, frozen=True):
    """What a proposer works with, beside its brief."""

    program: Genome
    """The parent's."""
    key: int
    """Source of all of its randomness."""
    answer: Answer
    """Who answers: the champion's policy, or another model where the run names one."""
    check: Check | None = None
    """What is looked at before a child is evaluated."""
    other: Genome | None = None
    """Another program of the archive, to take from."""
    other_score: str = ""
    """What is known of it, in words."""


class Proposer(Protocol):
    """Writes edits of a program; a failure is data, with no candidates and the reason."""

    def propose(self, brief: Brief, context: ProposalContext) -> Proposals: ...


class Improver:
    """The program's own `improve.py`, in the sandbox.

    Args:
        host: runs it.
    """

    def __init__(self, host: ProgramHost) -> None:
        self._host = host

    def propose(self, brief: Brief, context: ProposalContext) -> Proposals:
        return self._host.propose(context.program, brief, context.key, context.answer)
