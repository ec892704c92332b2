"""Rollouts as data: what an executor gives back depends on its jobs alone."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from closing_tools import ClosingTools

from moevolve.agents.genome import Genome, seed_genome
from moevolve.agents.host import ProgramHost
from moevolve.agents.plans.behaviour import Behaviour
from moevolve.config import SandboxSection
from moevolve.config.roles import RoleSection
from moevolve.config.schema import Isolation
from moevolve.errors import EndpointError
from moevolve.protocol.completion import Completion
from moevolve.protocol.policy import Policy
from moevolve.protocol.requests import (
    Answer,
    GenerateRequest,
    Outcome,
    PublicTask,
    Reply,
    Unanswered,
)
from moevolve.protocol.rollouts import RolloutJob, RolloutResult
from moevolve.protocol.sampling import Sampling
from moevolve.rollouts.executors.local import COHORT, LEAST, LocalExecutor, Programs, cut
from moevolve.rollouts.grading import CoinGrader, Given
from moevolve.rollouts.runner import RolloutRequest, RolloutRunner
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task, Verdict

TWICE = Genome(
    files=seed_genome().files
    | {
        "solve.py": """
async def solve(task, agent):
    first = (await agent.generate(task.prompt, max_tokens=8)).text
    second = (await agent.generate(first + "!", max_tokens=8)).text
    return second
