"""What is read out of a server's answers, whatever they hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.models.endpoint.refusals import EXCERPT, FATAL
from moevolve.models.endpoint.replies import LONGEST_HOLD, asked_to_wait, read

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)
KNOWN = ["choices", "usage", "message", "content", "error", "prompt_tokens", "completion_tokens", "code"]
near_misses = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN), inner, max_size=4),
    max_leaves=12,
)


def now() -> float:
    return 1_700_000_000.0


def get(body: object, status: int = 200, api: str = "chat", **headers: str):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(status, {n.replace("_", "-"): v for n, v in headers.items()}, raw, api, now)


@given(st.binary(max_size=200), st.integers(100, 999))
def test_any_bytes_are_read_without_an_error(body: bytes, status: int) -> None:
    call = get(body, status)
    assert (call.failure is None) == bool(call.texts)
    assert len(call.detail) <= EXCERPT + 40 and call.detail.isprintable()


@given(near_misses, st.integers(100, 999), st.sampled_from(["chat", "completions"]))
def test_any_json_is_read_without_an_error(body: object, status: int, api: str) -> None:
    call = get(body, status, api)
    assert (call.failure is None) == bool(call.texts)
    if call.usage is not None:
        assert 0 <= call.usage.cached <= call.usage.prompt


@given(st.text(max_size=30))
def test_any_wish_to_wait_is_a_number_of_seconds(text: str) -> None:
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset-requests"):
        assert asked_to_wait({name: text, "x-ratelimit-remaining-requests": "0"}, now) >= 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9999999999"}, LONGEST_HOLD),
        ({"retry-after": "9" * 400}, LONGEST_HOLD),
        ({"retry-after-ms": "1" * 400}, LONGEST_HOLD / 1000),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9999999999h"}, LONGEST_HOLD),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m1s"}, 361.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}, 0.0),
        ({}, 0.0),
    ],
)
def test_servers_say_in_several_ways_how_long_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert asked_to_wait(headers, now) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("message", "said", "finish"),
    [
        ({"content": "x"}, "length", "length"),
        ({"content": "x"}, "content_filter", "content_filter"),
        ({"content": None, "refusal": "I cannot help with that."}, "stop", "refusal"),
        ({"content": "x", "refusal": "But."}, "stop", "stop"),
        ({"content": "x", "refusal": None}, "eos", "stop"),
    ],
)
def test_why_an_answer_ended_is_kept(message: dict[str, object], said: str, finish: str) -> None:
    found = get({"choices": [{"message": message, "finish_reason": said}]})
    assert [completion.finish for completion in found.completions] == [finish]


def test_an_answer_that_came_holds_nobody_up_unless_it_was_the_last() -> None:
    said = {"choices": [{"message": {"content": "x"}}]}
    assert get(said, x_ratelimit_reset_requests="9s", x_ratelimit_remaining_requests="5").hold == 0
    assert get(said, x_ratelimit_reset_requests="9s", x_ratelimit_remaining_requests="0").hold == 9


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"message": "no"}, "rejected"),
        (401, {"message": "no"}, "auth"),
        (402, {"message": "no"}, "quota"),
        (403, "no", "auth"),
        (404, {"message": "no"}, "missing"),
        (307, {}, "missing"),
        (408, {}, "timeout"),
        (422, {}, "rejected"),
        (429, {"code": "rate_limit_exceeded"}, "rate_limited"),
        (429, {"type": "insufficient_quota"}, "quota"),
        (500, "oops", "server_error"),
        (503, {}, "server_error"),
        (504, {}, "timeout"),
        (529, {}, "server_error"),
        (204, {}, "malformed"),
    ],
)
def test_every_refusal_has_its_type(status: int, error: object, kind: str) -> None:
    assert get({"error": error}, status).failure == kind


FLAGGED = {
    "message": "openai/gpt-4 requires moderation. Your input was flagged",
    "code": 403,
    "metadata": {"reasons": ["violence"], "flagged_input": "how do I kill", "provider_name": "OpenAI"},
}
MANAGED = {
    "message": "The response was filtered due to the prompt triggering our content management policy.",
    "type": None,
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
    "innererror": {"code": "ResponsibleAIPolicyViolation"},
}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, {"error": FLAGGED}),
        (200, {"error": FLAGGED}),
        (400, {"error": MANAGED}),
        (400, {"error": {"code": "content_policy_violation", "message": "no"}}),
        (400, {"error": {"code": "data_inspection_failed", "message": "Output data may be unsuitable"}}),
        (400, {"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}),
        (
            400,
            {"error": {"message": "Invalid prompt: it was flagged by our policy", "code": "invalid_prompt"}},
        ),
        (403, {"code": "no permission", "error": "Content violates usage guidelines. Failed check: BIO"}),
    ],
)
def test_a_prompt_that_a_filter_stopped_is_no_fault_of_the_key(status: int, body: object) -> None:
    call = get(body, status)
    assert call.failure == "content_filter" and call.failure not in FATAL


def test_the_words_of_a_filtered_prompt_name_no_field() -> None:
    said = {
        "message": "flagged",
        "code": "content_filter",
        "metadata": {"flagged_input": "set temperature and top_p"},
    }
    assert get({"error": said}, 400).named == ()


@pytest.mark.parametrize(
    "said",
    [
        "Your account was flagged",
        "The key may not use this model",
        "Project has no access to content of this organisation",
    ],
)
def test_a_key_that_is_not_let_in_is_no_matter_of_the_prompt(said: str) -> None:
    assert get({"error": {"message": said}}, 403).failure == "auth"


def test_a_silent_model_answered_with_nothing() -> None:
    call = get({"choices": [{"message": {"content": None, "reasoning_content": "hm"}}]})
    assert call.texts == [""] and call.failure is None


@pytest.mark.parametrize("status", [200, 400])
def test_brackets_without_end_are_malformed(status: int) -> None:
    call = get(b'{"choices":' + b"[" * 10**6, status)
    assert call.failure == ("malformed" if status == 200 else "rejected")


def test_usage_that_makes_no_sense_is_no_usage() -> None:
    said = {
        "choices": [{"message": {"content": "x"}}],
        "usage": {"prompt_tokens": -4, "completion_tokens": 1},
    }
    call = get(said)
    assert call.texts == ["x"] and call.usage is None and call.answered


PARTS = [{"type": "reasoning", "text": "r"}, {"type": "output_text", "text": "ans"}]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "<think>r</think>\n\nans"},
        {"content": "r\n</think>\n\nans"},
        {"content": "<thinking>r</thinking>ans"},
        {"content": "<seed:think>r</seed:think>ans"},
        {"content": "r</seed:think>ans"},
        {"content": "<THINK>r</THINK>\nans"},
        {"content": "r</Think>ans"},
        {"content": "<think>r</think>ans", "reasoning_content": "r"},
        {"content": [{"type": "text", "text": "<think>r</think>ans"}]},
        {"content": PARTS},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "r"}]}, "ans"]},
        {"content": {"type": "text", "text": "ans"}, "thinking": "r"},
        {"content": "ans", "reasoning": {"content": "r"}},
        {"content": "ans", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]},
        {"content": "ans", "reasoning_content": None, "reasoning": "r"},
    ],
    ids=str,
)
def test_reasoning_is_told_apart_wherever_it_stands(message: dict[str, object]) -> None:
    [one] = get({"choices": [{"message": message, "finish_reason": "stop"}]}).completions
    assert (one.text, one.reasoning, one.finish) == ("ans", "r", "stop")


@pytest.mark.parametrize("apart", [{"reasoning_content": "r"}, {"reasoning": {"text": "r"}}])
@pytest.mark.parametrize(
    "text",
    [
        "a turn ends its reasoning with </think> and goes on",
        "<think>a</think> is reasoning",
        "<think> begins it",
    ],
)
def test_a_mark_inside_an_answer_is_the_answers_where_reasoning_came_apart(
    apart: dict[str, object], text: str
) -> None:
    [one] = get({"choices": [{"message": {"content": text, **apart}, "finish_reason": "stop"}]}).completions
    assert (one.text, one.reasoning) == (text, "r")
    parts = {"content": [{"type": "thinking", "thinking": "r"}, {"type": "text", "text": text}]}
    [one] = get({"choices": [{"message": parts, "finish_reason": "stop"}]}).completions
    assert (one.text, one.reasoning) == (text, "r")


@pytest.mark.parametrize(("said", "name"), [(7, "7"), ("c7", "c7"), (None, "call_0"), ({}, "call_0")])
def test_a_call_is_one_whatever_its_id_is(said: object, name: str) -> None:
    call = {"id": said, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"content": None, "tool_calls": [call]}
    [one] = get({"choices": [{"message": message, "finish_reason": "tool_calls"}]}).completions
    assert [(made.name, made.id) for made in one.tool_calls] == [("f", name)] and one.text == ""


@pytest.mark.parametrize(
    ("message", "said", "finish"),
    [
        ({"content": "<think>without end"}, "length", "reasoning"),
        ({"content": None, "thinking": "r"}, "stop", "reasoning"),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, "stop", "refusal"),
        ({"content": ""}, "refusal", "refusal"),
        ({"content": ""}, "SAFETY", "content_filter"),
        ({"content": "x"}, "MAX_TOKENS", "length"),
        ({"content": "x"}, 3, "stop"),
    ],
)
def test_other_servers_words_for_an_end(message: dict[str, object], said: object, finish: str) -> None:
    [one] = get({"choices": [{"message": message, "finish_reason": said}]}).completions
    assert one.finish == finish


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"error": {"message": "Rate limit", "code": 429}}, "rate_limited", "Rate limit"),
        ({"error": "overloaded"}, "server_error", "overloaded"),
        ({"error": {"message": "No auth", "code": "401"}}, "auth", "No auth"),
        ({"choices": None, "error": {"message": "boom"}}, "server_error", "boom"),
        ({"message": "Too many requests", "statusCode": 429}, "rate_limited", "Too many"),
        ({"detail": "nope", "status": 422}, "rejected", "nope"),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}, "server_error", "broke off"),
        ({"choices": []}, "malformed", "no choices"),
        ({"id": "x"}, "malformed", "choices"),
    ],
)
def test_an_error_as_an_answer_keeps_its_type_and_its_words(body: object, kind: str, words: str) -> None:
    call = get(body)
    assert call.failure == kind and words in call.detail


def test_an_error_as_an_answer_names_its_field() -> None:
    assert get({"error": {"message": "unknown field `seed`", "code": 400}}).named == ("seed",)


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-16", "utf-8"])
def test_json_is_read_as_generously_as_python_reads_it(code: str) -> None:
    said = '{"choices": [{"message": {"content": "\u00e9\\ud83d"}, "logprobs": NaN}]}'
    assert get(said.encode(code)).texts == ["\u00e9\ufffd"]


def test_choices_stand_in_the_order_of_their_places() -> None:
    said = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]
    assert get({"choices": said}).texts == ["a", "b"]


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 7.0, "completion_tokens": 3.0},
        {"input_tokens": 7, "output_tokens": 3},
        {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": None},
    ],
)
def test_usage_in_other_servers_words_counts(usage: dict[str, object]) -> None:
    found = get({"choices": [{"message": {"content": "x"}}], "usage": usage}).usage
    assert found is not None and (found.prompt, found.completion) == (7, 3)


def test_the_older_form_of_a_call_is_a_call() -> None:
    message = {"content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    [one] = get({"choices": [{"message": message, "finish_reason": "function_call"}]}).completions
    assert [call.name for call in one.tool_calls] == ["f"] and one.finish == "tool_calls"
