"""Greedy and sampled generation: what a sample may depend on."""

from __future__ import annotations

import math

import pytest

from moevolve.errors import MoevolveError


def softmax_log(scores):
    top = max(scores)
    mass = math.log(sum(math.exp(s - top) for s in scores)) + top
    return [s - mass for s in scores]


def test_greedy_agrees_with_transformers(golden):
    prompts = golden.expected["prompts"]
    samples = golden.load().generate([(prompt, [0], 12, 0.0, 1.0) for prompt in prompts])
    assert [tokens for ((tokens, _, _),) in samples] == golden.expected["generations"]


def test_logprobs_are_those_of_the_logits(golden):
    engine = golden.load()
    prompt = golden.expected["prompts"][0]
    ((tokens, logprobs, finish),) = engine.generate([(prompt, [77], 10, 1.3, 0.9)])[0]
    ids = prompt + tokens + ([engine.eos[0]] if finish == "stop" else [])
    rows = engine.logits([ids]).tolist()[0]
    expected = [softmax_log(rows[len(prompt) - 1 + i])[token] for i, token in enumerate(ids[len(prompt) :])]
    assert logprobs == pytest.approx(expected, abs=1e-4)


def test_a_sample_depends_on_its_key_alone(golden):
    engine = golden.load()
    first, second, third, *_ = golden.expected["prompts"]
    keys = [11, 12, 2**64 - 1]
    alone = [engine.generate([(first, [key], 16, 1.0, 0.95)])[0][0] for key in keys]
    crowd = engine.generate(
        [
            (second, [5, 6], 3, 0.7, 1.0),
            (first, keys, 16, 1.0, 0.95),
            (third, list(range(40)), 20, 0.0, 1.0),
            (first, keys[::-1], 16, 1.0, 0.95),
        ]
    )
    assert crowd[1] == alone
    assert crowd[3] == alone[::-1]
    assert golden.load(2).generate([(first, keys, 16, 1.0, 0.95)])[0] == alone


def test_keys_draw_different_samples(goldens):
    engine = goldens["plain"].load()
    samples = engine.generate([([5, 6], list(range(32)), 8, 1.0, 1.0)])[0]
    assert len({tuple(tokens) for tokens, _, _ in samples}) > 16


def test_samples_follow_the_distribution(goldens):
    """A chi-square of the first token over 4,000 keys, at temperature 1 and without a nucleus."""
    engine = goldens["plain"].load()
    n = 4000
    expected = [math.exp(p) for p in softmax_log(engine.logits([[5, 6, 7]]).tolist()[0][-1])]
    seen = [0] * len(expected)
    for tokens, _, _ in engine.generate([([5, 6, 7], list(range(n)), 1, 1.0, 1.0)])[0]:
        seen[tokens[0]] += 1
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
    drawn = {s[0][0] for s in engine.generate([([5, 6, 7], list(range(500)), 1, 1.0, 0.6)])[0]}
    assert drawn <= nucleus
    assert len(drawn) > 1


def test_end_token_stops_and_is_left_out(goldens):
    engine = goldens["text"].load()
    prompts = goldens["text"].expected["prompts"]
    samples = engine.generate([(prompt, list(range(100)), 40, 1.5, 1.0) for prompt in prompts])
    stopped = [s for row in samples for s in row if s[2] == "stop"]
    assert stopped
    for tokens, logprobs, finish in (s for row in samples for s in row):
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
    assert engine.generate([([5], [], 4, 1.0, 1.0)]) == [[]]


@pytest.mark.parametrize(
    "request_",
    [([], [1], 4, 0.0, 1.0), ([64], [1], 4, 0.0, 1.0), ([5], [1], 4, -1.0, 1.0), ([5], [1], 4, 1.0, 0.0)],
    ids=["empty prompt", "unknown token", "negative temperature", "empty nucleus"],
)
def test_an_impossible_request_is_refused(goldens, request_):
    with pytest.raises((MoevolveError, ValueError)):
        goldens["plain"].load().generate([request_])


def test_text_without_tokenizer_is_refused(goldens):
    with pytest.raises((MoevolveError, ValueError), match="tokenizer"):
        goldens["plain"].load().encode("abc")


def test_a_stream_draws_what_generate_draws(golden):
    engine = golden.load()
    for prompt, key, heat in zip(
        golden.expected["prompts"], range(5), [0.0, 1.0, 1.3, 0.7, 1.0], strict=True
    ):
        ((tokens, logprobs, finish),) = engine.generate([(prompt, [key], 9, heat, 0.9)])[0]
        stream = engine.stream(prompt, key, 9, heat, 0.9)
        assert stream.finish is None
        drawn = list(stream)
        assert [token for token, _ in drawn] == tokens
        assert [logprob for _, logprob in drawn] == logprobs[: len(tokens)]
        assert (stream.finish, list(stream)) == (finish, [])


def test_streams_of_one_engine_do_not_disturb_each_other(goldens):
    engine = goldens["plain"].load()
    alone = [list(engine.stream([5, 6], key, 7, 1.0, 1.0)) for key in (1, 2)]
    both = [engine.stream([5, 6], key, 7, 1.0, 1.0) for key in (1, 2)]
    woven = list(zip(*both, strict=True))
    assert [list(one) for one in zip(*woven, strict=True)] == alone


def test_a_stream_refuses_what_generate_refuses(goldens):
    with pytest.raises(MoevolveError, match="at least one token"):
        goldens["plain"].load().stream([], 1, 7, 1.0, 1.0)
