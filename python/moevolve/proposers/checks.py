"""What is looked at before anything of a program is evaluated: whether its files compile, import, and do anything at all."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping

import msgspec

from moevolve.agents.brief import Brief
from moevolve.agents.genome import SELECTOR, Genome
from moevolve.agents.host import ProgramHost
from moevolve.agents.plans.behaviour import Behaviour

LONGEST = 300
"""Characters of a reason."""
SMOKE = ("error", "crash", "timeout", "malformed")
"""Failures of an improver without a policy that say that it is broken; that it asked for more than there is does not."""

Check = Callable[[Genome], str | None]
"""A program -> why it cannot be evaluated, in words; None where it can."""


def compiles(files: Mapping[str, str]) -> str | None:
    """Why a file is no Python; None where all are."""
    for path, text in sorted(files.items()):
        if not path.endswith(".py"):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(ast.parse(text), path, "exec", dont_inherit=True)
        except SyntaxError as error:
            return f"{path}: {error.msg} in line {error.lineno}"[:LONGEST]
        except (ValueError, RecursionError, MemoryError) as error:
            return f"{path}: {type(error).__name__}: {error}"[:LONGEST]
    return None


def checker(
    host: ProgramHost,
    behaviour: Callable[[Genome], Behaviour],
    parent: Genome,
    brief: Brief,
    key: int,
    selects: Check | None = None,
) -> Check:
    """The checks of a parent's children, the cheapest first: each file compiles, `solve` is there and says something for
    one skill at least, a new `select_parent.py` selects somebody, and a new `improve.py` ends in order on the parent's
    own brief.

    Args:
        host: runs programs in the sandbox.
        behaviour: what a program's `solve` returns.
        parent: whose children they are.
        brief: what improvers are told.
        key: of the improver's smoke test.
        selects: why a program selects nobody in the run's archive; None where no program is asked.
    """

    def check(child: Genome) -> str | None:
        if (fault := compiles(child.files)) is not None:
            return fault
        if _part(child, solving=True) != _part(parent, solving=True):
            found = behaviour(child)
            if not found.computes and not found.plans:
                return f"solve.py: {next(iter(found.refused.values()), 'it answers nothing')}"[:LONGEST]
        anew = child.files.get(SELECTOR) != parent.files.get(SELECTOR)
        if selects is not None and anew and (fault := selects(child)) is not None:
            return f"{SELECTOR}: {fault}"[:LONGEST]
        if _part(child, solving=False) != _part(parent, solving=False):
            told = msgspec.structs.replace(brief, source=dict(child.files), candidates=1)
            made = host.propose(child, told, key)
            if made.failure in SMOKE:
                return f"improve.py: {made.failure}: {made.detail}"[:LONGEST]
        return None

    return check


def _part(genome: Genome, *, solving: bool) -> list[tuple[str, str]]:
    return [
        (path, text)
        for path, text in sorted(genome.files.items())
        if (path == "improve.py") != solving and path not in ("learn.py", SELECTOR)
    ]
