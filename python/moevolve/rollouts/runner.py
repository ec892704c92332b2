"""Rollouts from tasks to verdicts: jobs for an executor, and grades for what comes back.

Grading stays here, outside of the executor: where a job runs, nobody knows an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from moevolve.agents.box.workspace import take
from moevolve.config.roles import RoleSection
from moevolve.protocol.requests import Outcome, PublicTask
from moevolve.protocol.rollouts import Batch, Executor, RolloutJob, RolloutResult
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key
from moevolve.rollouts.attempts import Attempt, Counts, Rollouts
from moevolve.rollouts.grading import Given, Grader
from moevolve.tasks.environment import Trajectory
from moevolve.tasks.grading import plain, refused
from moevolve.tasks.task import Task, Verdict, WorkspaceCheck

Stage = tuple[int | str, ...]


TRACED = 8
"""Questions of an attempt that are kept with it."""


class RolloutRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One variant on some tasks.

    Two variants on the same `stage` draw the same random numbers, which makes their comparison a paired one.
    """

    variant: str
    """Its name tells a null grader's coins apart."""
    weights: str
    program: str | None
    """None for the bare policy."""
    tasks: Sequence[Task]
    stage: Stage
    limits: RoleSection | None = None
    """Of a program's attempts; None for the executor's own."""
    samples: int = 1
    sampling: Sampling | None = None
    """The bare policy's."""
    parts: bool = False
    memory: bool = True
    """Whether a program may recall; without, it finds memory empty."""
    places: Sequence[int] | None = None
    """For each task the index that it draws for, so that an attempt can be made again; None for 0, 1, 2 and so on."""
    twice: bool = False
    """Try a program again: what then goes another way fails as `nondeterministic`."""
    grader: Grader | None = None
    """None for the runner's own."""

    def job(self, secret: str = "") -> RolloutJob:
        """The same without anything that a program must not see.

        Args:
            secret: of the run. Keys reach programs; without it in them, a program that guesses the run's seed could find
                out whose stage it is in.
        """
        whose = (secret,) if secret else ()
        kind = "direct" if self.program is None else "attempt"
        places = range(len(self.tasks)) if self.places is None else self.places
        return RolloutJob(
            weights=self.weights,
            program=self.program,
            tasks=tuple(
                PublicTask(
                    prompt=task.prompt,
                    skill=task.skill,
                    messages=task.messages,
                    files=task.files.read() if task.files is not None and self.program is not None else (),
                )
                for task in self.tasks
            ),
            keys=tuple(key(*whose, *self.stage, kind, index) for index in places),
            limits=self.limits,
            samples=self.samples,
            sampling=self.sampling,
            parts=self.parts,
            memory=self.memory,
            twice=self.twice,
            workspaces=any(isinstance(task.grade, WorkspaceCheck) for task in self.tasks),
        )


Watch = Callable[[RolloutRequest, Rollouts], None]


class Running:
    """Rollouts that an executor has taken.

    Args:
        batch: the executor's side.
        requests: what was wanted.
        grader: decides about answers where a request names no grader.
        watch: told what became of each request.
    """

    def __init__(
        self, batch: Batch, requests: Sequence[RolloutRequest], grader: Grader, watch: Watch | None = None
    ) -> None:
        self._batch = batch
        self._requests = requests
        self._grader = grader
        self._watch = watch

    def results(self) -> list[Rollouts]:
        """Graded rollouts, one a request, in their order."""
        graded = [
            _graded(request, result, request.grader or self._grader)
            for request, result in zip(self._requests, self._batch.results(), strict=True)
        ]
        if self._watch is not None:
            for request, rollouts in zip(self._requests, graded, strict=True):
                self._watch(request, rollouts)
        return graded

    def cancel(self) -> None:
        """Drops them; the policy has answered nothing for them."""
        self._batch.cancel()


class RolloutRunner:
    """Runs rollouts and grades them.

    Args:
        executor: where they run.
        grader: decides about answers.
        secret: of the run; keys of attempts depend on it.
        expect: told which task an attempt is at, by the attempt's session, where that has an environment.
        watch: told what became of each request.
    """

    def __init__(
        self,
        executor: Executor,
        grader: Grader,
        secret: str = "",
        expect: Callable[[int, Task], None] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._executor = executor
        self._watch = watch
        self._expect = expect
        self._grader = grader
        self._secret = secret

    def submit(self, requests: Sequence[RolloutRequest]) -> Running:
        """Prepares rollouts; see `Executor.submit`."""
        jobs = [request.job(self._secret) for request in requests]
        if self._expect is not None:
            for request, job in zip(requests, jobs, strict=True):
                if not any(task.environment is not None for task in request.tasks):
                    continue
                for session, task in zip(job.sessions, request.tasks, strict=True):
                    if task.environment is not None:
                        self._expect(session, task)
        return Running(self._executor.submit(jobs), requests, self._grader, self._watch)

    def run(self, *requests: RolloutRequest) -> list[Rollouts]:
        """Graded rollouts, one a request, in their order.

        A crash, a time-out, an answer that the policy did not give or a policy that does not answer is a verdict with that
        failure.
        """
        return self.submit(requests).results()


def _graded(request: RolloutRequest, result: RolloutResult, grader: Grader) -> Rollouts:
    through = request.program is not None
    stage = (*request.stage, request.variant) if through else request.stage
    given = [
        Given(task, _told(task, outcome), index, take(outcome.workspace))
        for index, outcome in enumerate(result.outcomes)
        if outcome.failure is None and outcome.answer is not None
        for task in (request.tasks[index // request.samples],)
    ]
    try:
        graded = {
            each.index: verdict for each, verdict in zip(given, grader.grade(given, stage), strict=True)
        }
    finally:
        for each in given:
            if each.workspace is not None:
                each.workspace.close()
    return Rollouts(
        [
            _attempt(
                request.tasks[index // request.samples], outcome, graded.get(index), _trace(result, index)
            )
            for index, outcome in enumerate(result.outcomes)
        ],
        Counts(tokens=result.tokens, checked=result.checked, vetoed=result.vetoed),
        result.parts,
        result.exchanges,
    )


def _told(task: Task, outcome: Outcome) -> str:
    """What the grader is told of an attempt: its answer, and in an environment its calls besides."""
    answer = plain(outcome.answer or "")
    return answer if task.environment is None else Trajectory(answer, list(outcome.calls)).text()


def _attempt(
    task: Task, outcome: Outcome, graded: Verdict | None, trace: tuple[tuple[str, str], ...]
) -> Attempt:
    answer = plain(outcome.answer or "")
    verdict = graded or refused(outcome.failure or "malformed", outcome.detail)
    return Attempt(task, answer, verdict, trace, outcome.recalled, outcome.notes)


def _trace(result: RolloutResult, index: int) -> tuple[tuple[str, str], ...]:
    """What the program asked in an attempt, and what it was told."""
    if result.exchanges is not None and index < len(result.exchanges):
        return tuple(("\n".join(each.asked), each.text) for each in result.exchanges[index][:TRACED])
    return tuple(result.parts[index][:TRACED]) if index < len(result.parts) else ()
