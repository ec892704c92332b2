"""Program search: what an improver is told, and what its edits make of a program."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec
from blake3 import blake3

from moevolve.agents.brief import Ancestor, Brief, Failure, LearnReport, SkillReport, Success, TrialReport
from moevolve.agents.genome import BESIDE, Genome
from moevolve.config import Config
from moevolve.journal.archive import Archive, Variant
from moevolve.proposers.names import is_free
from moevolve.proposers.operators.operator import parsed
from moevolve.proposers.prompting import FOLDER
from moevolve.records import Edit
from moevolve.rollouts.attempts import Attempt
from moevolve.skills.mastery import Mastery

FAILURES = 16
"""Failed attempts of each skill that an improver is shown."""
SUCCESSES = 16
"""Confirmed attempts of each skill that an improver is shown."""
HISTORY = 64
"""Past proposals an improver is shown, newest last."""


class ProposalOutcome(msgspec.Struct, frozen=True):
    """What became of one proposal; proposers read this history."""

    cycle: int
    operator: str
    summary: str
    gain: float
    decision: str


class Proposal(msgspec.Struct, frozen=True):
    """A child program that an improver asked for."""

    genome: Genome
    operator: str
    summary: str
    files: list[str]
    solves_differently: bool
    """Whether anything but what improves changed, so that a score can show it; see `unscored`."""
    proposer: str = ""
    """Who proposed it."""
    other: str = ""
    """The variant that it takes from beside its parent, where it is a crossover."""


def skill_reports(direct: Mastery, program: Mastery) -> list[SkillReport]:
    """Estimated success by skill and level, of the bare policy and of the champion with its program."""
    return [
        SkillReport(
            path=path,
            direct=list(direct.estimates(path).values()),
            program=list(program.estimates(path).values()),
            first=low,
        )
        for path, (low, _) in direct.levels.items()
    ]


def trial_reports(outcomes: Sequence[ProposalOutcome]) -> list[TrialReport]:
    """The newest proposals and what became of them."""
    return [
        TrialReport(cycle=t.cycle, operator=t.operator, summary=t.summary, gain=t.gain, decision=t.decision)
        for t in outcomes[-HISTORY:]
    ]


def report_for(
    cycle: int, outcomes: Sequence[ProposalOutcome], direct: Mastery, program: Mastery
) -> LearnReport:
    """What `learn.py` is told before a learning stage."""
    return LearnReport(
        cycle=cycle,
        skills=skill_reports(direct, program),
        history=[t for t in trial_reports(outcomes) if t.operator.startswith(("distill", "reinforce"))],
    )


def brief_for(
    cycle: int,
    outcomes: Sequence[ProposalOutcome],
    config: Config,
    archive: Archive,
    parent: Variant,
    genome: Genome,
    tried: Sequence[Attempt],
    direct: Mastery,
    program: Mastery,
) -> Brief:
    """What `improve.py` is told: source, history, scores by skill, failures, budget and metric. Never a gold answer."""
    return Brief(
        source=dict(sorted(genome.files.items())),
        skills=skill_reports(direct, program),
        failures=failures(tried),
        successes=successes(tried),
        history=trial_reports(outcomes),
        lineage=[variant.summary for variant in archive.lineage(parent.id)],
        ancestors=[
            Ancestor(operator=variant.operator, summary=variant.summary, score=variant.score)
            for variant in archive.lineage(parent.id)
        ],
        candidates=config.evolve.candidates,
        cycle=cycle,
        metric="mean success over skills and levels, one attempt a task",
    )


LONGEST_DETAIL = 400
"""Characters of what a failure says; a traceback says most at its end."""


def failures(tried: Sequence[Attempt]) -> list[Failure]:
    """Failed attempts, some of each skill, in the order in which they were made."""
    shown: Counter[str] = Counter()
    found = []
    for attempt in tried:
        if not attempt.verdict.success and shown[attempt.task.skill] < FAILURES:
            shown[attempt.task.skill] += 1
            found.append(
                Failure(
                    prompt=attempt.task.prompt,
                    skill=attempt.task.skill,
                    level=attempt.task.level,
                    answer=attempt.answer,
                    failure=attempt.verdict.failure or "wrong",
                    trace=list(attempt.trace),
                    detail=attempt.verdict.detail[-LONGEST_DETAIL:],
                )
            )
    return found


def successes(tried: Sequence[Attempt]) -> list[Success]:
    """Confirmed attempts, the longest of each skill first: routes are tried out against them."""
    by_skill: dict[str, list[Attempt]] = {}
    for attempt in tried:
        if attempt.verdict.success:
            by_skill.setdefault(attempt.task.skill, []).append(attempt)
    chosen = []
    for _, attempts in sorted(by_skill.items()):
        attempts.sort(key=lambda attempt: (-attempt.task.level, attempt.task.prompt))
        chosen += [
            Success(
                prompt=a.task.prompt,
                skill=a.task.skill,
                level=a.task.level,
                answer=a.answer,
                trace=list(a.trace),
            )
            for a in attempts[:SUCCESSES]
        ]
    return chosen


def unscored(path: str) -> bool:
    """Whether a file is one that no score can show: how the program improves, learns, selects, or has a model write its
    edits."""
    return path in BESIDE or path.startswith(FOLDER)


UNTRIED = 2
"""Edits of files that no score can show alone that one generation may bring: they join the archive without a trial, so more
would fill it with whatever copies itself."""


def children(
    genome: Genome,
    candidates: Sequence[Sequence[Edit]],
    known: set[str],
    hold: Callable[[Genome], str],
    skills: Iterable[str] = (),
) -> list[Proposal]:
    """Applies each candidate's edits; drops programs that did not change or are known already, be it with other comments and
    blanks, what no trial would measure beyond `UNTRIED`, and candidates whose operator bears a name of the run's own.

    Args:
        genome: the parent's program.
        candidates: one list of edits a candidate.
        known: hashes and meanings of programs that the run has had.
        hold: stores a program and returns its hash.
        skills: the run's, whose names no operator may bear.
    """
    skills = list(skills)
    proposals: list[Proposal] = []
    seen = known | {meaning(genome)}
    untried = 0
    for edits in candidates:
        if not all(is_free(edit.operator, skills) for edit in edits):
            continue
        child = genome.edited(edits)
        name = hold(child)
        changed = sorted(path for path, text in child.files.items() if text != genome.files.get(path))
        names = {name, meaning(child)}
        if not changed or names & seen:
            continue
        differently = not all(map(unscored, changed))
        untried += not differently
        if not differently and untried > UNTRIED:
            continue
        seen |= names
        proposals.append(
            Proposal(
                genome=child,
                operator="+".join(dict.fromkeys(edit.operator for edit in edits)),
                summary="; ".join(edit.summary for edit in edits),
                files=changed,
                solves_differently=differently,
            )
        )
    return proposals


def meaning(genome: Genome) -> str:
    """Digest of what a program's files say, without comments and layout where they are Python."""
    said = [(path, _meant(path, text)) for path, text in sorted(genome.files.items())]
    return blake3(msgspec.json.encode(said)).hexdigest()


def _meant(path: str, text: str) -> str:
    tree = parsed(text) if path.endswith(".py") else None
    try:
        return text if tree is None else ast.dump(tree)
    except RecursionError:
        return text
