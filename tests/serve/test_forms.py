"""Answers of a form, forced calls, scores of a prompt, embeddings and tokens, as clients ask for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from chat_samples import CHATML, HARMONY, LLAMA, MINIMAX, MISTRAL, WEATHER
from scripted_native import ScriptedNative
from serving import Serving, scripted, sse

from moevolve.models.engine import Engine

Start = Callable[..., Serving]
TALK = [{"role": "user", "content": "rev:abc="}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({"guided_regex": "[0-9]{3}"}, "[0-9]{3}"),
        ({"guided_choice": ["yes", "no"]}, "yes|no"),
        ({"structured_outputs": {"grammar": 'start: "a" B+\nB: /[xy]/'}}, "a[xy]{1,23}"),
        (
            {"guided_json": {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}},
            r'\{"a": [12]\}',
        ),
    ],
)
def test_a_completion_is_of_the_form_that_was_asked_for(
    serving: Start, seed_model: Engine, asked: dict[str, Any], fits: str, stream: bool
) -> None:
    if "guided_json" in asked:
        asked["guided_json"]["additionalProperties"] = False
    body = {
        "prompt": "rev:abc=",
        "max_tokens": 24,
        "n": 4,
        "seed": 3,
        "temperature": 1.5,
        "stream": stream,
        **asked,
    }
    answer = serving(seed_model).post("/v1/completions", body)
    assert answer.status_code == 200, answer.text
    texts = [""] * 4
    for event in sse(answer.text)[:-1] if stream else [answer.json()]:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
    assert all(re.fullmatch(fits, text) for text in texts), texts


def test_a_form_holds_beside_other_requests_and_whatever_is_drafted(seed_model: Engine) -> None:
    settings: dict[str, Any] = {
        "n": 6,
        "seed": 9,
        "temperature": 1.2,
        "max_tokens": 12,
        "regex": "[a-c]{2,9}0",
    }
    alone = seed_model.generate(["rev:abc="], **settings)
    beside = seed_model.generate(["rev:abc=", "srt:cab="], **settings)
    drafted = seed_model.generate(["rev:abc="], speculate=4, **settings)
    assert alone[0] == beside[0] == drafted[0]
    assert all(re.fullmatch("[a-c]{2,9}0", sample.text) or sample.finish == "length" for sample in alone[0])


def test_tokens_that_must_and_may_not_come(seed_model: Engine) -> None:
    ids = seed_model.encode("ab", whole=False)
    [samples] = seed_model.generate(
        ["rev:abc="], n=4, seed=1, temperature=2.0, max_tokens=9, allowed_tokens=[*ids, *seed_model.eos]
    )
    assert all(set(sample.text) <= {"a", "b"} for sample in samples)
    [long] = seed_model.generate(["rev:a="], n=4, seed=1, temperature=1.0, max_tokens=12, min_tokens=9)
    assert all(len(sample.tokens) >= 9 for sample in long)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"guided_regex": "(?=a)b"}, "regex"),
        ({"guided_json": {"type": "nothing"}}, "json"),
        ({"grammar": "x"}, "lark"),
    ],
)
def test_a_form_that_cannot_be_compiled_is_a_400_that_says_why(
    serving: Start, seed_model: Engine, asked: Any, param: str
) -> None:
    answer = serving(seed_model).post("/v1/completions", {"prompt": "a", **asked})
    (field,) = asked
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == field
    assert error["message"].startswith(f"{field}: {param}") and "\n" not in error["message"]


@pytest.mark.parametrize("most", [0, 1])
def test_a_prompt_is_scored_as_the_engine_scores_it(serving: Start, seed_model: Engine, most: int) -> None:
    body = {"prompt": "rev:abc=cba", "max_tokens": most, "temperature": 0, "logprobs": 2, "echo": True}
    server = serving(seed_model)
    answer = server.post("/v1/completions", body).json()
    told = answer["choices"][0]["logprobs"]
    ids = seed_model.encode("rev:abc=cba")
    own = seed_model.score(ids, top=2)
    count = len(ids)
    assert told["token_logprobs"][:count] == [None, *(logprob for logprob, _ in own)]
    assert told["top_logprobs"][0] is None and all(len(top) == 2 for top in told["top_logprobs"][1:count])
    assert len(told["tokens"]) == len(told["text_offset"]) == count + most
    assert answer["usage"]["completion_tokens"] <= most
    assert answer["choices"][0]["text"].startswith("rev:abc=cba")
    logits = memoryview(seed_model.logits([ids])).cast("B").cast("f")  # (1, time, vocabulary)
    best = max(range(seed_model.vocab_size), key=lambda token: logits[token])
    assert own[0][1][0][0] == best
    pieces = sse(server.post("/v1/completions", {**body, "stream": True}).text)[:-1]
    streamed = [
        p
        for piece in pieces
        for c in piece["choices"]
        if c["logprobs"]
        for p in c["logprobs"]["token_logprobs"]
    ]
    assert streamed == told["token_logprobs"]


def test_the_best_of_several_samples_are_the_likeliest(serving: Start, seed_model: Engine) -> None:
    body = {"prompt": "rev:abc=", "max_tokens": 8, "seed": 4, "temperature": 1.5, "logprobs": 0}
    server = serving(seed_model)
    every = server.post("/v1/completions", {**body, "n": 6}).json()
    best = server.post("/v1/completions", {**body, "n": 2, "best_of": 6}).json()
    assert [choice["index"] for choice in best["choices"]] == [0, 1]
    texts = [choice["text"] for choice in every["choices"]]
    assert all(choice["text"] in texts for choice in best["choices"])
    assert best["usage"] == every["usage"]
    assert server.post("/v1/completions", {**body, "n": 2, "best_of": 6, "stream": True}).status_code == 400


def test_embeddings_are_the_mean_of_the_last_hidden_states(serving: Start, seed_model: Engine) -> None:
    server = serving(seed_model)
    answer = server.post("/v1/embeddings", {"input": ["rev:abc=", "x"]}).json()
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert answer["data"][0]["embedding"] == pytest.approx(
        seed_model.embed(seed_model.encode("rev:abc=")), abs=1e-6
    )
    packed = server.post("/v1/embeddings", {"input": "x", "encoding_format": "base64"}).json()
    assert isinstance(packed["data"][0]["embedding"], str)
    assert server.post("/v1/embeddings", {"input": "x", "dimensions": 3}).status_code == 400
    assert server.post("/v1/embeddings", {"input": ""}).status_code == 400


def test_texts_become_tokens_and_tokens_texts(serving: Start, seed_model: Engine) -> None:
    server = serving(seed_model)
    told = server.post("/tokenize", {"prompt": "rev:abc=", "return_token_strs": True}).json()
    assert told["tokens"] == seed_model.encode("rev:abc=") and told["count"] == len(told["tokens"])
    assert "".join(told["token_strs"]) == "rev:abc="
    assert server.post("/detokenize", {"tokens": told["tokens"]}).json() == {"prompt": "rev:abc="}
    assert server.post("/detokenize", {"tokens": [10**6]}).status_code == 400
    chat = server.post("/tokenize", {"messages": TALK}).json()
    assert chat["tokens"] == seed_model.encode("rev:abc=", whole=False)


def test_metrics_are_named_as_dashboards_read_them(serving: Start) -> None:
    server = serving(scripted("x"))
    server.post("/v1/chat/completions", {"messages": TALK})
    text = server.client.get("/metrics").text
    assert 'vllm:request_success_total{finished_reason="stop",model_name="test"} 1' in text
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "generation_tokens_total",
    ):
        assert f"# TYPE vllm:{name} " in text and f'vllm:{name}{{model_name="test"}} ' in text


@pytest.mark.parametrize(
    ("template", "choice", "begins"),
    [
        (CHATML, "required", '<tool_call>\\n{\\"name\\": \\"weather\\", \\"arguments\\": '),
        (MINIMAX, {"type": "function", "function": {"name": "weather"}}, '<invoke name=\\"weather\\">'),
        ("{{ messages[-1].content }}", "required", "<tool_call>"),
        ("{{ tools }}{{ messages[-1].content }}", "required", "<tool_call>"),
        (LLAMA, "required", '"{\\"name\\": \\"weather\\", \\"parameters\\": "'),
        (MISTRAL, "required", '"[TOOL_CALLS] ["'),
        (MISTRAL + "[ARGS]", "required", '"[TOOL_CALLS]weather[ARGS]"'),
        (HARMONY, "required", '"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"'),
    ],
)
def test_a_forced_call_is_a_grammar_of_the_offered_tools(
    serving: Start, template: str, choice: Any, begins: str
) -> None:
    engine = scripted("x", template)
    body = {"messages": TALK, "tools": [WEATHER], "tool_choice": choice}
    assert serving(engine).post("/v1/chat/completions", body).status_code == 200
    constraint = engine.native.asked[0].sampling.constraint  # type: ignore[attr-defined]
    assert constraint.form == "lark" and begins in constraint.source
    assert (
        json.dumps(WEATHER["function"]["parameters"]["properties"]["tags"]) in constraint.source
        or "minimax" in template
    )


def test_only_one_call_is_told_where_one_was_wanted(serving: Start) -> None:
    call = '<tool_call>{"name": "weather", "arguments": {"days": %d}}</tool_call>'
    server = serving(
        scripted(
            "I look." + call % 1 + "\nand" + call % 2, CHATML.replace("<think>", "").replace("</think>", "")
        )
    )
    body = {"messages": TALK, "tools": [WEATHER], "parallel_tool_calls": False}
    choice = server.post("/v1/chat/completions", body).json()["choices"][0]
    assert [json.loads(c["function"]["arguments"]) for c in choice["message"]["tool_calls"]] == [{"days": 1}]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "I look.")
    events = sse(server.post("/v1/chat/completions", {**body, "stream": True}).text)[:-1]
    deltas = [c["delta"] for event in events for c in event["choices"]]
    assert [c["id"] for delta in deltas for c in delta.get("tool_calls", ()) if "id" in c] != []
    assert "".join(delta.get("content") or "" for delta in deltas) == "I look."
    assert len({c["index"] for delta in deltas for c in delta.get("tool_calls", ())}) == 1


def test_a_turn_goes_on_from_its_beginning(serving: Start) -> None:
    engine = scripted("lo", CHATML)
    told = [*TALK, {"role": "assistant", "content": "Hel"}]
    answer = (
        serving(engine)
        .post("/v1/chat/completions", {"messages": told, "continue_final_message": True})
        .json()
    )
    assert engine.native.asked[0].prompt.endswith("Hel")  # type: ignore[attr-defined]
    assert answer["choices"][0]["message"]["content"] == "lo"


def test_no_path_of_this_machine_is_told(serving: Start, seed_model: Engine) -> None:
    from moevolve.models.checkpoint import files_hash, seed_checkpoint

    assert re.fullmatch("[0-9a-f]{64}", files_hash(seed_checkpoint()))


def test_a_body_in_another_coding_is_a_415(serving: Start) -> None:
    answer = serving(scripted("x")).client.post(
        "/v1/completions",
        content=b"\x1f\x8b",
        headers={"content-type": "application/json", "content-encoding": "gzip"},
    )
    assert answer.status_code == 415 and "gzip" in answer.json()["error"]["message"]


THOUGHT = "<|channel|>analysis<|message|>User says hi.<|end|><|start|>assistant"
LOOKED_UP = '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"days": 2}<|call|>'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("template", "said", "content", "reasoning", "days"),
    [
        (HARMONY, f"{THOUGHT}<|channel|>final<|message|>Hello!", "Hello!", "User says hi.", []),
        (HARMONY, THOUGHT + LOOKED_UP, "", "User says hi.", [2]),
        (LLAMA, '{"name": "weather", "parameters": {"days": 2}}', "", "", [2]),
        (LLAMA, '<|python_tag|>{"name": "weather", "parameters": {"days": 2}}', "", "", [2]),
        (MISTRAL, '[TOOL_CALLS] [{"name": "weather", "arguments": {"days": 2}}]', "", "", [2]),
        (MISTRAL, 'So[TOOL_CALLS]weather[ARGS]{"days": 2}', "So", "", [2]),
    ],
)
def test_a_turn_is_taken_apart_as_its_family_writes_it(
    serving: Start, template: str, said: str, content: str, reasoning: str, days: list[int], stream: bool
) -> None:
    server = serving(scripted(said, template))
    body = {"messages": TALK, "tools": [WEATHER], "stream": stream}
    answer = server.post("/v1/chat/completions", body)
    key = "delta" if stream else "message"
    events = sse(answer.text)[:-1] if stream else [answer.json()]
    parts = [choice[key] for event in events for choice in event["choices"]]
    assert "".join(part.get("content") or "" for part in parts) == content
    assert "".join(part.get("reasoning_content") or "" for part in parts) == reasoning
    calls = [call for part in parts for call in part.get("tool_calls", ())]
    told = "".join(call["function"]["arguments"] for call in calls)
    assert told == "".join(json.dumps({"days": number}) for number in days)


@pytest.mark.parametrize("template", [MISTRAL, MISTRAL + "[ARGS]"])
def test_calls_go_back_to_a_template_that_is_strict_about_their_ids(serving: Start, template: str) -> None:
    server = serving(scripted('[TOOL_CALLS] [{"name": "weather", "arguments": {"days": 2}}]', template))
    body = {"messages": TALK, "tools": [WEATHER]}
    turn = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    answered = {"role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": "rain"}
    again = server.post("/v1/chat/completions", {**body, "messages": [*TALK, turn, answered]})
    assert again.status_code == 200, again.text


def test_an_answers_form_leaves_the_channels_alone(serving: Start) -> None:
    engine = scripted(f'{THOUGHT}<|channel|>final<|message|>"7"', HARMONY)
    body = {"messages": TALK, "guided_regex": '"[0-9]"'}
    answer = serving(engine).post("/v1/chat/completions", body).json()
    assert answer["choices"][0]["message"]["content"] == '"7"'
    constraint = engine.native.asked[0].sampling.constraint  # type: ignore[attr-defined]
    assert constraint.source.startswith(
        'start: ("<|channel|>analysis<|message|>" analysis "<|start|>assistant")? '
        '("<|channel|>final<|message|>" answer)\n'
    )


class Stripping(ScriptedNative):
    """A model whose tokenizer takes a blank from a text's beginning."""

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        return super().decode(ids, skip_special).removeprefix(" ")


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"stop": ["."]}, {"echo": True}])
def test_a_completion_keeps_the_blank_that_it_begins_with(serving: Start, asked: dict[str, Any]) -> None:
    server = serving(Engine(Stripping(" Paris", CHATML), "scripted"))  # type: ignore[arg-type]
    answer = server.post("/v1/completions", {"prompt": "France is", **asked})
    events = sse(answer.text)[:-1] if "stream" in asked else [answer.json()]
    text = "".join(choice["text"] for event in events for choice in event["choices"])
    assert text == ("France is Paris" if "echo" in asked else " Paris")
    turn = server.post("/v1/chat/completions", {"messages": TALK}).json()["choices"][0]
    assert turn["message"]["content"] == "Paris"
