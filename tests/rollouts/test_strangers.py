"""The policy's words for another attempt: everybody is answered, and nobody by what was meant for him."""

from __future__ import annotations

from collections.abc import Sequence

from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest, Reply, Unanswered
from moevolve.protocol.sampling import Sampling
from moevolve.rollouts.strangers import ALONE, StrangersWords


class Echo:
    weights = "w"
    generated = 0

    def answer(self, requests: Sequence[GenerateRequest]) -> list[Reply]:
        return [[Completion(str(request.prompt), [1], [0.0], "stop")] * request.n for request in requests]


def ask(*attempts: int, n: int = 1) -> list[GenerateRequest]:
    return [
        GenerateRequest(
            attempt=attempt, prompt=f"{attempt}", sampling=Sampling(max_tokens=4), n=n, key=attempt
        )
        for attempt in attempts
    ]


def texts(replies: Sequence[Reply]) -> list[list[str]]:
    return [[] if isinstance(reply, Unanswered) else [each.text for each in reply] for reply in replies]


def test_each_attempt_hears_the_next_ones_words() -> None:
    policy = StrangersWords(Echo())
    assert texts(policy.answer(ask(0, 1, 2))) == [["1"], ["2"], ["0"]]
    assert texts(policy.answer(ask(0, 0, 2))) == [["2"], ["2"], ["0"]]
    assert texts(policy.answer(ask(2, 1, n=3))) == [["1"] * 3, ["2"] * 3]


def test_an_attempt_alone_hears_what_was_said_before() -> None:
    policy = StrangersWords(Echo())
    assert policy.answer(ask(5)) == [ALONE]
    policy.answer(ask(5, 6))
    assert texts(policy.answer(ask(5))) == [["6"]]
