"""Operators that show an agent what went wrong: another try that is told the error, mistakes named in a prompt.

They work from failed attempts on train tasks: what a check said of them, or the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import dropwhile
from random import Random

from moevolve.agents.box.stages import RAISED
from moevolve.agents.brief import Failure
from moevolve.proposers.operators import staging
from moevolve.proposers.operators.layers import telling
from moevolve.proposers.operators.operator import Change, Inapplicable
from moevolve.proposers.operators.structure import FILE, wrapped
from moevolve.proposers.operators.wording import before_examples, edited

FailureOperator = Callable[[Mapping[str, str], Sequence[Failure], Random, bool], Change]
"""Files that may be edited, failed attempts, randomness, whether the agent is boxed -> an edit; raises `Inapplicable`."""

MISTAKES = "Mistakes of earlier attempts, to be avoided:"
COUNTS = (1, 2, 4)
"""How many mistakes are named, and how often an attempt is tried again."""
LONGEST = 200
"""Characters of a mistake."""

RETRY = """

async def solve(task, agent):
    told = agent
    for left in reversed(range({samples})):
        try:
            answer = await {inner}(task, told)
            if answer.strip() or not left:
                return answer
            error = "the answer was empty"
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, ToolError) as raised:
            if not left:
                raise
            error = f"{{type(raised).__name__}}: {{raised}}"
        told = Telling(agent, f"An earlier attempt at this failed, see that this one does not:\\n{{error}}")
"""
IMPORT = "from agent import ToolError\n"


def retry_told(files: Mapping[str, str], failed: Sequence[Failure], rng: Random, boxed: bool) -> Change:
    """Another try where an attempt ends with an error, which the model is told."""
    if not any(each.failure in RAISED for each in failed):
        raise Inapplicable("no attempt has ended with an error")
    if boxed:
        return staging.retries(files, rng)
    samples = rng.choice((2, 3))
    source = telling(files)
    if IMPORT not in source:
        source = f"{source.rstrip()}\n\n\n{IMPORT}"
    summary = f"up to {samples} tries, each told the error of the one before"
    return wrapped({**files, FILE: source}, RETRY, summary, samples=samples)


def mistakes(files: Mapping[str, str], failed: Sequence[Failure], rng: Random, boxed: bool) -> Change:
    """Names what went wrong in a prompt, in place of what it names now."""
    known = sorted({said for each in failed if (said := _said(each))})
    if not known:
        raise Inapplicable("nothing was said of failed attempts")
    chosen = rng.sample(known, min(rng.choice(COUNTS), len(known)))

    def shown(text: str) -> str:
        head, mark, tail = text.partition(MISTAKES)
        if mark:
            rest = dropwhile(lambda line: line.startswith("- ") or not line, tail.splitlines())
            text = "\n".join([head.rstrip(), "", *rest])
        block = "\n".join(f"- {each}" for each in chosen)
        return before_examples(text, f"\n{MISTAKES}\n{block}\n")

    return edited(
        files, rng, shown, f"name {len(chosen)} mistake{'s' * (len(chosen) != 1)} of earlier attempts"
    )


def _said(failure: Failure) -> str:
    """What a check or the sandbox said of a failed attempt: the last line of a traceback, a check's own words."""
    lines = [line.strip() for line in failure.detail.splitlines() if line.strip()]
    return lines[-1][:LONGEST] if lines else ""


OF_FAILURES: dict[str, tuple[FailureOperator, float]] = {
    "retry_told": (retry_told, 1.0),
    "mistakes": (mistakes, 1.0),
}
"""Operators by name, with how often each is drawn at first."""
