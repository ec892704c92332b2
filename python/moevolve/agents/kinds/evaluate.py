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
from moevolve.protocol.requests import Answer, GenerateRequest, PublicTask, Recall, Reply
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
        outcomes = iter(attempts(plans, tasks, keys, ask, self._recall, self._cutters, limits))
        results: list[Result] = []
        for request in requests:
            mine = [next(outcomes) for _ in request.prompts]
            completions = [completion for outcome in mine for completion in outcome.completions]
            results.append(Given([o.answer for o in mine], completions, sum(o.tokens for o in mine)))
        return results

    def _ask(self, batch: list[GenerateRequest], owners: Sequence[EvaluateRequest]) -> list[Reply]:
        """The policy's replies, each likeliest answer of an attempt asked for once."""
        assert self._answer is not None, "requests are granted where there is a policy"
        known, fresh, named = self._known, [], {}
        for request in batch:
            owner = owners[request.attempt].attempt
            name = (id(owner), str(request.prompt))
            greedy = _greedy(request)
            if not greedy or (name not in known and name not in named):
                owner.requests += 1
                fresh.append(request)
                if greedy:
                    named[name] = len(fresh) - 1
        given = self._answer(fresh) if fresh else []
        sampled = iter([reply for request, reply in zip(fresh, given, strict=True) if not _greedy(request)])
        for name, place in named.items():
            reply = given[place]
            if isinstance(reply, list):
                known[name] = reply[0]
        replies: list[Reply] = []
        for request in batch:
            name = (id(owners[request.attempt].attempt), str(request.prompt))
            if not _greedy(request):
                replies.append(next(sampled))
            elif name in known:
                replies.append([known[name]])
            else:
                replies.append(given[named[name]])
        return replies


def _greedy(request: GenerateRequest) -> bool:
    return request.n == 1 and request.sampling.temperature == 0
