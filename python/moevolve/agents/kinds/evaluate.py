"""Requests to evaluate a plan on prompts of the program's own: how an improver tries its ideas out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from moevolve.agents.attempt import Attempt
from moevolve.agents.gateway import Given, Refused, Result, within
from moevolve.agents.plans.check import check
from moevolve.agents.plans.expression import PlanError, Text, decode
from moevolve.agents.plans.run import attempts
from moevolve.config.roles import RoleSection
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import Answer, GenerateRequest, PublicTask, Recall, Reply, Unanswered
from moevolve.randomness import key
from moevolve.tasks.cutters import Cutter

MOST_PROMPTS = 64


class WireEvaluate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan as JSON data, and prompts to evaluate it on."""

    plan: Any
    prompts: Annotated[list[str], Meta(min_length=1, max_length=MOST_PROMPTS)]


class EvaluateRequest(msgspec.Struct, frozen=True):
    """A checked plan and its prompts, with the limits of the role that asks."""

    plan: Text
    prompts: list[str]
    key: int
    limits: RoleSection
    attempt: Attempt


class Evaluate:
    """Answers of a plan: a text for each prompt, or None where its attempt fails.

    Every question that the plan puts to the policy is a request of the attempt; a likeliest answer that the attempt has had
    before costs nothing.

    Args:
        answer: the policy; None where none is granted.
        recall: memory.
        cutters: what the suite grants.
    """

    wire = WireEvaluate

    def __init__(self, answer: Answer | None, recall: Recall | None, cutters: Mapping[str, Cutter]) -> None:
        self._answer = answer
        self._recall = recall
        self._cutters = cutters
        self._known: dict[tuple[int, str], Completion] = {}
        self._charged: dict[int, int] = {}
        """Tokens drawn for each request of the round under way."""
        self._asked: dict[int, int] = {}
        """Questions put to the policy for each."""

    def request(self, asked: WireEvaluate, attempt: Attempt, index: int, key: int) -> EvaluateRequest:
        within(attempt, "prompt_chars", max(map(len, asked.prompts)), "the length of a prompt")
        try:
            plan = decode(msgspec.json.encode(asked.plan))
            check(plan, self._cutters)
        except PlanError as error:
            raise Refused("rejected", str(error)) from None
        return EvaluateRequest(plan, asked.prompts, key, attempt.limits, attempt)

    def answer(self, requests: list[EvaluateRequest]) -> Sequence[Result]:
        tasks, keys, owners = [], [], []
        plans: dict[str, Text | PlanError] = {}
        for number, request in enumerate(requests):
            plans[str(number)] = request.plan
            for index, prompt in enumerate(request.prompts):
                tasks.append(PublicTask(prompt=prompt, skill=str(number)))
                keys.append(key(request.key, index))
                owners.append(request)

        def ask(batch: list[GenerateRequest]) -> list[Reply]:
            return self._ask(batch, owners)

        limits = requests[0].limits
        self._charged, self._asked = {}, {}
        outcomes = iter(attempts(plans, tasks, keys, ask, self._recall, self._cutters, limits))
        results: list[Result] = []
        for request in requests:
            mine = [next(outcomes) for _ in request.prompts]
            completions = [completion for outcome in mine for completion in outcome.completions]
            results.append(
                Given(
                    [outcome.answer for outcome in mine],
                    completions,
                    self._charged.get(id(request), 0),
                    requests=self._asked.get(id(request), 0),
                )
            )
        return results

    def _ask(self, batch: list[GenerateRequest], owners: Sequence[EvaluateRequest]) -> list[Reply]:
        """The policy's replies, each likeliest answer of an attempt asked for once.

        What an attempt may no longer ask, counted at worst, is left unanswered, so that its budget holds inside a round.
        """
        assert self._answer is not None, "requests are granted where there is a policy"
        fresh: list[GenerateRequest] = []
        waiting: dict[tuple[int, str], int] = {}
        sources: list[Completion | int | Unanswered] = []
        pending = dict.fromkeys([id(owner.attempt) for owner in owners], 0)
        for owner in {id(owner): owner for owner in owners}.values():
            pending[id(owner.attempt)] += self._charged.get(id(owner), 0)
        for request in batch:
            attempt = owners[request.attempt].attempt
            name = (id(attempt), str(request.prompt))
            if _greedy(request) and name in self._known:
                sources.append(self._known[name])
                continue
            if _greedy(request) and name in waiting:
                sources.append(waiting[name])
                continue
            most = request.n * request.sampling.max_tokens
            limits = attempt.limits
            beyond = attempt.tokens + pending[id(attempt)] + most > limits.tokens
            if attempt.requests >= limits.requests or beyond:
                sources.append(Unanswered(failure="budget", detail=attempt.spent()))
                continue
            attempt.requests += 1
            owner_of = id(owners[request.attempt])
            self._asked[owner_of] = self._asked.get(owner_of, 0) + 1
            pending[id(attempt)] += most
            if _greedy(request):
                waiting[name] = len(fresh)
            sources.append(len(fresh))
            fresh.append(request)
        given = self._answer(fresh) if fresh else []
        for request, reply in zip(fresh, given, strict=True):
            if isinstance(reply, list):
                name_of = id(owners[request.attempt])
                drawn = sum(completion.count for completion in reply)
                self._charged[name_of] = self._charged.get(name_of, 0) + drawn
        for name, index in waiting.items():
            first = given[index]
            if isinstance(first, list):
                self._known[name] = first[0]
        return [
            given[source]
            if isinstance(source, int)
            else [source]
            if isinstance(source, Completion)
            else source
            for source in sources
        ]


def _greedy(request: GenerateRequest) -> bool:
    return request.n == 1 and request.sampling.temperature == 0