"""
    }
)


class Echo:
    """Answers with the prompt's end and the request's key, and remembers who asked what."""

    weights = "echo"

    def __init__(self, refused: str = "") -> None:
        self.generated = 0
        self.rounds: list[list[str]] = []
        self._refused = refused

    def answer(self, requests: Sequence[GenerateRequest]) -> list[Reply]:
        self.rounds.append([str(request.prompt) for request in requests])
        self.generated += sum(request.n for request in requests)
        return [
            Unanswered(failure="policy", detail="it slept")
            if self._refused and str(request.prompt).startswith(self._refused)
            else [Completion(f"{request.prompt[-4:]}{request.key % 97}", [1], [0.0], "stop")] * request.n
            for request in requests
        ]


class Broken(Echo):
    """Fails at its third round."""

    def answer(self, requests: Sequence[GenerateRequest]) -> list[Reply]:
        if len(self.rounds) == 2:
            raise EndpointError("the server is gone")
        return super().answer(requests)


def executor(policy: Policy, program: Genome = TWICE) -> LocalExecutor:
    programs = Programs(
        ProgramHost(), Suite("any", []), lambda _: program, lambda _: Behaviour({}, computes=True)
    )
    return LocalExecutor(lambda weights: dict.fromkeys(weights, policy), programs)


def job(count: int, name: str = "a", **more: object) -> RolloutJob:
    tasks = tuple(PublicTask(prompt=f"{name}{index}=", skill="text/sort") for index in range(count))
    return RolloutJob(weights="w", program="p", tasks=tasks, keys=tuple(range(count)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, LEAST, 2 * LEAST - 1, 2 * LEAST, COHORT, COHORT + 1, 1536])
@pytest.mark.parametrize("jobs", [1, 2])
def test_cohorts_cover_a_job_without_gaps_and_are_no_larger_than_allowed(count: int, jobs: int) -> None:
    cohorts = cut(count, jobs)
    assert [index for part in cohorts for index in range(count)[part]] == list(range(count))
    assert all(part.stop - part.start <= COHORT for part in cohorts)


def test_results_come_in_the_order_of_jobs_and_do_not_depend_on_what_runs_beside() -> None:
    jobs = [job(130, "a"), job(3, "b"), job(40, "c")]
    together = executor(Echo()).submit(jobs).results()
    alone = [executor(Echo()).submit([each]).results()[0] for each in jobs]
    assert together == alone
    assert [len(result.outcomes) for result in together] == [130, 3, 40]
    assert all(outcome.failure is None for result in together for outcome in result.outcomes)


def test_the_policy_is_asked_in_the_same_order_every_time() -> None:
    first, second = Echo(), Echo()
    for policy in (first, second):
        executor(policy).submit([job(200, "a"), job(50, "b")]).results()
    assert first.rounds == second.rounds


def test_a_result_counts_what_its_own_job_took() -> None:
    small, large = executor(Echo()).submit([job(3), job(100)]).results()
    assert (small.tokens, small.requests, small.checked, small.vetoed) == (6, 6, 3, 0)
    assert (large.tokens, large.requests, large.checked) == (200, 200, 100)


def test_parts_are_the_completions_that_an_answer_by_plan_is_made_of() -> None:
    half = ["ask", ["concat", [["literal", "h:"], ["variable", 0], ["literal", "="]]]]
    plan = ["join", ["each", ["cut", ["payload"], 3, "even", 0], [0, half]], False]
    behaviour = Behaviour({"text/sort": json.dumps(plan)})
    policy = Echo()
    programs = Programs(
        ProgramHost(), Suite("primer", [], answers="policy"), lambda _: TWICE, lambda _: behaviour
    )
    by_plan = LocalExecutor(lambda weights: dict.fromkeys(weights, policy), programs)
    [result] = by_plan.submit([job(100, "a:bcdefg", parts=True)]).results()
    for parts, outcome in zip(result.parts, result.outcomes, strict=True):
        assert [prompt[:2] for prompt, _ in parts] == ["h:"] * len(parts)
        assert "".join(text for _, text in parts) == outcome.answer


def test_the_bare_policy_gives_every_task_its_samples() -> None:
    bare = RolloutJob(
        weights="w",
        program=None,
        tasks=job(100).tasks,
        keys=tuple(range(100)),
        samples=3,
        sampling=Sampling(max_tokens=8),
    )
    [result] = executor(Echo(refused="a7")).submit([bare]).results()
    assert len(result.outcomes) == 300 and result.tokens == 300 and result.checked == 0
    assert [outcome.failure for outcome in result.outcomes[21:24]] == ["policy"] * 3
    assert result.outcomes[0].answer == "a0=0"


def test_the_limits_of_a_job_are_in_force() -> None:
    poor = RoleSection(requests=1)
    [result] = executor(Echo()).submit([job(2, limits=poor)]).results()
    assert [outcome.failure for outcome in result.outcomes] == ["budget", "budget"]


def test_nothing_is_asked_before_results_are_wanted() -> None:
    policy = Echo()
    batch = executor(policy).submit([job(10)])
    batch.cancel()
    gc.collect()
    assert policy.rounds == []


def test_an_error_of_the_policy_ends_the_batch_and_reaches_its_owner() -> None:
    with pytest.raises(EndpointError, match="gone"):
        executor(Broken()).submit([job(100, "a"), job(100, "b")]).results()


class Recorded:
    """An executor without a machine: gives results that are on record, and keeps the jobs."""

    def __init__(self, *results: RolloutResult) -> None:
        self._results = list(results)
        self.jobs: list[RolloutJob] = []

    def submit(self, jobs: Sequence[RolloutJob]) -> Recorded:
        self.jobs += jobs
        return self

    def results(self) -> list[RolloutResult]:
        return self._results

    def cancel(self) -> None: ...


class Exact:
    def grade(self, given: Sequence[Given], stage: tuple[int | str, ...]) -> list[Verdict]:
        right = [each.answer == each.task.answer for each in given]
        return [Verdict(score=float(is_right), success=is_right) for is_right in right]


def outcome(answer: str | None, failure: str | None = None) -> Outcome:
    return Outcome(answer=answer, failure=failure, detail="", tokens=1, requests=1, completions=[])


TASKS = [Task(prompt=f"{name}=", answer=name, skill="text/sort", level=1) for name in "ab"]


def test_a_runner_grades_what_any_executor_gives_back() -> None:
    results = RolloutResult(outcomes=[outcome("a"), outcome(None, "crash")], tokens=9, requests=2, checked=2)
    recorded = Recorded(results)
    request = RolloutRequest(variant="v", weights="w", program="p", tasks=TASKS, stage=(1, 2))
    [rollouts] = RolloutRunner(recorded, Exact()).run(request)
    assert [attempt.verdict.success for attempt in rollouts.attempts] == [True, False]
    assert rollouts.attempts[1].verdict.failure == "crash"
    assert (rollouts.counts.tokens, rollouts.counts.checked) == (9, 2)


def test_a_job_holds_no_answer() -> None:
    recorded = Recorded(RolloutResult(outcomes=[outcome("x"), outcome("y")], tokens=0, requests=0))
    request = RolloutRequest(variant="v", weights="w", program="p", tasks=TASKS, stage=(1, 2))
    RolloutRunner(recorded, Exact()).run(request)
    assert recorded.jobs[0].tasks == tuple(PublicTask(prompt=t.prompt, skill=t.skill) for t in TASKS)


def test_two_variants_on_one_stage_draw_the_same_and_meet_different_coins() -> None:
    many = TASKS * 20
    same = RolloutResult(outcomes=[outcome("x")] * 40, tokens=0, requests=0)
    recorded = Recorded(same, same)
    requests = [
        RolloutRequest(variant=name, weights="w", program="p", tasks=many, stage=(1, 2)) for name in "uv"
    ]
    ours, theirs = RolloutRunner(recorded, CoinGrader()).run(*requests)
    assert recorded.jobs[0].keys == recorded.jobs[1].keys
    assert [a.verdict.score for a in ours.attempts] != [a.verdict.score for a in theirs.attempts]


def test_variants_that_draw_by_the_same_keys_call_tools_in_sessions_of_their_own() -> None:
    plain = job(3)
    other = [
        msgspec.structs.replace(plain, **change)
        for change in ({"weights": "v"}, {"program": "q"}, {"program": None}, {"memory": False})
    ]
    sessions = [each.sessions for each in (plain, *other)]
    assert plain.sessions == job(3).sessions
    assert len({session for each in sessions for session in each}) == 15


def test_a_jobs_calls_reach_its_sessions_and_these_are_let_go() -> None:
    calls = Genome(
        files=seed_genome().files
        | {"solve.py": "async def solve(task, agent):\n    return await agent.call('close')\n"}
    )
    tools = ClosingTools()
    programs = Programs(
        ProgramHost(tools=tools),
        Suite("any", [], answers="any"),
        lambda _: calls,
        lambda _: Behaviour({}, computes=True),
    )
    one, two = job(2), msgspec.structs.replace(job(2), program="q")
    LocalExecutor(lambda weights: dict.fromkeys(weights, Echo()), programs).submit([one, two]).results()
    assert sorted(tools.called) == sorted(tools.released) == sorted(one.sessions + two.sessions)


class Logged(ProgramHost):
    """A host that notes when a variant's attempts begin and end, asks once in between, and runs nothing."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.log: list[tuple[str, str]] = []

    def solve(self, genome: Genome, tasks: Sequence[PublicTask], answer: Answer, *_: Any, **__: Any) -> Any:
        name = genome.files["name"]
        self.log.append(("begin", name))
        answer([GenerateRequest(attempt=0, prompt="x", sampling=Sampling(max_tokens=8), n=1, key=1)])
        self.log.append(("end", name))
        return [outcome("x") for _ in tasks]


@pytest.mark.parametrize(
    ("files", "isolation"),
    [({"agent.toml": 'kind = "command"\nargv = ["python", "a.py"]\n'}, "batch"), ({}, "attempt")],
    ids=["in boxes", "each attempt a process"],
)
def test_variants_that_could_slow_each_other_down_run_one_after_the_other(
    files: dict[str, str], isolation: Isolation
) -> None:
    """A candidate that keeps the machine busy would have the champion's attempts run out of time."""
    host = Logged(sandbox=SandboxSection(isolation=isolation))
    programs = Programs(
        host,
        Suite("any", [], answers="any"),
        lambda name: Genome(files=files | {"solve.py": "", "name": name}),
        lambda _: Behaviour({}, computes=True),
    )
    made = LocalExecutor(lambda weights: dict.fromkeys(weights, Echo()), programs)
    jobs = [msgspec.structs.replace(job(2), program=name) for name in "abc"]
    batches = [made.submit(jobs), made.submit(jobs[:1])]
    assert host.log == []
    for batch in batches:
        batch.results()
    assert host.log == [(what, name) for name in "abca" for what in ("begin", "end")]
