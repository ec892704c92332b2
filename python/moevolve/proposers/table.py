"""Proposers by the name that a run file gives them."""

from __future__ import annotations

from collections.abc import Callable

from moevolve.agents.host import ProgramHost
from moevolve.proposers.operators.proposer import Operators
from moevolve.proposers.proposer import Improver, Proposer

PROPOSERS: dict[str, Callable[[ProgramHost], Proposer]] = {
    "improver": Improver,
    "operators": lambda host: Operators(),
}
