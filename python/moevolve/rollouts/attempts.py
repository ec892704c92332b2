"""Attempts: a variant's program, or the bare policy, on tasks; graded outside, tallied by skill and level."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from moevolve.agents.genome import Genome
from moevolve.agents.host import ProgramHost
from moevolve.memory.lessons import LessonBook
from moevolve.protocol.policy import Policy
from moevolve.protocol.requests import POLICY, Answer, GenerateRequest, PublicTask, Reply, Unanswered
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key
from moevolve.records import Tally
from moevolve.rollouts.grading import Grader
from moevolve.tasks.task import Task, Verdict

AT_ONCE = 768
"""Attempts that share one sandboxed process and its rounds."""

Stage = tuple[int | str, ...]
Part = tuple[str, str]
"""A request of a program and its one completion."""


class Attempt(msgspec.Struct, frozen=True):
    """One execution on one task, with its verdict. `answer` is what was graded."""

    task: Task
    answer: str
    verdict: Verdict

    @property
    def answered(self) -> bool:
        """Whether the policy did its part; an attempt it left unanswered has no score that could count."""
        return self.verdict.failure != POLICY


def answered(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts whose verdicts say something about the variant."""
    return [attempt for attempt in attempts if attempt.answered]


class Attempter:
    """Runs attempts and grades them.

    Args:
        host: runs programs in the sandbox.
        grader: decides about answers.
        lessons: what programs may recall.
        max_tokens: most tokens of one completion.
    """

    def __init__(self, host: ProgramHost, grader: Grader, lessons: LessonBook, max_tokens: int) -> None:
        self.host = host
        self.grader = grader
        self.lessons = lessons
        self.max_tokens = max_tokens
        self.answers_checked = 0
        self.answers_vetoed = 0

    def program(
        self,
        policy: Policy,
        genome: Genome,
        tasks: Sequence[Task],
        stage: Stage,
        who: str,
        grader: Grader | None = None,
        parts: dict[int, list[Part]] | None = None,
    ) -> list[Attempt]:
        """One attempt of `genome` on every task, in the order of the tasks.

        Two variants on the same `stage` draw the same random numbers, which makes their comparison a paired one; `who`
        names the variant to the grader, so that a null grader's coins differ between them.

        A crash, a time-out, an answer that the policy did not give or a policy that does not answer is a verdict
        with that failure. `parts` takes, by
        task, what the program asked for once each.
        """
        judge = grader or self.grader
        attempts: list[Attempt] = []
        for start in range(0, len(tasks), AT_ONCE):
            part = tasks[start : start + AT_ONCE]
            outcomes = self.host.solve(
                genome,
                [PublicTask(prompt=task.prompt, skill=task.skill) for task in part],
                policy.answer if parts is None else _listening(policy.answer, parts, start),
                self.lessons.recall,
                [key(*stage, "attempt", start + index) for index in range(len(part))],
            )
            for index, (task, outcome) in enumerate(zip(part, outcomes, strict=True)):
                self.answers_checked += 1
                self.answers_vetoed += outcome.failure == "provenance"
                if outcome.failure is not None or outcome.answer is None:
                    failure = outcome.failure or "malformed"
                    verdict = Verdict(score=0.0, success=False, failure=failure, detail=outcome.detail)
                    attempts.append(Attempt(task, outcome.answer or "", verdict))
                else:
                    verdict = judge.grade(task, outcome.answer, (*stage, who), start + index)
                    attempts.append(Attempt(task, outcome.answer, verdict))
        return attempts

    def direct(
        self, policy: Policy, tasks: Sequence[Task], samples: int, temperature: float, stage: Stage
    ) -> list[Attempt]:
        """`samples` attempts of the bare policy on every task, sampled at `temperature`."""
        sampling = Sampling(max_tokens=self.max_tokens, temperature=temperature)
        requests = [
            GenerateRequest(
                attempt=index,
                prompt=task.prompt,
                sampling=sampling,
                n=samples,
                key=key(*stage, "direct", index),
            )
            for index, task in enumerate(tasks)
        ]
        attempts = []
        for index, (task, reply) in enumerate(zip(tasks, policy.answer(requests), strict=True)):
            if isinstance(reply, Unanswered):
                verdict = Verdict(score=0.0, success=False, failure=reply.failure, detail=reply.detail)
                attempts += [Attempt(task, "", verdict)] * samples
                continue
            for sample, completion in enumerate(reply):
                verdict = self.grader.grade(task, completion.text, stage, index * samples + sample)
                attempts.append(Attempt(task, completion.text, verdict))
        return attempts


def _listening(answer: Answer, parts: dict[int, list[Part]], start: int) -> Answer:
    """`answer`, with every request for a single completion noted by the task that made it."""

    def listen(requests: list[GenerateRequest]) -> Sequence[Reply]:
        replies = answer(requests)
        for request, reply in zip(requests, replies, strict=True):
            if request.n == 1 and isinstance(request.prompt, str) and not isinstance(reply, Unanswered):
                parts.setdefault(start + request.attempt, []).append((request.prompt, reply[0].text))
        return replies

    return listen


def tally(attempts: Sequence[Attempt]) -> list[Tally]:
    """Counts attempts by (skill, level) and outcome, in the order of skill and level."""
    cells: dict[tuple[str, int], list[Verdict]] = {}
    for attempt in attempts:
        cells.setdefault((attempt.task.skill, attempt.task.level), []).append(attempt.verdict)
    tallies = []
    for (skill, level), verdicts in sorted(cells.items()):
        failures: dict[str, int] = {}
        for verdict in verdicts:
            if verdict.failure is not None:
                failures[verdict.failure] = failures.get(verdict.failure, 0) + 1
        tallies.append(
            Tally(
                skill=skill,
                level=level,
                attempts=len(verdicts),
                successes=sum(verdict.success for verdict in verdicts),
                failures=dict(sorted(failures.items())),
            )
        )
    return tallies
