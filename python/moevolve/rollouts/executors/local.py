"""Rollouts on this machine: sandboxed processes beside the policy, so that it answers one cohort while others compute.

A job's tasks are cut into cohorts, each in a thread that drives one sandboxed process. Cohorts take turns in a fixed order:
the policy answers the first one's round, then the second's, and comes back to the first, whose program has gone on in the
meantime. So the order of requests, and with it a server's bill, depends on no clock.

An agent in a box, and a program whose attempts are processes of their own, may keep this machine busy: two variants of such
never run at one time, since the one could make the other late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice

import msgspec

from moevolve.agents.genome import Genome
from moevolve.agents.host import ProgramHost
from moevolve.agents.manifest import manifest_of
from moevolve.agents.plans.behaviour import Behaviour
from moevolve.agents.plans.run import attempts
from moevolve.errors import UsageError
from moevolve.protocol.completion import Completion
from moevolve.protocol.policy import Policy
from moevolve.protocol.requests import Answer, Exchange, GenerateRequest, Outcome, Recall, Reply, Unanswered
from moevolve.protocol.rollouts import Part, RolloutJob, RolloutResult
from moevolve.rollouts.counting import Usage
from moevolve.rollouts.executors.lane import Lane
from moevolve.tasks.suite import Suite

COHORT = 384
"""Most attempts that share one sandboxed process and its rounds."""
LEAST = 48
"""Attempts below which a cohort is not cut in two."""
LANES = 4
"""Cohorts under way at one time."""

Policies = Callable[[Sequence[str]], Mapping[str, Policy]]
"""Policies of these weights, all of them loaded."""


class Programs(msgspec.Struct, frozen=True):
    """A run's programs: who runs them, for which suite, and their source and plans by content hash."""

    host: ProgramHost
    suite: Suite
    genome: Callable[[str], Genome]
    behaviour: Callable[[str], Behaviour]


class LocalExecutor:
    """Runs jobs on this machine.

    Args:
        policies: gives the policies of some weights.
        programs: the run's programs; None where jobs are of bare policies alone.
        recall: memory, which any thread may ask; None recalls nothing.
        together: the policies' reply to one attempt depends on what others ask in its round: they wait for each other.
    """

    def __init__(
        self,
        policies: Policies,
        programs: Programs | None = None,
        recall: Recall | None = None,
        *,
        together: bool = False,
    ) -> None:
        self.policies = policies
        self.programs = programs
        self.together = together
        self.recall = recall

    def submit(self, jobs: Sequence[RolloutJob]) -> LocalBatch:
        """Takes jobs; the first cohorts' processes start at once, but for those that run alone."""
        return LocalBatch(self, jobs)

    def alone(self, jobs: Sequence[RolloutJob]) -> bool:
        """Whether some of these jobs could slow others down, so that each has the machine for itself."""
        programs = self.programs
        if programs is None or programs.suite.answers != "any":
            return False
        through = {job.program for job in jobs if job.program is not None}
        if programs.host.sandbox.isolation == "attempt":
            return bool(through)
        return any(manifest_of(programs.genome(program).files).boxed for program in through)


class _Cohort:
    """Some attempts of one job, and what they came to.

    Args:
        executor: what runs them.
        job: whose attempts they are.
        which: of the job's tasks.
    """

    def __init__(self, executor: LocalExecutor, job: RolloutJob, which: slice) -> None:
        self.weights = job.weights
        self.usage = Usage()
        self.parts: list[list[Part]] = []
        self.exchanges: list[list[Exchange]] | None = None
        self.outcomes: list[Outcome] = []
        self._executor = executor
        self._job = job
        self._which = which
        self._lane: Lane[list[Outcome]] | None = None

    def start(self) -> None:
        """Starts the cohort's thread, and with it its sandboxed process."""
        self._lane = Lane(self._bare if self._job.program is None else self._program)

    def step(self, policy: Policy) -> bool:
        """Waits for the cohort's next round and answers it; whether there was one."""
        assert self._lane is not None, "the cohort has been started"
        event = self._lane.next()
        if isinstance(event, Future):
            self.outcomes = event.result()
            return False
        replies = self.usage.answer(policy, event)
        if self.exchanges is not None:
            for request, reply in zip(event, replies, strict=True):
                self.exchanges[request.attempt] += exchanges(request, reply)
        self._lane.reply(replies)
        return True

    def drop(self) -> None:
        """Ends a cohort that nobody waits for."""
        if self._lane is not None:
            self._lane.drop()

    def _program(self, answer: Answer) -> list[Outcome]:
        job, programs = self._job, self._executor.programs
        recall = self._executor.recall if job.memory else None
        if job.program is None or programs is None:
            raise UsageError("this executor runs bare policies alone")
        tasks, keys = job.tasks[self._which], job.keys[self._which]
        behaviour = programs.behaviour(job.program)
        if behaviour.computes and programs.suite.answers == "any":
            if job.parts:
                self.exchanges = [[] for _ in tasks]
            return programs.host.solve(
                programs.genome(job.program),
                tasks,
                answer,
                recall,
                keys,
                limits=job.limits,
                twice=job.twice,
                workspaces=job.workspaces,
                policy=job.weights,
                together=self._executor.together,
                sessions=job.sessions[self._which],
            )
        cutters, limits = programs.suite.cutters, job.limits or programs.host.roles.solver
        plans = behaviour.expressions(cutters)
        outcomes = attempts(plans, tasks, keys, answer, recall, cutters, limits)
        if job.parts:
            self.parts = [[(p.prompt, p.text) for p in o.pieces if p.prompt is not None] for o in outcomes]
        return outcomes

    def _bare(self, answer: Answer) -> list[Outcome]:
        job = self._job
        assert job.sampling is not None, "the bare policy is told how to sample"
        requests = [
            GenerateRequest(
                attempt=index,
                prompt=task.messages or task.prompt,
                sampling=job.sampling,
                n=job.samples,
                key=key,
            )
            for index, (task, key) in enumerate(
                zip(job.tasks[self._which], job.keys[self._which], strict=True)
            )
        ]
        outcomes = []
        for reply in answer(requests):
            if isinstance(reply, Unanswered):
                outcomes += [_outcome(None, reply)] * job.samples
            else:
                outcomes += [_outcome(completion, None) for completion in reply]
        return outcomes


