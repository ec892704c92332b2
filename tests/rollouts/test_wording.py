"""Tasks put to an instruct model: what it is asked, and what its replies come to."""

import string
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.rollouts.wording import INSTRUCTION, PlainWording, Wording, style_of
from moevolve.tasks.skill import Skill
from moevolve.tasks.splits import split_of
from moevolve.tasks.suite import Suite, suite
from moevolve.tasks.task import Task

PRIMER = suite("primer")


def wording(shots: int = 2, *, spell: bool = True, levels: tuple[int, int] = (1, 4)) -> Wording:
    return Wording(PRIMER.only(levels=levels), shots=shots, spell=spell)


def test_a_prompt_becomes_the_skills_summary_and_a_question() -> None:
    assert wording(0).messages("rev:bdca=") == [
        {"role": "system", "content": f"Write the letters backwards. {INSTRUCTION}"},
        {"role": "user", "content": "b d c a ="},
    ]


def test_solved_tasks_are_earlier_turns_before_the_question() -> None:
    said = wording(3).messages("add:12+3=")
    assert [message["role"] for message in said] == ["system", *["user", "assistant"] * 3, "user"]
    for question, answer in zip(said[1:-1:2], said[2:-1:2], strict=True):
        first, _, second = question["content"].removesuffix(" =").partition("+")
        assert int(first) + int(second) == int(answer["content"])


@pytest.mark.parametrize("skill", sorted(PRIMER.skills))
def test_what_is_shown_solved_is_of_the_train_split(skill: str) -> None:
    verb = PRIMER[skill].verb
    shown = wording(6).messages(f"{verb}:1=")[1:-1:2]
    assert len(shown) == 6
    for message in shown:
        payload = message["content"].removesuffix(" =")
        spelt = payload.replace(" ", "")
        assert split_of(f"{verb}:{spelt}=") == "train"


def test_a_prompt_of_no_known_verb_is_asked_as_it_is() -> None:
    assert wording().messages("What is the capital of France?")[-1]["content"] == (
        "What is the capital of France?"
    )


def test_a_users_skill_is_known_by_what_its_prompts_begin_with() -> None:
    def double(rng: Random, level: int) -> Task:
        text = "".join(rng.choices("abcdefghij", k=level + 2))
        return Task(prompt=f"twice:{text}=", answer=text * 2)

    def free(rng: Random, level: int) -> Task:
        return Task(prompt=f"What follows {rng.randrange(10**6)}?", answer="?")

    own = Suite(
        "own",
        [
            Skill(path="text/double", summary="write the letters twice", generator=double),
            Skill(path="number/next", summary="name the next number", generator=free),
        ],
    )
    said = Wording(own.only(levels=(1, 4)), shots=1, spell=True)
    assert said.messages("twice:abc=")[0]["content"].startswith("Write the letters twice.")
    assert len(said.messages("twice:abc=")) == 4
    assert said.messages("What follows 3?")[0]["content"] == INSTRUCTION


def test_digits_stay_together_and_letters_stay_whole_where_nothing_is_spelt() -> None:
    assert wording(0).messages("cmp:362,365=")[-1]["content"] == "362,365 ="
    assert wording(0, spell=False).messages("rev:bdca=")[-1]["content"] == "bdca ="


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("a c d b", "acdb"),
        (" a c d b\nand more", "acdb"),
        ("365", "365"),
        ("a", "a"),
        ("The answer is 3", "The answer is 3"),
        ("", ""),
        ("\n\n", ""),
    ],
)
def test_a_reply_is_read_as_its_first_line_with_the_spelling_undone(reply: str, answer: str) -> None:
    assert wording().read(reply) == answer


@given(st.text(alphabet=string.ascii_letters, max_size=20), st.booleans())
def test_what_is_said_is_read_back(answer: str, spell: bool) -> None:
    with_spelling = wording(spell=spell)
    assert with_spelling.read(with_spelling.said(answer)) == answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Let me think.\nI turn it round.\n\ncba", "cba"),
        ("cba\n\nI turned it round.", "cba"),
        ("cba\nabc", "cba"),
        ("It is hard.\nI do not know.", "It is hard."),
        ("Well.\n\ncba", "cba"),
        ("Answer:\nc b a", "cba"),
        ("cba.", "cba."),
    ],
)
def test_a_word_on_the_last_line_answers_where_the_first_is_a_sentence(reply: str, answer: str) -> None:
    assert wording().read(reply) == answer


@given(st.text(max_size=40))
def test_any_reply_can_be_read(reply: str) -> None:
    assert "\n" not in wording().read(reply)


class TestPlainWording:
    """A suite of one's own: nothing is added to its prompts, nothing is taken from its replies."""

    def test_a_prompt_is_a_message_as_it_is(self) -> None:
        prompt = "Order: figs for 3 and plums for 4.\nWhat is the total? ="
        assert PlainWording().messages(prompt) == [{"role": "user", "content": prompt}]

    @pytest.mark.parametrize(
        "reply", ["def f(x):\n    return x + 1", '{"a": 1}\n', "a b c", "First line.\n\nSecond."]
    )
    def test_a_whole_reply_is_the_answer(self, reply: str) -> None:
        assert PlainWording().read(reply) == reply.strip()

    @given(st.text())
    def test_what_is_said_is_read(self, answer: str) -> None:
        worded = PlainWording()
        if not answer.lstrip().startswith("<think>"):
            assert worded.read(worded.said(answer)) == answer.strip()

    def test_it_is_what_a_suite_without_verbs_gets(self) -> None:
        own = Suite(
            "own", [Skill(path="a/b", summary="", generator=lambda rng, level: Task(prompt="p", answer="a"))]
        )
        assert style_of(own) == "plain" and style_of(PRIMER) == "chat"


@pytest.mark.parametrize("worded", [PlainWording(), wording()])
@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<think>\nLet me see: 3 + 4.\n</think>\n\n7", "7"),
        ("\n<think></think>7", "7"),
        ("<think>and so on, without an end", ""),
        ("7 </think>", "7 </think>"),
        ("a <think> in the middle</think>", "a <think> in the middle</think>"),
    ],
)
def test_reasoning_before_an_answer_is_no_part_of_it(
    worded: Wording | PlainWording, reply: str, answer: str
) -> None:
    assert worded.read(reply) == answer
