"""Bodies as strangers send them: taken, or refused by name; nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.serve.failures import RequestError
from moevolve.serve.reading import decode
from moevolve.serve.schemas import ChatRequest, CompletionRequest

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text("ab{\u00e9", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("12a", max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = sorted({*CompletionRequest.__struct_fields__, *ChatRequest.__struct_fields__})
BODIES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8)
MESSAGE: dict[str, Any] = {"role": "user", "content": "a"}


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
@given(body=BODIES)
def test_any_json_is_taken_or_refused(kind: Any, body: dict[str, Any]) -> None:
    base = {"prompt": "a"} if kind is CompletionRequest else {"messages": [MESSAGE]}
    whole = {**base, **{name: value for name, value in body.items() if name in kind.__struct_fields__}}
    try:
        asked = decode(json.dumps(whole).encode(), kind)
    except RequestError as error:
        assert error.status == 400 and json.dumps(error.body())
        return
    try:
        sampling = asked.sampling(7, 100)
    except RequestError as error:
        assert error.param in ("logit_bias", "stop_token_ids", "allowed_token_ids")
        return
    assert sampling.max_tokens == 7 and 0 <= sampling.top_k <= 100 and 0 < sampling.top_p <= 1
    assert asked.samples < 1 << 40 and sampling.temperature >= 0


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        decode(body, ChatRequest)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("ab", ["ab"]), (["a", "b"], ["a", "b"]), ([5, 6], [[5, 6]]), ([[5], [6, 7]], [[5], [6, 7]])],
)
def test_prompts_are_texts_or_tokens_one_or_several(prompt: Any, prompts: list[Any]) -> None:
    assert decode(json.dumps({"prompt": prompt}).encode(), CompletionRequest).prompts == prompts


def test_a_seed_draws_what_it_drew_before() -> None:
    body = json.dumps({"prompt": "a", "seed": 3, "n": 2}).encode()
    first, second = (decode(body, CompletionRequest).keys(0, fallback) for fallback in (1, 2))
    assert first == second and len(set(first)) == 2
    plain = decode(b'{"prompt": "a"}', CompletionRequest)
    assert plain.keys(0, 1) != plain.keys(0, 2)


WHOLE: dict[Any, dict[str, Any]] = {CompletionRequest: {"prompt": "a"}, ChatRequest: {"messages": [MESSAGE]}}


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
@pytest.mark.parametrize(
    ("field", "value", "harmless"),
    [
        ("bad_words", ["a"], []),
        ("use_beam_search", True, False),
        ("prompt_logprobs", 0, False),
        ("include_stop_str_in_output", True, False),
        ("repeat_penalty", 2.0, 1.0),
        ("n_predict", 1, -1),
        ("suffix", "x", ""),
        ("functions", [{"name": "f"}], []),
        ("modalities", ["audio"], ["text"]),
        ("nobody_knows_this", 0, None),
    ],
)
def test_what_would_change_an_answer_and_is_not_built_is_refused_by_name(
    kind: Any, field: str, value: Any, harmless: Any
) -> None:
    with pytest.raises(RequestError) as told:
        decode(json.dumps({**WHOLE[kind], field: value}).encode(), kind)
    assert (told.value.status, told.value.param) == (400, field)
    decode(json.dumps({**WHOLE[kind], field: harmless}).encode(), kind)


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
def test_what_cannot_change_an_answer_is_left_alone_and_the_unknown_where_that_is_asked_for(
    kind: Any,
) -> None:
    harmless = {
        "store": True,
        "service_tier": "auto",
        "verbosity": "low",
        "prompt_cache_key": "k",
        "metadata": {},
    }
    decode(json.dumps({**WHOLE[kind], **harmless}).encode(), kind)
    unknown = json.dumps({**WHOLE[kind], "nobody_knows_this": {"a": 1}}).encode()
    decode(unknown, kind, ignore_unknown=True)
    with pytest.raises(RequestError, match="--ignore-unknown"):
        decode(unknown, kind)
    with pytest.raises(RequestError, match="bad_words"):
        decode(json.dumps({**WHOLE[kind], "bad_words": ["a"]}).encode(), kind, ignore_unknown=True)


@pytest.mark.parametrize("field", ["best_of", "echo", "chat_template"])
def test_fields_of_completions_mean_nothing_in_a_chat(field: str) -> None:
    with pytest.raises(RequestError) as told:
        decode(json.dumps({"messages": [MESSAGE], field: 2}).encode(), ChatRequest)
    assert told.value.param == field


SPACED = '{"x-guidance": {"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}, "type": "object"}'


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
@pytest.mark.parametrize(
    ("asked", "form", "source"),
    [
        ({"guided_json": {"type": "object"}}, "json", SPACED),
        ({"guided_json": '{"type": "object"}'}, "json", SPACED),
        ({"json_schema": {"type": "object"}}, "json", SPACED),
        ({"structured_outputs": {"json": {"type": "object"}, "regex": None}}, "json", SPACED),
        ({"response_format": {"type": "json_object"}}, "json", SPACED),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "object", "required": ["a"]}}},
            "json",
            SPACED[:-1] + ', "required": ["a"]}',
        ),
        ({"response_format": {"type": "json_object", "schema": None}}, "json", SPACED),
        (
            {"response_format": {"type": "json_schema", "name": "r", "schema": {"type": "object"}}},
            "json",
            SPACED,
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "r", "schema": {"type": "object"}},
                }
            },
            "json",
            SPACED,
        ),
        ({"guided_regex": "[0-9]{3}"}, "regex", "[0-9]{3}"),
        ({"structured_outputs": {"regex": "a"}}, "regex", "a"),
        ({"guided_choice": ["yes", 'n"o']}, "lark", 'start: "yes" | "n\\"o"\n'),
        ({"guided_grammar": 'start: "7"'}, "lark", 'start: "7"'),
        ({"response_format": {"type": "text"}}, None, None),
    ],
)
def test_a_form_is_asked_for_under_every_name(
    kind: Any, asked: Any, form: str | None, source: str | None
) -> None:
    found = decode(json.dumps({**WHOLE[kind], **asked}).encode(), kind).constraint
    assert (found and found.form, found and found.source) == (form, source)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_regex": 5}, "guided_regex"),
        ({"grammar": 'root ::= "7"'}, "grammar"),
        ({"guided_json": "{"}, "guided_json"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": 3}}, "response_format"),
        ({"response_format": {"type": "json_object", "pattern": "a"}}, "response_format.pattern"),
        ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}, "schema": {"type": "array"}}},
            "response_format.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strange": 1}}},
            "response_format.json_schema.strange",
        ),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
    ],
)
def test_a_form_that_cannot_be_is_refused_by_name(asked: Any, param: str) -> None:
    with pytest.raises(RequestError) as told:
        decode(json.dumps({"prompt": "a", **asked}).encode(), CompletionRequest)
    assert told.value.param == param


def test_tokens_that_are_none_are_refused() -> None:
    for field in ("stop_token_ids", "allowed_token_ids"):
        asked = decode(json.dumps({"prompt": "a", field: [3, 100]}).encode(), CompletionRequest)
        with pytest.raises(RequestError, match=f"{field}: 100 is no token"):
            asked.sampling(7, 100)


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "w"}}


@pytest.mark.parametrize(
    ("choice", "forced", "offered", "parallel"),
    [
        ("auto", False, ["w", "v"], True),
        ("none", False, [], True),
        ("required", True, ["w", "v"], True),
        ({"type": "function", "function": {"name": "v"}}, True, ["v"], False),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}}, False, ["w"], True),
    ],
)
def test_which_tools_may_and_must_be_called(
    choice: Any, forced: bool, offered: list[str], parallel: bool
) -> None:
    tools = [TOOL, {"type": "function", "function": {"name": "v"}}]
    body = {"messages": [MESSAGE], "tools": tools, "tool_choice": choice}
    asked = decode(json.dumps(body).encode(), ChatRequest)
    assert [tool["function"]["name"] for tool in asked.offered] == offered
    assert (asked.forced, asked.parallel) == (forced, parallel)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}},
        {"tools": [TOOL], "tool_choice": "any"},
        {"tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}},
        {"continue_final_message": True, "add_generation_prompt": True},
        {"continue_final_message": True, "messages": [{"role": "assistant", "content": ""}]},
    ],
)
def test_choices_that_cannot_be_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as told:
        decode(json.dumps({"messages": [MESSAGE], **wrong}).encode(), ChatRequest)
    assert told.value.param in ("tool_choice", "continue_final_message")


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [tool(name="")]}, "tools[0].function.name"),
        ({"tools": [tool(), tool()]}, "tools[1].function.name"),
        ({"tools": [tool(parameters=3)]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={"type": "string"})]}, "tools[0].function.parameters"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ],
)
def test_what_means_nothing_is_refused_by_the_name_that_the_client_used(
    asked: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        decode(json.dumps({"messages": [MESSAGE], **asked}).encode(), ChatRequest).sampling(7, 100)
    assert caught.value.param == param and str(caught.value).startswith(param)


@pytest.mark.parametrize("name", ["a b", "server.tool", 'a"b', "\u00e9", "x" * 200])
def test_odd_names_of_tools_are_names(name: str) -> None:
    body = {"messages": [MESSAGE], "tools": [tool(name=name, parameters={"properties": {}})]}
    assert decode(json.dumps(body).encode(), ChatRequest).offered[0]["function"]["name"] == name


def test_calls_of_functions_in_a_history_are_calls_of_tools() -> None:
    older = [
        {"role": "user", "content": "Oslo?"},
        {"role": "assistant", "content": None, "function_call": {"name": "w", "arguments": '{"a": 1}'}},
        {"role": "function", "name": "w", "content": "rain"},
        {"role": "assistant", "content": "Rain.", "function_call": None},
    ]
    asked = decode(json.dumps({"messages": older}).encode(), ChatRequest)
    _, made, answered, plain = asked.conversation
    [call] = made["tool_calls"]
    assert call["function"] == {"name": "w", "arguments": '{"a": 1}'} and "function_call" not in made
    assert (answered["role"], answered["tool_call_id"], answered["content"]) == ("tool", call["id"], "rain")
    assert plain == {"role": "assistant", "content": "Rain."}


CALL = {"name": "w", "arguments": "{}"}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant", "function_call": "w"}, "function_call"),
        ({"role": "assistant", "function_call": {"arguments": "{}"}}, "function_call"),
        ({"role": "assistant", "function_call": {"name": "w", "arguments": [1]}}, "function_call.arguments"),
        ({"role": "user", "content": "x", "function_call": CALL}, "function_call"),
        ({"role": "assistant", "function_call": CALL, "tool_calls": [{"function": CALL}]}, "function_call"),
        ({"role": "function", "content": "rain"}, "name"),
    ],
)
def test_a_call_of_a_function_that_is_none_is_refused_by_name(message: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as told:
        decode(json.dumps({"messages": [MESSAGE, message]}).encode(), ChatRequest)
    assert (told.value.status, told.value.param) == (400, f"messages[1].{param}")
