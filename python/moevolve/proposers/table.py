"""Proposers by the name that a run file gives them."""

from __future__ import annotations

from collections.abc import Callable

from moevolve.agents.host import ProgramHost
from moevolve.proposers.command import Command
from moevolve.proposers.model import LanguageModel
from moevolve.proposers.operators.proposer import Operators
from moevolve.proposers.proposer import Improver, Proposer

PROPOSERS: dict[str, Callable[[ProgramHost, Callable[[], Command]], Proposer]] = {
    "improver": lambda host, command: Improver(host),
    "operators": lambda host, command: Operators(),
    "model": lambda host, command: LanguageModel(host.roles.proposer),
    "command": lambda host, command: command(),
}
"""Makers of proposers, from what runs programs and what gives the run's command."""