class LocalBatch:
    """Jobs under way.

    Args:
        executor: whose they are.
        jobs: the jobs.
    """

    def __init__(self, executor: LocalExecutor, jobs: Sequence[RolloutJob]) -> None:
        self._executor = executor
        self._jobs = jobs
        self._cohorts = [
            [_Cohort(executor, job, which) for which in cut(len(job.tasks), len(jobs))] for job in jobs
        ]
        self._waiting = iter([cohort for cohorts in self._cohorts for cohort in cohorts])
        self._running: deque[_Cohort] = deque()
        self._alone = executor.alone(jobs)
        if not self._alone:
            self._fill()

    def results(self) -> list[RolloutResult]:
        """One result a job, in their order."""
        policies = self._executor.policies([job.weights for job in self._jobs])
        try:
            if self._alone:
                self._fill()
            while self._running:
                if self._running[0].step(policies[self._running[0].weights]):
                    self._running.rotate(-1)
                else:
                    self._running.popleft()
                    self._fill()
        except BaseException:
            self.cancel()
            raise
        return [_result(job, cohorts) for job, cohorts in zip(self._jobs, self._cohorts, strict=True)]

    def cancel(self) -> None:
        """Ends what is under way; what has not begun never does."""
        while self._running:
            self._running.popleft().drop()
        self._waiting = iter(())

    def _fill(self) -> None:
        lanes = 1 if self._alone else LANES
        for cohort in islice(self._waiting, lanes - len(self._running)):
            cohort.start()
            self._running.append(cohort)


def cut(tasks: int, jobs: int) -> list[slice]:
    """Cohorts of a job: as few as `COHORT` allows, but two where it is the only job and not small."""
    count = -(-tasks // COHORT)
    if jobs == 1 and count == 1 and tasks >= 2 * LEAST:
        count = 2
    bounds = [tasks * index // max(1, count) for index in range(count + 1)]
    return [slice(low, high) for low, high in zip(bounds, bounds[1:], strict=False)]


def _result(job: RolloutJob, cohorts: Sequence[_Cohort]) -> RolloutResult:
    outcomes = [outcome for cohort in cohorts for outcome in cohort.outcomes]
    through = job.program is not None
    return RolloutResult(
        outcomes=outcomes,
        tokens=sum(cohort.usage.tokens for cohort in cohorts),
        requests=sum(cohort.usage.requests for cohort in cohorts),
        checked=len(outcomes) if through else 0,
        vetoed=sum(outcome.failure == "malformed" for outcome in outcomes) if through else 0,
        parts=[parts for cohort in cohorts for parts in cohort.parts],
        exchanges=_together([cohort.exchanges for cohort in cohorts]),
    )


def exchanges(request: GenerateRequest, reply: Reply) -> list[Exchange]:
    """What one request was answered with, where the policy tells its tokens."""
    if isinstance(reply, Unanswered):
        return []
    return [
        Exchange(
            prompt=request.prompt,
            text=completion.text,
            tokens=tuple(completion.tokens),
            ended=len(completion.logprobs) > len(completion.tokens),
            worded=request.worded,
            tools=request.tools,
            logprobs=tuple(completion.logprobs),
            cut=completion.finish == "length",
        )
        for completion in reply
        if completion.tokens
    ]


def _together(parts: Sequence[list[list[Exchange]] | None]) -> list[list[Exchange]] | None:
    """The exchanges of a job's cohorts; None where its program does not compute."""
    known = [part for part in parts if part is not None]
    return [each for part in known for each in part] if known and len(known) == len(parts) else None


def _outcome(completion: Completion | None, unanswered: Unanswered | None) -> Outcome:
    """The outcome of one sample of the bare policy."""
    return Outcome(
        answer=completion.text if completion else None,
        failure=unanswered.failure if unanswered else None,
        detail=unanswered.detail if unanswered else "",
        tokens=completion.count if completion else 0,
        requests=1,
        completions=[completion] if completion else [],
    )
