"""Greedy and sampled generation: what a sample may depend on."""

from __future__ import annotations

import math

import pytest
from requests_of import request

from moevolve.errors import MoevolveError


def drawn(samples):
    """Samples as values."""
    return [(sample.tokens, sample.logprobs, sample.finish) for sample in samples]


def softmax_log(scores):
    top = max(scores)
    mass = math.log(sum(math.exp(s - top) for s in scores)) + top
    return [s - mass for s in scores]


def test_greedy_agrees_with_transformers(golden):
    prompts = golden.expected["prompts"]
    samples = golden.load().generate([request(prompt, [0], 12, 0.0) for prompt in prompts])
    assert [sample.tokens for (sample,) in samples] == golden.expected["generations"]


def test_logprobs_are_those_of_the_logits(golden):
    engine = golden.load()
    prompt = golden.expected["prompts"][0]
    (sample,) = engine.generate([request(prompt, [77], 10, 1.3, 0.9)])[0]
    ids = prompt + sample.tokens + ([engine.eos[0]] if sample.finish == "stop" else [])
    rows = engine.logits([ids]).tolist()[0]
    expected = [softmax_log(rows[len(prompt) - 1 + i])[token] for i, token in enumerate(ids[len(prompt) :])]
    assert sample.logprobs == pytest.approx(expected, abs=1e-4)


def test_a_sample_depends_on_its_key_alone(golden):
    engine = golden.load()
    first, second, third, *_ = golden.expected["prompts"]
    keys = [11, 12, 2**64 - 1]
    alone = [drawn(engine.generate([request(first, [key], 16, 1.0, 0.95)])[0])[0] for key in keys]
    crowd = engine.generate(
        [
            request(second, [5, 6], 3, 0.7),
            request(first, keys, 16, 1.0, 0.95),
            request(third, range(40), 20, 0.0),
            request(first, keys[::-1], 16, 1.0, 0.95),
        ]
    )
    assert drawn(crowd[1]) == alone
    assert drawn(crowd[3]) == alone[::-1]
    assert drawn(golden.load(2).generate([request(first, keys, 16, 1.0, 0.95)])[0]) == alone


def test_keys_draw_different_samples(goldens):
    engine = goldens["plain"].load()
    samples = engine.generate([request([5, 6], range(32), 8)])[0]
    assert len({tuple(sample.tokens) for sample in samples}) > 16


def test_samples_follow_the_distribution(goldens):
    """A chi-square of the first token over 4,000 keys, at temperature 1 and without a nucleus."""
    engine = goldens["plain"].load()
    n = 4000
    expected = [math.exp(p) for p in softmax_log(engine.logits([[5, 6, 7]]).tolist()[0][-1])]
    seen = [0] * len(expected)
    for sample in engine.generate([request([5, 6, 7], range(n), 1)])[0]:
        seen[sample.tokens[0]] += 1
    cells = [(s, n * p) for s, p in zip(seen, expected, strict=True) if n * p >= 5]
    statistic = sum((s - e) ** 2 / e for s, e in cells)
    freedom = len(cells)
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


def test_a_nucleus_keeps_the_likeliest_tokens(goldens):
    engine = goldens["plain"].load()
    order = softmax_log(engine.logits([[5, 6, 7]]).tolist()[0][-1])
    mass, nucleus = 0.0, set()
    for token in sorted(range(len(order)), key=lambda t: -order[t]):
        if mass >= 0.6:
            break
        nucleus.add(token)
        mass += math.exp(order[token])
    first = {s.tokens[0] for s in engine.generate([request([5, 6, 7], range(500), 1, 1.0, 0.6)])[0]}
    assert first <= nucleus
    assert len(first) > 1


def test_end_token_stops_and_is_left_out(goldens):
    engine = goldens["text"].load()
    prompts = goldens["text"].expected["prompts"]
    samples = engine.generate([request(prompt, range(100), 40, 1.5) for prompt in prompts])
    stopped = [s for row in samples for s in row if s.finish == "stop"]
    assert stopped
    for tokens, logprobs, finish in drawn(s for row in samples for s in row):
        assert 1 not in tokens
        assert finish in ("stop", "length")
        assert len(logprobs) == len(tokens) + (finish == "stop")
        if finish == "length":
            assert len(tokens) == 40


def test_text_in_text_out(goldens):
    engine = goldens["text"].load()
    ids = engine.encode("rev:abc=")
    assert engine.decode(ids) == "rev:abc="
    assert ids == [3 + "abcdefghijklmnopqrstuvwxyz0123456789+-*=,:. ()<>[]?!".index(c) for c in "rev:abc="]


def test_nothing_asked_nothing_given(goldens):
    engine = goldens["plain"].load()
    assert engine.generate([]) == []
    assert engine.generate([request([5], [], 4)]) == [[]]


@pytest.mark.parametrize(
    "request_",
    [
        request([], [1], 4),
        request([64], [1], 4),
        request([5], [1], 4, temperature=-1.0),
        request([5], [1], 4, top_p=0.0),
    ],
    ids=["empty prompt", "unknown token", "negative temperature", "empty nucleus"],
)
def test_an_impossible_request_is_refused(goldens, request_):
    with pytest.raises((MoevolveError, ValueError)):
        goldens["plain"].load().generate([request_])


def test_text_without_tokenizer_is_refused(goldens):
    with pytest.raises((MoevolveError, ValueError), match="tokenizer"):
        goldens["plain"].load().encode("abc")
