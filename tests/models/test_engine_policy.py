"""The engine as a policy: texts, conversations and tools in one batch, and what it cannot do refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from chat_samples import MINIMAX, PARALLEL, WEATHER
from scripted_native import ScriptedNative

from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import Engine
from moevolve.models.engine_policy import EnginePolicy
from moevolve.models.prompts import ChatPrompts
from moevolve.protocol.completion import Completion
from moevolve.protocol.messages import Message, Tool
from moevolve.protocol.requests import GenerateRequest, Reply, Unanswered
from moevolve.protocol.sampling import Sampling

FORECAST = Tool("weather", parameters=WEATHER["function"]["parameters"])


class Upper:
    """A wording in capitals."""

    def messages(self, prompt: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": prompt.upper()}]

    def said(self, answer: str) -> str:
        return answer

    def read(self, reply: str) -> str:
        return reply.lower()


def request(prompt: Any = "rev:abc=", n: int = 1, **changes: Any) -> GenerateRequest:
    settings = {"max_tokens": 16, "temperature": 0.0} | changes.pop("sampling", {})
    return GenerateRequest(attempt=0, prompt=prompt, sampling=Sampling(**settings), n=n, key=1, **changes)


def scripted(answer: Any) -> tuple[EnginePolicy, ScriptedNative]:
    native = ScriptedNative(answer, MINIMAX)
    engine = Engine(native, "the model")  # type: ignore[arg-type]
    return EnginePolicy(engine, "w", ChatPrompts(engine, Upper())), native


@pytest.fixture(scope="module")
def seed() -> EnginePolicy:
    return EnginePolicy(Engine.load(seed_checkpoint(), threads=1), "w")


def texts(reply: list[Completion] | Unanswered) -> list[str]:
    assert isinstance(reply, list), reply
    return [completion.text for completion in reply]


def single(replies: Sequence[Reply]) -> Completion:
    """The one completion of the one reply."""
    [reply] = replies
    assert isinstance(reply, list), reply
    [completion] = reply
    return completion


def test_a_turn_is_read_into_calls_reasoning_and_text() -> None:
    policy, native = scripted(PARALLEL)
    talk = (Message("system", "Brief."), Message("user", "Weather?"))
    turn = single(policy.answer([request(talk, tools=(FORECAST,), sampling={"max_tokens": 1000})]))
    assert (turn.text, turn.reasoning) == ("I look both up.", "The person wants two cities.")
    assert (turn.finish, [call.name for call in turn.tool_calls]) == ("tool_calls", ["weather"] * 2)
    assert "Brief." in native.asked[0].prompt and "<tools>" in native.asked[0].prompt
    assert policy.generated == turn.count == len(turn.logprobs)


def test_a_torn_call_stays_in_the_text() -> None:
    policy, _ = scripted("</think>so<minimax:tool_call><invoke name=")
    turn = single(
        policy.answer([request((Message("user", "?"),), tools=(FORECAST,), sampling={"max_tokens": 99})])
    )
    assert turn.tool_calls == () and turn.text.startswith("so<minimax:tool_call>")


def test_a_role_may_ask_a_chat_model_without_the_wording() -> None:
    policy, native = scripted(lambda prompt: "</think>ABC" if "write this" in prompt else "ABC")
    worded, unworded = policy.answer([request("write"), request("write this", worded=False)])
    assert (texts(worded)[0][-3:], texts(unworded)) == ("abc", ["ABC"])
    assert "WRITE" in native.asked[0].prompt and "write this" in native.asked[1].prompt


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request((Message("user", "?"),)), "has no chat template"),
        (request(tools=(FORECAST,)), "has no chat template"),
        (request(schema={"type": "nothing"}), "json: "),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name_beside_what_it_can(seed, asked, reason) -> None:
    before, refused, after = seed.answer([request(), asked, request("srt:cab=")])
    assert isinstance(refused, Unanswered)
    assert refused.failure == "rejected" and reason in refused.detail
    assert (texts(before), texts(after)) == (["cba"], ["abc"])


def test_every_setting_is_in_force(seed) -> None:
    whole, stopped, longer = seed.answer(
        [
            request("rev:abcdef="),
            request("rev:abcdef=", sampling={"stop": ("c",)}),
            request("rev:abc=", sampling={"max_tokens": 200, "ignore_eos": True}),
        ]
    )
    assert (texts(whole), texts(stopped)) == (["fedcba"], ["fed"])
    assert isinstance(stopped, list) and stopped[0].finish == "stop"
    assert isinstance(longer, list) and (longer[0].count, longer[0].finish) == (200, "length")
    hot = {"temperature": 4.0, "max_tokens": 16}
    free, one = seed.answer([request(n=4, sampling=hot), request(n=4, sampling=hot | {"top_k": 1})])
    assert len(set(texts(free))) > 1 and set(texts(one)) == {"cba"}


def test_what_the_engine_refuses_is_rejected_alone() -> None:
    policy = EnginePolicy(Engine.load(seed_checkpoint(), threads=1), "seed")
    odd = {"max_tokens": 8, "top_p": 5e-324}
    prompts = ["rev:abc=", "", "srt:cab=", "a" * 2000, "rev:ab=", "rev:ba="]
    batch = [
        request(prompt, sampling=odd if index == 4 else {"max_tokens": 8})
        for index, prompt in enumerate(prompts)
    ]
    replies = policy.answer(batch)
    refused = [index for index, reply in enumerate(replies) if isinstance(reply, Unanswered)]
    assert {1, 3} <= set(refused) <= {1, 3, 4}
    assert all(reply.failure == "rejected" for reply in replies if isinstance(reply, Unanswered))
    alone = policy.answer([batch[0]]) + policy.answer([batch[2]]) + policy.answer([batch[5]])
    assert [replies[0], replies[2], replies[5]] == alone
