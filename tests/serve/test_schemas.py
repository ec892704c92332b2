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
    whole = {"prompt": "a", "messages": [MESSAGE], **body}
    try:
        asked = decode(json.dumps(whole).encode(), kind)
    except RequestError as error:
        assert error.status == 400 and json.dumps(error.body())
        return
    try:
        sampling = asked.sampling(7, 100)
    except RequestError as error:
        assert error.param == "logit_bias"
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


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
@pytest.mark.parametrize(
    ("field", "value", "harmless"),
    [
        ("guided_json", {"type": "object"}, None),
        ("guided_regex", "[0-9]", None),
        ("structured_outputs", {"regex": "a"}, None),
        ("grammar", 'root ::= "7"', None),
        ("response_format", {"type": "json_object"}, {"type": "text"}),
        ("stop_token_ids", [1], []),
        ("min_tokens", 8, 0),
        ("bad_words", ["a"], []),
        ("use_beam_search", True, False),
        ("prompt_logprobs", 0, False),
        ("include_stop_str_in_output", True, False),
        ("repeat_penalty", 2.0, 1.0),
        ("n_predict", 1, -1),
    ],
)
def test_what_other_servers_do_and_this_one_does_not_is_refused_by_name(
    kind: Any, field: str, value: Any, harmless: Any
) -> None:
    whole = {"prompt": "a", "messages": [MESSAGE]}
    with pytest.raises(RequestError) as told:
        decode(json.dumps({**whole, field: value}).encode(), kind)
    assert (told.value.status, told.value.param) == (400, field)
    decode(json.dumps({**whole, field: harmless}).encode(), kind)


@pytest.mark.parametrize("field", ["best_of", "echo", "continue_final_message", "chat_template"])
def test_fields_of_completions_mean_nothing_in_a_chat(field: str) -> None:
    with pytest.raises(RequestError) as told:
        decode(json.dumps({"messages": [MESSAGE], field: 2}).encode(), ChatRequest)
    assert told.value.param == field
