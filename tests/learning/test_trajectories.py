"""Attempts of a program that computes as training examples: what the policy said where the grader confirmed, and no more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

import moevolve as mv
from moevolve.learning.buffer import Buffer
from moevolve.models.engine import Engine
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import Exchange
from moevolve.protocol.training import Example
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks import folder
from moevolve.tasks.suite import Suite
from moevolve.tasks.suite import suite as suite_named
from moevolve.tasks.task import Task, Verdict


def attempt(answer: str, success: bool = True) -> Attempt:
    verdict = Verdict(score=float(success), success=success, failure=None if success else "wrong")
    return Attempt(Task(prompt="long question", skill="a/b", level=1), answer, verdict)


def said(prompt: str, text: str) -> Exchange:
    return Exchange(prompt=prompt, text=text, tokens=tuple(map(ord, text)), ended=True)


OWN = Suite("own", [])


def listed_suite(path: Path) -> Suite:
    path.mkdir()
    rows = [{"id": f"t{n}", "prompt": f"Number {n}?", "answer": str(n)} for n in range(20)]
    (path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder.load(path)


class TestBuffer:
    def test_an_agent_cannot_put_a_sealed_task_among_its_questions(self, tmp_path: Path) -> None:
        suite, buffer = listed_suite(tmp_path / "s"), Buffer(100)
        everything = [f"  NUMBER {n}? " for n in range(20)]
        buffer.add_exchanges([attempt("x")], [[said(text, "x") for text in everything]], 1, suite)
        train = {task.prompt for task in suite.sample("train", suite.spread("train", 1) * 3, "all")}
        assert {item.prompt.strip().capitalize() for item in buffer.items()} == train and len(train) == 8

    def test_of_an_endless_suite_no_text_of_another_split_is_taken_but_the_task_itself(self) -> None:
        primer, buffer = suite_named("primer"), Buffer(1000)
        texts = [f"rev:{n}=" for n in range(200)]
        buffer.add_exchanges([attempt("x")], [[said(text, "x") for text in texts]], 1, primer)
        assert {item.prompt for item in buffer.items()} == {t for t in texts if primer.split_of(t) == "train"}
        turns = (Message("user", "long question"), Message("assistant", "x"), Message("user", "Sure?"))
        whole = Exchange(prompt=turns, text="x", tokens=(1,), ended=True)
        assert buffer.add_exchanges([attempt("x")], [[whole]], 1, primer) == 1

    def test_confirmed_attempts_alone_are_taken_and_never_their_answers(self) -> None:
        buffer = Buffer(10)
        exchanges = [[said("p", "x"), said("q", "y")], [said("r", "z")]]
        assert buffer.add_exchanges([attempt("xy"), attempt("z", success=False)], exchanges, 1, OWN) == 1
        assert [(item.prompt, item.answer) for item in buffer.items()] == [("p", "x"), ("q", "y")]

    def test_of_a_vote_the_answers_that_were_right_are_taken(self) -> None:
        buffer = Buffer(10)
        votes = [said("p", "wrong"), said("p", " right "), said("q", "once")]
        buffer.add_exchanges([attempt("right")], [votes], 1, OWN)
        assert {item.prompt: item.answer for item in buffer.items()} == {"p": " right ", "q": "once"}

    def test_conversations_are_told_apart_by_all_of_their_messages(self) -> None:
        buffer = Buffer(10)
        turns = [(Message("system", who), Message("user", "hi")) for who in ("a", "b")]
        exchanges = [Exchange(prompt=each, text="x", tokens=(1,), ended=True) for each in turns]
        buffer.add_exchanges([attempt("x")], [exchanges], 1, OWN)
        assert len(buffer) == 2


SOLVE = """
async def solve(task, agent):
    word = task.prompt[4:-1]
    first = await agent.generate(f"rev:{word[:2]}=", temperature=0)
    rest = await agent.generate(f"rev:{word[2:]}=", temperature=0)
    return rest.text + first.text
"""


def test_a_run_trains_on_the_tokens_that_were_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Random(1)
    words = {"".join(draw.choices("abcdefghij", k=4)) for _ in range(80)}
    suite, agent = tmp_path / "backwards", tmp_path / "agent"
    suite.mkdir()
    agent.mkdir()
    (suite / "tasks.jsonl").write_text(
        "".join(
            json.dumps({"id": word, "prompt": f"rev:{word}=", "answer": word[::-1]}) + "\n"
            for word in sorted(words)
        )
    )
    (agent / "solve.py").write_text(SOLVE)
    (agent / "learn.py").write_text(
        "from contract import Recipe\ndef recipe(report):\n    return Recipe(program_share=1.0, steps=4, batch=8)\n"
    )
    trained: list[tuple[str, str]] = []
    train = Engine.train

    def watched(self: Engine, examples: Sequence[Example], *rest: Any, **more: Any) -> Any:
        for each in examples:
            ends = len(each.tokens) - (each.tokens[-1] in self.eos)
            trained.append(
                (self.decode(each.tokens[: each.start]), self.decode(each.tokens[each.start : ends]))
            )
        return train(self, examples, *rest, **more)

    monkeypatch.setattr(Engine, "train", watched)
    settings = {
        "gate": {"min_n": 8, "max_n": 16, "batch": 8},
        "attempts.tasks": 24,
        "evolve": {"candidates": 1, "screen": 8},
        "learn.steps": 4,
    }
    mv.evolve("small", out=tmp_path / "run", cycles=1, suite=suite, agent=agent, settings=settings).wait()
    assert trained
    for prompt, answer in trained:
        assert prompt.startswith("rev:") and len(prompt) == 7, prompt
        assert answer == prompt[4:6][::-1]
