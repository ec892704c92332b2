"""What a cycle's practice does to memory: lessons, what programs gave, and what recalled lessons turned out to be worth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec

from moevolve.loop.context import RunContext
from moevolve.memory.consolidation import fallen
from moevolve.memory.lessons import Writes
from moevolve.memory.trust import Tried, rates, weighed
from moevolve.memory.writing import of_attempts, of_programs
from moevolve.randomness import rng
from moevolve.records import Lesson, Remembered
from moevolve.rollouts.attempts import Attempt, Counts, Rollouts
from moevolve.rollouts.runner import RolloutRequest


def remember(
    run: RunContext,
    cycle: int,
    latest: Sequence[Attempt],
    request: RolloutRequest | None,
    through: Rollouts | None,
) -> list[Lesson]:
    """Notes what the cycle will write into memory when it ends; returns the lessons.

    Args:
        run: the run.
        cycle: the cycle under way.
        latest: answered attempts that lessons come from.
        request: what was wanted of the champion's program; None where it practised by its bare policy alone.
        through: what became of that.
    """
    if not run.lessons.on:
        return []
    section, champion = run.config.memory, run.champion.id
    seen = ((attempt.task, attempt.answer, attempt.verdict.success) for attempt in latest)
    lessons = of_attempts(run.lessons, section, cycle, champion, seen)
    attempts = through.attempts if through is not None else []
    twins, tokens = _twins(run, cycle, request, attempts) if request is not None else ({}, 0)
    tried = [
        Tried(
            skill=attempt.task.skill,
            lessons=list(dict.fromkeys(chain.from_iterable(attempt.recalled))),
            success=attempt.verdict.success,
            twin=twins[place].verdict.success if place in twins and twins[place].answered else None,
        )
        for place, attempt in enumerate(attempts)
        if attempt.answered and any(attempt.recalled)
    ]
    run.state.without = rates(run.state.without, tried)
    changed = weighed(run.state.evidence, tried, run.state.without)
    run.state.evidence = {**run.state.evidence, **changed}
    given = [(attempt.task, note) for attempt in attempts for note in attempt.notes]
    admitted = of_programs(run.lessons, section, cycle, champion, given)
    lessons += admitted.lessons
    standings = {lesson: evidence.standing for lesson, evidence in changed.items()}
    expired = [lesson for lesson, standing in standings.items() if standing.forgotten]
    of_merges = fallen(run.state.merges, expired, run.state.evidence)
    run.state.writes = Writes(lessons, list((standings | of_merges).items()))
    if changed or twins or given:
        pairs = [(attempts[place], twin) for place, twin in twins.items()]
        run.journal.write(
            [
                Remembered(
                    cycle=cycle,
                    variant=champion,
                    with_memory=[_score(attempt) for attempt, _ in pairs],
                    without=[_score(twin) for _, twin in pairs],
                    tokens=tokens,
                    trust={lesson: round(standing.trust, 6) for lesson, standing in standings.items()},
                    expired=expired,
                    notes=len(admitted.lessons),
                    refused=admitted.refused,
                )
            ]
        )
    return lessons


def compare(
    run: RunContext, cycle: int, generation: int, rolled: Sequence[tuple[RolloutRequest, Rollouts]]
) -> list[Remembered]:
    """What memory brought to candidates in their screening: some of their attempts that recalled, made again without it.

    A champion's program may never ask memory, and then practice tells nothing of it. Lessons are not weighed by this: their
    trust comes from practice alone.
    """
    if not run.lessons.on:
        return []
    of: dict[str, list[tuple[RolloutRequest, Rollouts]]] = {}
    for request, rollouts in rolled:
        of.setdefault(request.variant, []).append((request, rollouts))
    records = []
    for variant, each in of.items():
        recalling = [
            (index, place)
            for index, (_, rollouts) in enumerate(each)
            for place, attempt in enumerate(rollouts.attempts)
            if any(attempt.recalled)
        ]
        draw = rng(run.config.seed, cycle, "without memory", generation, variant)
        # A part of an attempt is one with its probability, so that few recalls are told about as well.
        count = int(run.config.memory.without * len(recalling) + draw.random())
        chosen = sorted(draw.sample(recalling, min(count, len(recalling))))
        both: list[tuple[Attempt, Attempt]] = []
        spent = 0
        for index, (request, rollouts) in enumerate(each):
            places = [place for other, place in chosen if other == index]
            if places:
                twins, tokens = _again(run, request, places)
                both += [(rollouts.attempts[place], twin) for place, twin in twins.items()]
                spent += tokens
        if both:
            run.bill(cycle, f"without memory, {variant}")
            records.append(
                Remembered(
                    cycle=cycle,
                    variant=variant,
                    with_memory=[_score(attempt) for attempt, _ in both],
                    without=[_score(twin) for _, twin in both],
                    tokens=spent,
                    trust={},
                    expired=[],
                )
            )
    return records


def _twins(
    run: RunContext, cycle: int, request: RolloutRequest, attempts: Sequence[Attempt]
) -> tuple[dict[int, Attempt], int]:
    """Place -> the same attempt without memory, of some of those that recalled something; and the tokens of all."""
    places = [place for place, attempt in enumerate(attempts) if any(attempt.recalled)]
    count = round(run.config.memory.without * len(places))
    if not count:
        return {}, 0
    run.progress("attempts without memory, beside those that recalled", 0.12)
    chosen = sorted(rng(run.config.seed, cycle, "without memory").sample(places, count))
    found = _again(run, request, chosen)
    run.bill(cycle, "without memory")
    return found


def _again(run: RunContext, request: RolloutRequest, places: Sequence[int]) -> tuple[dict[int, Attempt], int]:
    """Place -> the attempt there made again with the same keys and an empty memory; and the tokens of all."""
    again = msgspec.structs.replace(
        request,
        tasks=[request.tasks[place] for place in places],
        places=places,
        memory=False,
        parts=False,
        twice=False,
    )
    [found] = run.runner.run(again)
    run.count(Counts(tokens=found.counts.tokens))
    return dict(zip(places, found.attempts, strict=True)), found.counts.tokens


def _score(attempt: Attempt) -> float | None:
    return attempt.verdict.score if attempt.answered else None
