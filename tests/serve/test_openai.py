"""The server as OpenAI's own client sees it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from chat_samples import CHATML, MINIMAX, PARALLEL, WEATHER
from msgspec.structs import astuple
from serving import Serving, scripted, sse

from moevolve.models.engine import Engine

Start = Callable[..., Serving]
USER: list[Any] = [{"role": "user", "content": "hi"}]
TOOLS: list[Any] = [{"type": "function", "function": WEATHER.get("function", WEATHER)}]


@pytest.fixture
def client_of() -> Iterator[Callable[[Serving], openai.OpenAI]]:
    made: list[openai.OpenAI] = []

    def make(server: Serving) -> openai.OpenAI:
        made.append(openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=20))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_a_chat(serving: Start, client_of: Any) -> None:
    client = client_of(serving(scripted("<think>so</think>\nhello")))
    answer = client.chat.completions.create(model="test", messages=USER, temperature=0)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "hello",
        "stop",
    )
    assert choice.message.reasoning_content == "so"
    assert answer.model == "test" and answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_what_the_whole_answer_says(serving: Start, client_of: Any, seed_model: Engine) -> None:
    client = client_of(serving(seed_model))
    asked: dict[str, Any] = dict(
        model="test",
        messages=[{"role": "user", "content": "rev:abcdef="}],
        temperature=0.8,
        seed=5,
        max_tokens=24,
    )
    whole = client.chat.completions.create(**asked)
    pieces = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].choices == [] and pieces[-1].usage == whole.usage
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert pieces[0].choices[0].delta.role == "assistant"
    assert len({piece.id for piece in pieces}) == 1


def test_a_sample_with_a_seed_is_that_of_the_engine(
    serving: Start, client_of: Any, seed_model: Engine
) -> None:
    client = client_of(serving(seed_model))
    answer = client.completions.create(
        model="test", prompt=["rev:abc=", "sort:cab="], n=4, seed=7, max_tokens=12, temperature=1.0
    )
    own = seed_model.generate(["rev:abc=", "sort:cab="], n=4, seed=7, max_tokens=12, temperature=1.0)
    assert [choice.index for choice in answer.choices] == list(range(8))
    assert [choice.text for choice in answer.choices] == [sample.text for row in own for sample in row]


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 1.3, "top_k": 4},
    {"temperature": 0.8, "top_p": 0.7, "min_p": 0.05},
    {"temperature": 1.0, "frequency_penalty": 1.5, "presence_penalty": -0.5, "repetition_penalty": 1.3},
    {"temperature": 1.0, "logit_bias": {4: 3.0, 9: -100.0}, "ignore_eos": True},
    {"temperature": 1.5, "stop": ["a", "cb"], "top_logprobs": 2},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_engine_draws_what_the_server_draws(
    serving: Start, seed_model: Engine, settings: dict[str, Any]
) -> None:
    server, prompts = serving(seed_model), ["rev:abc=", "sort:cabd="]
    own = seed_model.generate(prompts, n=3, seed=11, max_tokens=16, **settings)
    asked = {name: value for name, value in settings.items() if name != "top_logprobs"}
    if "logit_bias" in asked:
        asked["logit_bias"] = {str(token): bias for token, bias in asked["logit_bias"].items()}
    alternatives = settings.get("top_logprobs", 0)
    body = {"prompt": prompts, "n": 3, "seed": 11, "max_tokens": 16, "logprobs": alternatives, **asked}
    answer = server.post("/v1/completions", body).json()
    samples = [sample for row in own for sample in row]
    for choice, sample in zip(answer["choices"], samples, strict=True):
        assert (choice["text"], choice["finish_reason"]) == (sample.text, sample.finish)
        told = choice["logprobs"]
        # A stop text's own tokens are not told.
        texts = [seed_model.decode([token], special=True) for token in sample.tokens][: len(told["tokens"])]
        assert told["tokens"] == texts and ("stop" in settings or len(texts) == len(sample.tokens))
        assert told["token_logprobs"] == pytest.approx(sample.logprobs[: len(texts)], abs=0)
        for named, top in zip(told["top_logprobs"] or [], sample.top_logprobs, strict=False):
            assert named == {seed_model.decode([token], special=True): logprob for token, logprob in top}
    assert answer["usage"]["completion_tokens"] == sum(len(sample.tokens) for sample in samples)
    events = sse(server.post("/v1/completions", {**body, "stream": True}).text)[:-1]
    for index, sample in enumerate(samples):
        pieces = [choice for event in events for choice in event["choices"] if choice["index"] == index]
        assert "".join(piece["text"] for piece in pieces) == sample.text
        stream = seed_model.stream(
            prompts[index // 3], index=index // 3, sample=index % 3, seed=11, max_tokens=16, **settings
        )
        assert "".join(piece.text for piece in stream) == sample.text and stream.completion == sample


def test_n_chats(serving: Start, client_of: Any, seed_model: Engine) -> None:
    client = client_of(serving(seed_model))
    asked: dict[str, Any] = dict(model="test", messages=USER, n=4, seed=1, max_tokens=8)
    whole = client.chat.completions.create(**asked)
    streamed: dict[int, str] = {}
    for piece in client.chat.completions.create(**asked, stream=True):
        for choice in piece.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert [streamed[index] for index in range(4)] == [c.message.content for c in whole.choices]


@pytest.mark.parametrize("template", [MINIMAX, CHATML])
def test_tools(serving: Start, client_of: Any, template: str) -> None:
    hermes = (
        '<think>a</think>I look.<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
    )
    answer = PARALLEL if template == MINIMAX else hermes
    client = client_of(serving(scripted(answer, template)))
    asked: dict[str, Any] = dict(model="test", messages=USER, tools=TOOLS, tool_choice="auto")
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.finish_reason == "tool_calls"
    calls: dict[int, dict[str, str]] = {}
    finish = None
    for piece in client.chat.completions.create(**asked, stream=True):
        for delta in piece.choices[0].delta.tool_calls or ():
            call = calls.setdefault(delta.index, {"id": "", "name": "", "arguments": ""})
            call["id"] += delta.id or ""
            call["name"] += delta.function.name or ""
            call["arguments"] += delta.function.arguments or ""
        finish = piece.choices[0].finish_reason or finish
    assert finish == "tool_calls"
    told = [(c.function.name, json.loads(c.function.arguments)) for c in whole.message.tool_calls]
    assert [(c["name"], json.loads(c["arguments"])) for c in calls.values()] == told
    assert len({call.id for call in whole.message.tool_calls}) == len(told) > 0


def test_a_conversation_with_a_call_goes_on(serving: Start, client_of: Any) -> None:
    answer = lambda prompt: "</think>12 degrees" if "<response>12" in prompt else PARALLEL  # noqa: E731
    client = client_of(serving(scripted(answer, MINIMAX)))
    first = client.chat.completions.create(model="test", messages=USER, tools=TOOLS).choices[0].message
    told = [*USER, first, {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "12"}]
    second = client.chat.completions.create(model="test", messages=told, tools=TOOLS).choices[0].message
    assert second.content == "12 degrees"


def test_half_a_call_is_text_and_no_call(serving: Start, client_of: Any) -> None:
    client = client_of(serving(scripted('well <tool_call>{"name": "wea')))
    asked: dict[str, Any] = dict(model="test", messages=USER, tools=TOOLS)
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.message.tool_calls is None and '{"name": "wea' in whole.message.content
    pieces = [p.choices[0].delta for p in client.chat.completions.create(**asked, stream=True)]
    assert not any(delta.tool_calls for delta in pieces)
    assert "".join(delta.content or "" for delta in pieces) == whole.message.content


def test_log_probabilities_of_a_chat(serving: Start, client_of: Any, seed_model: Engine) -> None:
    client = client_of(serving(seed_model))
    asked: dict[str, Any] = dict(
        model="test", messages=USER, logprobs=True, top_logprobs=1, max_tokens=8, seed=2
    )
    whole = client.chat.completions.create(**asked).choices[0]
    tokens = whole.logprobs.content
    assert "".join(entry.token for entry in tokens) == whole.message.content
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 1 for entry in tokens)
    assert bytes(tokens[0].bytes).decode() == tokens[0].token
    streamed = [
        entry
        for piece in client.chat.completions.create(**asked, stream=True)
        if piece.choices[0].logprobs
        for entry in piece.choices[0].logprobs.content
    ]
    assert streamed == tokens


def test_log_probabilities_of_a_completion(serving: Start, client_of: Any, seed_model: Engine) -> None:
    client = client_of(serving(seed_model))
    choice = client.completions.create(model="test", prompt="rev:ab=", logprobs=1, seed=1).choices[0]
    found = choice.logprobs
    assert "".join(found.tokens) == choice.text
    assert [choice.text[at : at + 1] for at in found.text_offset] == found.tokens
    assert len(found.token_logprobs) == len(found.top_logprobs) == len(found.tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_text_before_it(serving: Start, client_of: Any, stream: bool) -> None:
    client = client_of(serving(scripted("one two END three", None)))
    asked: dict[str, Any] = dict(model="test", prompt="x", stop=["END", "never"], max_tokens=40, logprobs=0)
    answers = (
        list(client.completions.create(**asked, stream=True))
        if stream
        else [client.completions.create(**asked)]
    )
    choices = [choice for answer in answers for choice in answer.choices]
    assert "".join(choice.text for choice in choices) == "one two "
    assert "".join(token for choice in choices for token in choice.logprobs.tokens) == "one two "
    assert choices[-1].finish_reason == "stop"


def test_what_only_begins_like_a_stop_string_is_told(serving: Start, client_of: Any) -> None:
    client = client_of(serving(scripted("to the EN", None)))
    answer = client.completions.create(model="test", prompt="x", stop="END", max_tokens=40)
    assert answer.choices[0].text == "to the EN"


def test_models(serving: Start, client_of: Any) -> None:
    client = client_of(serving(scripted("x")))
    assert [model.id for model in client.models.list()] == ["test"]
    assert client.models.retrieve("test").owned_by == "moevolve"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_another_model_is_not_here(serving: Start, client_of: Any) -> None:
    client = client_of(serving(scripted("x")))
    with pytest.raises(openai.NotFoundError, match="'test' is served"):
        client.chat.completions.create(model="gpt", messages=USER)


def test_settings_reach_the_scheduler(serving: Start, client_of: Any) -> None:
    engine = scripted("x")
    client_of(serving(engine)).chat.completions.create(
        model="test",
        messages=USER,
        temperature=0.5,
        top_p=0.9,
        frequency_penalty=0.1,
        presence_penalty=-0.2,
        logit_bias={"120": -100},
        stop="q",
        max_completion_tokens=9,
        extra_body={
            "top_k": 5,
            "min_p": 0.05,
            "repetition_penalty": 1.1,
            "ignore_eos": True,
            "min_tokens": 2,
            "stop_token_ids": [65],
        },
    )
    ((_, _, sampling),) = map(astuple, engine.native.asked)  # type: ignore[attr-defined]
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 5, 0.05)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.1, -0.2)
    assert (sampling.repetition_penalty, sampling.logit_bias) == (1.1, ((120, -100.0),))
    assert (sampling.stop, sampling.max_tokens, sampling.ignore_eos) == (("q",), 9, True)
    assert (sampling.min_tokens, sampling.stop_tokens) == (2, (65,))


def test_echo_repeats_the_prompt(serving: Start, client_of: Any) -> None:
    client = client_of(serving(scripted("b", None)))
    answer = client.completions.create(model="test", prompt="a", echo=True)
    assert answer.choices[0].text == "ab"
    pieces = client.completions.create(model="test", prompt="a", echo=True, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == "ab"


def test_an_answer_ends_where_the_context_does(serving: Start, client_of: Any) -> None:
    client = client_of(serving(scripted("x" * 500, None, positions=100)))
    answer = client.completions.create(model="test", prompt="p" * 40, max_tokens=4096)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 60)
    with pytest.raises(openai.BadRequestError, match="maximum context length.* is 100") as refused:
        client.completions.create(model="test", prompt="p" * 100)
    assert refused.value.code == "context_length_exceeded"


def test_a_model_without_a_template_refuses_chats(serving: Start, client_of: Any) -> None:
    client = client_of(serving(scripted("x", None)))
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        client.chat.completions.create(model="test", messages=USER)


def test_a_developer_speaks_as_the_system(serving: Start, client_of: Any) -> None:
    engine = scripted("x")
    client = client_of(serving(engine))
    told = [{"role": "developer", "content": "be brief"}, *USER]
    client.chat.completions.create(model="test", messages=told)
    assert "system\nbe brief" in engine.native.asked[0].prompt  # type: ignore[attr-defined]
