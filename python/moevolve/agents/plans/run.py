"""Attempts by plans: tasks side by side, a round of questions one batch for the policy, budgets held inside the round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from moevolve.agents.plans.evaluate import Ask, Asking, Evaluation, OverBudget
from moevolve.agents.plans.expression import PlanError, Text
from moevolve.agents.plans.values import Value, spelt
from moevolve.config.roles import RoleSection
from moevolve.protocol.completion import Completion
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import (
    Answer,
    GenerateRequest,
    Outcome,
    PublicTask,
    Recall,
    RecallRequest,
    Unanswered,
)
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key
from moevolve.records import Lesson
from moevolve.tasks.cutters import Cutter


class _Attempt:
    """One task under way: its generator, what it asks now, what it spent, how it ended."""

    def __init__(self, index: int, task: PublicTask, seed: int, run: Asking) -> None:
        self.index = index
        self.task = task
        self.seed = seed
        self.run = run
        self.asks: list[Ask] = []
        self.requests = 0
        self.tokens = 0
        self.completions: list[Completion] = []
        self.value: Value | None = None
        self.failure: str | None = None
        self.detail = ""
        self.recalled: list[tuple[str, ...]] = []

    def advance(self, given: list[list[str]] | None) -> None:
        """Goes on to the next questions, or to the end."""
        try:
            self.asks = next(self.run) if given is None else self.run.send(given)
        except StopIteration as stop:
            self.value, self.asks = stop.value, []
        except OverBudget as error:
            self.fail("budget", str(error))

    def fail(self, failure: str, detail: str) -> None:
        self.failure, self.detail, self.asks = failure, detail, []
        self.run.close()

    def outcome(self, limits: RoleSection) -> Outcome:
        value, failure, detail = self.value, self.failure, self.detail
        if failure is None and value is not None:
            if len(value.text) > limits.answer_chars:
                failure, detail = "malformed", f"an answer of {len(value.text):,} characters"
            elif spelt(value):
                failure, detail = "malformed", "the answer is spelt from pieces that are too short"
        return Outcome(
            answer=None if value is None or failure is not None else value.text,
            failure=failure,
            detail=detail,
            tokens=self.tokens,
            requests=self.requests,
            completions=self.completions,
            pieces=() if value is None or failure is not None else value.pieces,
            recalled=tuple(self.recalled),
        )


def attempts(
    plans: Mapping[str, Text | PlanError],
    tasks: Sequence[PublicTask],
    keys: Sequence[int],
    answer: Answer,
    recall: Recall | None,
    cutters: Mapping[str, Cutter],
    limits: RoleSection,
) -> list[Outcome]:
    """One attempt on every task by the plan of its skill.

    Args:
        plans: skill -> its plan, which `check` has accepted, or why there is none, which is its attempts' failure.
        tasks: as programs see them.
        keys: one key a task; each request draws from (key, index of the request).
        answer: the policy.
        recall: memory; None recalls nothing.
        cutters: what the suite grants.
        limits: what one attempt may spend.

    Returns:
        One outcome a task, in order.
    """
    under_way: list[_Attempt] = []
    everyone: list[_Attempt] = []
    for index, (task, seed) in enumerate(zip(tasks, keys, strict=True)):
        plan = plans.get(task.skill, PlanError(f"no plan for {task.skill}"))
        if isinstance(plan, PlanError):
            attempt = _Attempt(index, task, seed, _nothing())
            attempt.fail(plan.failure, str(plan))
        else:
            recalled: list[tuple[str, ...]] = []
            lessons = _lessons(recall, task, seed, recalled)
            attempt = _Attempt(index, task, seed, Evaluation(task.prompt, cutters, lessons).text(plan))
            attempt.recalled = recalled
            attempt.advance(None)
            under_way.append(attempt)
        everyone.append(attempt)
    while under_way := [attempt for attempt in under_way if attempt.asks and _granted(attempt, limits)]:
        _answer(under_way, answer, limits)
    return [attempt.outcome(limits) for attempt in everyone]


def _granted(attempt: _Attempt, limits: RoleSection) -> bool:
    """Whether the whole of what an attempt asks now is within its budget, at worst."""
    asks = attempt.asks
    most = sum(ask.n for ask in asks) * limits.longest
    if any(not ask.prompt for ask in asks):
        attempt.fail("rejected", "an empty prompt")
    elif any(len(ask.prompt) > limits.longest_prompt for ask in asks):
        attempt.fail("budget", f"a prompt of more than {limits.longest_prompt:,} characters")
    elif attempt.requests + len(asks) > limits.requests:
        attempt.fail("budget", f"more than {limits.requests} requests")
    elif attempt.tokens + most > limits.tokens:
        attempt.fail(
            "budget", f"more than {limits.tokens:,} tokens, if all completions are as long as they may be"
        )
    return attempt.failure is None


def _answer(under_way: Sequence[_Attempt], answer: Answer, limits: RoleSection) -> None:
    """One round: every question of every attempt in one batch."""
    batch = [
        GenerateRequest(
            attempt=attempt.index,
            prompt=_question(attempt.task, ask.prompt),
            sampling=Sampling(max_tokens=limits.longest, temperature=ask.temperature),
            n=ask.n,
            key=key(attempt.seed, "request", attempt.requests + offset),
        )
        for attempt in under_way
        for offset, ask in enumerate(attempt.asks, 1)
    ]
    replies = iter(answer(batch))
    for attempt in under_way:
        given = [next(replies) for _ in attempt.asks]
        attempt.requests += len(given)
        texts: list[list[str]] = []
        for reply in given:
            if isinstance(reply, Unanswered):
                attempt.fail(reply.failure, reply.detail)
                break
            attempt.tokens += sum(completion.count for completion in reply)
            attempt.completions += reply
            texts.append([completion.text for completion in reply])
        else:
            attempt.advance(texts)


def _question(task: PublicTask, text: str) -> str | tuple[Message, ...]:
    """What a plan asks, at the end of the task's conversation where it has one."""
    if not task.messages:
        return text
    return *task.messages[:-1], msgspec.structs.replace(task.messages[-1], content=text)


def _nothing() -> Asking:
    """An evaluation that ends before it begins."""
    return Value("")
    yield


def _lessons(
    recall: Recall | None, task: PublicTask, seed: int, recalled: list[tuple[str, ...]]
) -> Callable[[int, float], str]:
    """What recalls solved examples for a task; `recalled` takes their ids."""

    def text(k: int, words: float) -> str:
        if recall is None:
            return ""
        request = RecallRequest(
            skill=task.skill,
            query=task.prompt,
            k=k,
            key=key(seed, "recall", len(recalled)),
            kinds=("fact",),
            words=words,
            vector=1 - words,
        )
        lessons = recall(request)
        recalled.append(tuple(lesson.id for lesson in lessons))
        return "".join(f"{_shown(lesson)};" for lesson in reversed(lessons) if lesson.success)

    return text


def _shown(lesson: Lesson) -> str:
    """A solved example, or the words of a lesson that is none."""
    return f"{lesson.prompt}{lesson.answer}" if lesson.prompt else lesson.text
