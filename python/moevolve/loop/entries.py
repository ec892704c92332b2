"""Records of the journal, made from what the loop works with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from moevolve.gate.betting import GateVerdict, short
from moevolve.gate.spending import AlphaSpending
from moevolve.journal.archive import Variant
from moevolve.records import (
    PASSED,
    Attempted,
    Evaluated,
    Gated,
    Guarded,
    Level,
    Pairs,
    Proposed,
    Screened,
    VariantAdded,
)
from moevolve.rollouts.attempts import Attempt, Rollouts, answered, tally
from moevolve.rollouts.scoring import score, void


def variant_added(
    variant: Variant, behaviour: str | None = None, weights_file: str | None = None
) -> VariantAdded:
    """A node that has joined the archive.

    Args:
        variant: the node.
        behaviour: content hash of its program's behaviour; None where no program answers.
        weights_file: hash of the bytes of its weights' file; None where there is none.
    """
    return VariantAdded(
        variant=variant.id,
        parents=variant.parents,
        cycle=variant.cycle,
        level=variant.level,  # type: ignore[arg-type]
        weights=variant.weights,
        program=variant.program,
        operator=variant.operator,
        summary=variant.summary,
        score=variant.score,
        behaviour=behaviour,
        weights_file=weights_file,
    )


def proposed(child: Variant, files: Sequence[str], level: Level, proposer: str = "") -> Proposed:
    """A candidate with the files that it changes."""
    return Proposed(
        cycle=child.cycle,
        level=level,
        variant=child.id,
        parent=child.parents[0],
        operator=child.operator,
        summary=child.summary,
        files=list(files),
        proposer=proposer,
    )


def screened(
    child: Variant, attempts: Sequence[Attempt], baseline: float, *, passed: bool, void: bool = False
) -> Screened:
    """A candidate's score on train tasks, with its failures other than wrong answers."""
    failures: dict[str, int] = {}
    for attempt in attempts:
        failure = attempt.verdict.failure
        if failure is not None and failure != "wrong":
            failures[failure] = failures.get(failure, 0) + 1
    assert child.score is not None, "a screened candidate has a score"
    return Screened(
        cycle=child.cycle,
        variant=child.id,
        score=child.score,
        baseline=baseline,
        n=len(attempts),
        passed=passed,
        failures=dict(sorted(failures.items())),
        skills=score(attempts)[1],
        void=void,
    )


def attempted(
    cycle: int, stage: str, source: Literal["direct", "program"], variant: str, rollouts: Rollouts
) -> Attempted:
    """A stage of attempts, tallied."""
    return Attempted(
        cycle=cycle,
        stage=stage,
        variant=variant,
        source=source,
        tallies=tally(rollouts.attempts),
        tokens=rollouts.counts.tokens,
    )


def evaluated(
    cycle: int,
    split: Literal["sealed", "dev"],
    when: Literal["initial", "cycle", "final"],
    variant: str,
    attempts: Sequence[Attempt],
    tokens: int,
    bare: Sequence[Attempt] = (),
) -> Evaluated:
    """A score with its interval, its skills and its tallies; of the sealed split each task's outcome as well.

    `bare` are the bare policy's attempts on the same tasks, where there were any.
    """
    interval, skills = score(attempts)
    return Evaluated(
        cycle=cycle,
        split=split,
        when=when,
        variant=variant,
        score=interval,
        skills=skills,
        tokens=tokens,
        tallies=tally(answered(attempts)),
        outcomes=[outcome(attempt) for attempt in attempts] if split == "sealed" else [],
        missing=len(attempts) - len(answered(attempts)),
        void=void(attempts),
        bare=score(bare)[0] if bare and not void(bare) else None,
    )


def checks(cycle: int, broken: Sequence[Attempt], graded: int) -> Guarded:
    """Checks of the suite that raised, returned no score or did not end: how many, and the first one's task and traceback.

    Folders and addresses are left out: the same run elsewhere has the same records.
    """
    first = broken[0]
    trace = re.sub(r'File "[^"\n]*/', 'File "', first.verdict.detail)
    trace = re.sub(r"0x[0-9a-fA-F]+", "0x", trace)
    return Guarded(
        cycle=cycle,
        guard="checks",
        checked=graded,
        vetoed=len(broken),
        detail=f"{first.verdict.failure} on {first.task.id}: {trace}",
    )


def outcome(attempt: Attempt) -> float | None:
    """An attempt's score as it goes on file, None where it was not answered."""
    return short(attempt.verdict.score if attempt.answered else None)


def gated(
    candidate: Variant,
    champion: str,
    level: Level,
    verdict: GateVerdict,
    alpha: float,
    cycle: int,
    tokens: int,
    spending: AlphaSpending | None = None,
    pairs: Sequence[Pairs] = (),
    guards: Sequence[str] = (),
) -> Gated:
    """A decision of the gate; the verdict holds one. `guards` are those that refused the candidate.

    `spending` is the error budget before it, where the run has one, and `pairs` what the verdict follows from.
    """
    assert verdict.decision is not None, "an undecided comparison is no record"
    return Gated(
        cycle=cycle,
        level=level,
        candidate=candidate.id,
        champion=champion,
        decision=verdict.decision,
        reason=verdict.reason,
        n=verdict.n,
        wins=verdict.wins,
        losses=verdict.losses,
        gain=verdict.gain,
        evidence=verdict.evidence,
        alpha=alpha,
        skills=verdict.skills,
        vetoes=list(verdict.vetoes),
        tokens=tokens,
        rule=spending.rule if spending else "",
        spent=spending.after(promoted=verdict.decision in PASSED).spent if spending else None,
        bounds=verdict.bounds,
        missing=verdict.missing,
        pairs=list(pairs),
        guards=list(guards),
    )
