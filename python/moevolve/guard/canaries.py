"""Canaries: tasks that nobody can solve. Whoever does has seen their answers, or the grader says yes to anything.

A canary has the prompt of one task of a skill and the answer of another, drawn from the run's secret, which no program sees;
the two answers differ. So knowing the skill is worth nothing, and an answer that is right is right by chance: at most as
often as the skill's most frequent answer comes up.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property

import msgspec

from moevolve.guard.evidence import log_binomial
from moevolve.guard.guard import CycleEnd, Promotion, Watched, budget, checked, suspects
from moevolve.journal.figures import score
from moevolve.journal.intervals import wilson
from moevolve.records import Guarded
from moevolve.rollouts.attempts import answered
from moevolve.rollouts.grading import GoldGrader
from moevolve.tasks.task import Task

DRAWS = 128
"""Tasks of a skill that its most frequent answer is found among."""
MOST_CHANCE = 0.2
"""Chance above which a skill gives no canaries: an answer to guess is no secret."""
TRIES = 8
"""Other tasks that are drawn for an answer that differs."""


class Canaries:
    """Gives a candidate canaries before it is promoted, and vetoes it if it solves more than chance allows.

    Args:
        watched: the run.
    """

    name = "canaries"

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def cycle(self, end: CycleEnd) -> Guarded | None:
        return None

    def promotion(self, case: Promotion) -> Guarded:
        tasks = self.tasks(case)
        if not tasks:
            return Guarded(
                cycle=case.cycle,
                guard=self.name,
                checked=0,
                vetoed=0,
                detail="no skill has answers that cannot be guessed",
                variant=case.candidate.id,
            )
        stage = (self._watched.config.seed, case.cycle, self.name, case.candidate.id)
        [rollouts] = self._watched.attempts([case.candidate], tasks, stage, GoldGrader(self._watched.suite))
        attempts = answered(rollouts.attempts)
        solved = [attempt for attempt in attempts if attempt.verdict.success]
        chance = sum(self.chances[task.skill] for task in tasks) / len(tasks)
        # The binomial bounds the tail of unlike chances above their mean plus one (Hoeffding 1956).
        beyond = len(solved) >= len(attempts) * chance + 1
        evidence = log_binomial(len(attempts), chance, len(solved)) if beyond else 0.0
        proof = budget(self._watched, self.name).proof
        checked(self._watched, self.name)
        alarm = evidence >= proof
        return Guarded(
            cycle=case.cycle,
            guard=self.name,
            checked=1,
            vetoed=int(alarm),
            detail=f"{len(solved)} of {len(attempts)} tasks without an answer solved; chance is at most {score(chance, 3)}",
            variant=case.candidate.id,
            alarm=alarm,
            evidence=evidence,
            proof=proof,
            attempts=suspects([(attempt.task.id, attempt) for attempt in solved]) if alarm else [],
            tokens=rollouts.counts.tokens,
        )

    @cached_property
    def chances(self) -> dict[str, float]:
        """Skill -> bound on how often a guess is right, for the skills that give canaries."""
        suite, found = self._watched.suite, {}
        for path in self._watched.skills:
            level = suite[path].levels[1]
            tasks = [suite.draw("train", path, level, "guesses", index) for index in range(DRAWS)]
            if any(task.answer is None or task.grade is not None for task in tasks):
                continue
            most = Counter(task.answer for task in tasks).most_common(1)[0][1]
            chance = wilson(most, DRAWS).high
            if chance <= MOST_CHANCE:
                found[path] = chance
        return found

    def tasks(self, case: Promotion) -> list[Task]:
        """Canaries for a candidate, skills in turns."""
        suite, config = self._watched.suite, self._watched.config
        skills = sorted(self.chances)
        made = []
        for index in range(config.guard.canaries if skills else 0):
            path = skills[index % len(skills)]
            name = (config.seed, "canary", suite.secret, case.cycle, case.candidate.id, index)
            level = suite[path].levels[1]
            asked = suite.draw("gate", path, level, *name)
            others = (suite.draw("gate", path, level, *name, "other", again) for again in range(TRIES))
            other = next((task for task in others if task.answer != asked.answer), None)
            if other is not None:
                made.append(msgspec.structs.replace(asked, answer=other.answer))
        return made
