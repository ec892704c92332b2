"""Plans as programs write them: built from opaque texts, evaluated on tasks with a policy that knows short answers only."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest

from moevolve.agents.plans.behaviour import Behaviour
from moevolve.agents.plans.expression import PlanError, Text, decode, encode
from moevolve.agents.plans.run import attempts
from moevolve.config.roles import RoleSection
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest, Outcome, PublicTask, RecallRequest, Reply, Unanswered
from moevolve.records import Lesson
from moevolve.tasks.primer.cutters import CUTTERS
from moevolve.tasks.primer.text import caesar, reverse, sort

SKILL = "text/reverse"
REACH = 4
"""The longest payload that the scripted policy answers; of longer ones it repeats the payload."""
KNOWN: dict[str, Callable[[str], str]] = {
    "rev": reverse,
    "srt": sort,
    "cae": caesar,
    "add": lambda payload: str(sum(map(int, payload.split("+")))),
    "cmp": lambda payload: max(payload.split(","), key=int),
    "par": lambda payload: "".join(str(sum(map(int, payload[: i + 1])) % 2) for i in range(len(payload))),
}


def scripted(requests: Sequence[GenerateRequest]) -> list[Reply]:
    """Right up to `REACH` characters; the same for every sample."""
    replies: list[Reply] = []
    for request in requests:
        assert isinstance(request.prompt, str)
        verb, _, payload = request.prompt.rpartition(";")[2].partition(":")
        payload = payload.removesuffix("=")
        limit = 2 * REACH + 1 if verb in ("cmp", "add") else REACH
        text = KNOWN[verb](payload) if len(payload) <= limit else payload
        replies.append([Completion(text, [1] * len(text), [0.0] * (len(text) + 1), "stop")] * request.n)
    return replies


def run(plan: ModuleType, solve: Callable[[Any], Any], prompt: str, **options: Any) -> Outcome:
    verb = prompt.partition(":")[0]
    expression: Text | PlanError = decode(json.dumps(plan.node(solve(plan.Task(verb, SKILL)))))
    given = {"answer": scripted, "recall": None, "cutters": CUTTERS, "limits": RoleSection()} | options
    [outcome] = attempts({SKILL: expression}, [PublicTask(prompt=prompt, skill=SKILL)], [7], **given)
    return outcome


def test_a_task_is_asked_once(plan: ModuleType) -> None:
    outcome = run(plan, lambda task: plan.ask(task.prompt), "rev:abc=")
    assert (outcome.answer, outcome.requests, outcome.failure) == ("cba", 1, None)


def test_a_long_task_is_cut_asked_in_parts_and_joined_backwards(plan: ModuleType) -> None:
    def solve(task: Any) -> Any:
        parts = task.payload.cut(3, above=REACH).each(lambda part: plan.ask(f"{task.verb}:{part}="))
        return parts.backwards().join()

    long = run(plan, solve, "rev:abcdefghij=")
    assert (long.answer, long.requests) == ("jihgfedcba", 4)
    assert [(piece.start, piece.prompt, piece.text) for piece in long.pieces] == [
        (0, "rev:ij=", "ji"),
        (2, "rev:fgh=", "hgf"),
        (5, "rev:cde=", "edc"),
        (8, "rev:ab=", "ba"),
    ]
    short = run(plan, solve, "rev:abc=")
    assert (short.answer, short.requests) == ("cba", 1)


def test_answers_are_carried_from_part_to_part(plan: ModuleType) -> None:
    def solve(task: Any) -> Any:
        return task.payload.cut(3, above=REACH).one_by_one(
            lambda part: plan.ask(f"par:{part}="),
            lambda bits, part: bits + plan.ask(f"par:{bits[-1:]}{part}=")[1:],
        )

    assert run(plan, solve, "par:371924=").answer == KNOWN["par"]("371924")


def test_numbers_are_added_by_columns_and_compared_by_a_window(plan: ModuleType) -> None:
    def by_columns(task: Any) -> Any:
        parts = task.payload.cut(2, "columns", above=6).each(lambda part: plan.ask(f"add:{part}="))
        return parts.join(number=True)

    assert run(plan, by_columns, "add:351357+120021=").answer == str(351357 + 120021)

    def by_window(task: Any) -> Any:
        def say(number: Any) -> Any:
            return number.cut(4).each(lambda part: plan.ask(f"cmp:{part},{part}=")).join()

        return plan.window(task.payload, 2, 3, lambda pair: plan.ask(f"cmp:{pair}="), say)

    assert run(plan, by_window, "cmp:7154212,7198301=").answer == "7198301"


def test_samples_are_voted_on_verified_and_drawn_again(plan: ModuleType) -> None:
    spoken = iter(["xy", "ab", "ab", "ba"])

    def wavering(requests: Sequence[GenerateRequest]) -> list[Reply]:
        if requests[0].prompt != "rev:ba=":
            return scripted(requests)
        return [[Completion(next(spoken), [1], [0.0], "stop") for _ in range(r.n)] for r in requests]

    voted = run(plan, lambda task: plan.vote(task.prompt, samples=3), "rev:ba=", answer=wavering)
    assert voted.answer == "ab"
    spoken = iter(["xy", "bb", "ab", "xy"])
    verified = run(
        plan,
        lambda task: plan.verify(task.prompt, lambda a: plan.ask(f"rev:{a}="), task.payload, samples=3),
        "rev:ba=",
        answer=wavering,
    )
    assert verified.answer == "ab"
    spoken = iter(["", "", "ab", "ab"])
    again = run(plan, lambda task: plan.retry(task.prompt, samples=3), "rev:ba=", answer=wavering)
    assert again.answer == "ab"


def test_other_skills_can_be_asked_in_turn(plan: ModuleType) -> None:
    def solve(task: Any) -> Any:
        sorted_ = plan.ask(f"srt:{task.payload}=")
        return plan.ask(task.under("rev", sorted_).prompt)

    assert run(plan, solve, "srv:bca=").answer == "cba"


@pytest.mark.parametrize(
    "look",
    [
        lambda text: len(text),
        lambda text: text == "a",
        lambda text: text != "a",
        lambda text: bool(text),
        lambda text: text or "x",
        lambda text: list(text),
        lambda text: "a" in text,
        lambda text: int(text),
        lambda text: str(text),
        lambda text: {text: 1},
        lambda text: text[0],
        lambda text: text[::2],
        lambda text: sorted([text, text]),
    ],
)
def test_a_text_cannot_be_looked_at(plan: ModuleType, look: Callable[[Any], Any]) -> None:
    task = plan.Task("rev", SKILL)
    with pytest.raises(plan.Opaque):
        look(task.payload)


def test_an_answer_spelt_from_short_pieces_counts_as_malformed(plan: ModuleType) -> None:
    def letters(task: Any) -> Any:
        return task.payload.cut(2).each(lambda part: plan.ask(f"rev:{part}=")[:1]).join()

    outcome = run(plan, letters, "rev:abcdefgh=")
    assert (outcome.answer, outcome.failure) == (None, "malformed")


def test_a_budget_holds_inside_a_round(plan: ModuleType) -> None:
    def greedy(task: Any) -> Any:
        return task.payload.cut(2).each(lambda part: plan.ask(f"rev:{part}=")).join()

    outcome = run(plan, greedy, "rev:abcdefgh=", limits=RoleSection(requests=3))
    assert (outcome.failure, outcome.requests) == ("budget", 0)
    sampled = run(
        plan, lambda task: plan.vote(task.prompt, samples=32), "rev:ab=", limits=RoleSection(tokens=99)
    )
    assert (sampled.failure, sampled.tokens) == ("budget", 0)


def test_an_empty_prompt_is_rejected_and_what_the_policy_leaves_open_has_its_failure(
    plan: ModuleType,
) -> None:
    empty = run(plan, lambda task: plan.ask(task.payload), "rev:=")
    assert empty.failure == "rejected"
    gone = run(
        plan,
        lambda task: plan.ask(task.prompt),
        "rev:ab=",
        answer=lambda requests: [Unanswered("policy", "gone") for _ in requests],
    )
    assert (gone.failure, gone.detail) == ("policy", "gone")


def test_one_bad_plan_harms_no_other_skill(plan: ModuleType) -> None:
    good = decode(json.dumps(plan.node(plan.ask(plan.Task("rev", SKILL).prompt))))
    made = {SKILL: encode(good).decode(), "text/sort": '["payload"]'}
    plans = Behaviour(made, {"a/b": "error: x"}).expressions(CUTTERS)
    tasks = [PublicTask(prompt="rev:ab=", skill=skill) for skill in (SKILL, "text/sort", "a/b", "c/d")]
    outcomes = attempts(plans, tasks, range(4), scripted, None, CUTTERS, RoleSection())
    assert [outcome.failure for outcome in outcomes] == [None, "malformed", "malformed", "malformed"]
    assert outcomes[0].answer == "ba"


def test_an_attempt_does_not_depend_on_its_company(plan: ModuleType) -> None:
    seen: list[tuple[str, int]] = []

    def noting(requests: Sequence[GenerateRequest]) -> list[Reply]:
        seen.extend((str(request.prompt), request.key) for request in requests)
        return scripted(requests)

    expression = decode(json.dumps(plan.node(plan.vote(plan.Task("rev", SKILL).prompt))))
    tasks = [PublicTask(prompt=f"rev:{text}=", skill=SKILL) for text in ("ab", "abc", "abcd")]
    attempts({SKILL: expression}, tasks, [3, 4, 5], noting, None, CUTTERS, RoleSection())
    together = [pair for pair in seen if pair[0] == "rev:abc="]
    seen.clear()
    attempts({SKILL: expression}, tasks[1:2], [4], noting, None, CUTTERS, RoleSection())
    assert seen == together


def test_examples_are_shown_as_solved_and_other_lessons_in_their_words(plan: ModuleType) -> None:
    asked: list[str] = []

    def answer(requests: Sequence[GenerateRequest]) -> list[Reply]:
        asked.extend(str(request.prompt) for request in requests)
        return scripted(requests)

    def recall(request: RecallRequest) -> list[Lesson]:
        common = {"skill": SKILL, "level": 1, "success": True, "run": "r", "cycle": 1, "variant": ""}
        return [
            Lesson(id="solved", text="rev:ab=ba", prompt="rev:ab=", answer="ba", **common),  # type: ignore[arg-type]
            Lesson(id="said", text="read from the end", prompt="", answer="", **common),  # type: ignore[arg-type]
        ]

    outcome = run(
        plan, lambda task: plan.ask(plan.lessons(2) + task.prompt), "rev:abc=", answer=answer, recall=recall
    )
    assert outcome.answer == "cba"
    assert asked == ["read from the end;rev:ab=ba;rev:abc="]
