"""Nothing but the policy's own words is trained on, whatever a program makes of them; attempts at one task are a group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

import moevolve as mv
from moevolve.learning.trajectories import groups_of_trajectories
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import Engine
from moevolve.models.engine_policy import EnginePolicy
from moevolve.models.prompts import BarePrompts
from moevolve.protocol.requests import Exchange, GenerateRequest, Reply, Unanswered
from moevolve.rollouts.attempts import Attempt
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task, Verdict

SOLVE = """
async def solve(task, agent):
    word = task.prompt[4:-1]
    first = await agent.generate(f"rev:{word[:2]}=", temperature=1)
    if agent.rng.random() < 0.5:
        return word[::-1]                        # Its own words: right, and never the policy's.
    second = await agent.generate(f"rev:{first.text}{word[2:]}=", temperature=1, max_tokens=3)
    return f"<{second.text}>".strip("<>") if word[0] < "f" else word[::-1]
"""
RECIPE = """
from contract import Recipe
def recipe(report):
    return Recipe(program_share=1.0, steps=3, batch=12)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, draw = tmp_path_factory.mktemp("own"), Random(1)
    suite, agent = folder / "backwards", folder / "agent"
    suite.mkdir()
    agent.mkdir()
    words = sorted({"".join(draw.choices("abcdefghij", k=4)) for _ in range(80)})
    rows = [{"id": word, "prompt": f"rev:{word}=", "answer": word[::-1]} for word in words]
    (suite / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (agent / "solve.py").write_text(SOLVE)
    (agent / "learn.py").write_text(RECIPE)
    return suite, agent


@pytest.mark.parametrize("loss", ["sft", "cispo", "dr_grpo"])
def test_every_trained_token_was_drawn_by_the_policy_for_the_question_before_it(
    loss: str, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    likely: dict[tuple[int, ...], set[tuple[float, ...]]] = {}
    answer = EnginePolicy.answer

    def listening(self: EnginePolicy, requests: Sequence[GenerateRequest]) -> list[Reply]:
        replies = answer(self, requests)
        for request, reply in zip(requests, replies, strict=True):
            if isinstance(reply, Unanswered) or not isinstance(request.prompt, str):
                continue  # Of a candidate's second look, for which this model has no template.
            for each in reply:
                end = self.engine.ending if len(each.logprobs) > len(each.tokens) else []
                whole = tuple(self.prompts.ask(request.prompt)), (*each.tokens, *end)
                drawn.add(whole)
                likely.setdefault(whole[0] + whole[1], set()).add(tuple(each.logprobs))
        return replies

    rows: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def spied(method: Any) -> Any:
        def train(self: Engine, batch: Sequence[Any], *rest: Any, **more: Any) -> Any:
            for each in batch:
                rows.append((tuple(each.tokens[: each.start]), tuple(each.tokens[each.start :])))
                if hasattr(each, "logprobs"):
                    assert tuple(each.logprobs) in likely[tuple(each.tokens)]
            return method(self, batch, *rest, **more)

        return train

    monkeypatch.setattr(EnginePolicy, "answer", listening)
    monkeypatch.setattr(Engine, "train", spied(Engine.train))
    monkeypatch.setattr(Engine, "reinforce", spied(Engine.reinforce))
    suite, agent = files
    settings = {
        "gate": {"min_n": 8, "max_n": 16, "batch": 8},
        "attempts.tasks": 24,
        "evolve": {"candidates": 1, "screen": 8},
        "learn": {"steps": 3, "loss": loss},
        "guard.use": [],
    }
    mv.evolve("small", out=tmp_path / "run", cycles=1, suite=suite, agent=agent, settings=settings).wait()
    assert rows and set(rows) <= drawn


def said(prompt: str, text: str, engine: Engine, *, cut: bool = False) -> Exchange:
    tokens = tuple(engine.encode(text, whole=False))
    logprobs = tuple(-0.1 * n for n in range(1, len(tokens) + 1 + (not cut)))
    return Exchange(prompt=prompt, text=text, tokens=tokens, ended=not cut, logprobs=logprobs, cut=cut)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(seed_checkpoint(), threads=1)


def attempt(seed: int, score: float, failure: str | None = None) -> Attempt:
    verdict = Verdict(score=score, success=score == 1, failure=failure)
    return Attempt(Task(prompt=f"rev:{seed}=", skill="a/b", level=1, seed=seed), "an answer", verdict)


class TestGroups:
    def test_each_request_has_its_attempts_advantage_and_the_likelihoods_it_was_drawn_with(
        self, engine: Engine
    ) -> None:
        attempts = [attempt(1, 1.0), attempt(1, 0.0, "wrong")]
        exchanges = [
            [said("rev:1=", "ab", engine), said("add:1=", "c", engine)],
            [said("rev:1=", "d", engine)],
        ]
        [group] = groups_of_trajectories(attempts, exchanges, engine, BarePrompts(engine), Suite("own", []))
        assert [each.advantage for each in group] == [0.5, 0.5, -0.5]
        for each, exchange in zip(group, [e for of in exchanges for e in of], strict=True):
            assert each.tokens[each.start :] == [*exchange.tokens, *engine.ending]
            assert each.logprobs == list(exchange.logprobs)

    def test_attempts_at_one_task_are_a_group_and_groups_of_one_reward_say_nothing(
        self, engine: Engine
    ) -> None:
        attempts = [attempt(1, 1.0), attempt(2, 0.0), attempt(1, 1.0), attempt(2, 1.0)]
        exchanges = [[said("rev:1=", "a", engine)] for _ in attempts]
        groups = groups_of_trajectories(attempts, exchanges, engine, BarePrompts(engine), Suite("own", []))
        assert [[each.advantage for each in group] for group in groups] == [[-0.5, 0.5]]

    def test_a_request_that_was_cut_is_learnt_from_without_an_end(self, engine: Engine) -> None:
        attempts = [attempt(1, 1.0), attempt(1, 0.0, "wrong")]
        exchanges = [[said("rev:1=", "a", engine)], [said("rev:1=", "bbb", engine, cut=True)]]
        [[_, cut]] = groups_of_trajectories(
            attempts, exchanges, engine, BarePrompts(engine), Suite("own", [])
        )
        assert tuple(cut.tokens[cut.start :]) == exchanges[1][0].tokens and len(cut.logprobs) == 3

    def test_an_attempt_that_the_policy_left_unanswered_is_in_no_group(self, engine: Engine) -> None:
        attempts = [attempt(1, 1.0), attempt(1, 0.0, "policy")]
        exchanges = [[said("rev:1=", "a", engine)], [said("rev:1=", "b", engine)]]
        assert not groups_of_trajectories(attempts, exchanges, engine, BarePrompts(engine), Suite("own", []))
