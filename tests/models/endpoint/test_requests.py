"""Requests beyond a text, as a server gets them, and its turns as programs get them."""

from __future__ import annotations

import json

import pytest

from moevolve.config import EndpointSection
from moevolve.models.endpoint.replies import read
from moevolve.models.endpoint.speech import Speech
from moevolve.protocol.messages import Message, Tool, ToolCall
from moevolve.protocol.requests import GenerateRequest
from moevolve.protocol.sampling import Sampling

CALL = ToolCall(0, "add", {"a": 1}, "c7")
TALK = (
    Message("user", "1?"),
    Message("assistant", "", (CALL,), reasoning="a sum"),
    Message("tool", "1", tool_call_id="c7"),
)


def request(prompt="p", **changes) -> GenerateRequest:
    settings = changes.pop("sampling", {})
    return GenerateRequest(
        attempt=0, prompt=prompt, sampling=Sampling(max_tokens=512, **settings), n=1, key=1, **changes
    )


def body(asked: GenerateRequest, **section) -> dict:
    speech = Speech("m", EndpointSection(**section))
    assert speech.refusal(asked) is None
    return json.loads(json.dumps(speech.body(asked, 1, 0)))


def test_a_conversation_goes_as_it_is_with_its_tools_and_schema() -> None:
    tool = Tool("add", "Adds.", {"type": "object"})
    sent = body(request(TALK, tools=(tool,), schema={"type": "object"}))
    call = {"id": "c7", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    assert sent["messages"] == [
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_call_id": "c7"},
    ]
    assert sent["tools"] == [tool.described()]
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert sent["max_tokens"] == 512


def test_settings_are_sent_where_they_are_set() -> None:
    assert {"stop", "top_k", "presence_penalty"}.isdisjoint(body(request()))
    sent = body(
        request(sampling={"stop": ("a", "b"), "presence_penalty": 0.5, "top_k": 4}), extensions=("top_k",)
    )
    assert (sent["stop"], sent["presence_penalty"], sent["top_k"]) == (["a", "b"], 0.5, 4)


@pytest.mark.parametrize(
    ("asked", "section", "reason"),
    [
        (request(sampling={"top_k": 4}), {}, "top_k is no setting of OpenAI's interface"),
        (request(sampling={"min_p": 0.1}), {"extensions": ("top_k",)}, "endpoint.extensions"),
        (request(TALK), {"api": "completions"}, "a conversation needs endpoint.api = chat"),
        (request(tools=(Tool("add"),)), {"api": "completions"}, "tools needs"),
        (request(schema={}), {"api": "completions"}, "a schema needs"),
    ],
)
def test_what_a_server_cannot_be_told_is_refused_by_name(asked, section, reason) -> None:
    assert reason in (Speech("m", EndpointSection(**section)).refusal(asked) or "")


def test_every_part_of_a_request_names_its_exchange() -> None:
    asked = [
        request(),
        request(worded=False),
        request((Message("user", "p"),)),
        request(TALK),
        request(tools=(Tool("add"),)),
        request(schema={}),
        request(sampling={"stop": ("a",)}),
        request(sampling={"presence_penalty": 0.1}),
    ]
    names = [Speech("m", EndpointSection()).digest(one) for one in asked]
    # Without a wording a text is one message of the user.
    assert len(set(names)) == len(asked) - 2 and names[0] == names[1] == names[2]


def turn(message: dict, **choice):
    said = {
        "choices": [{"message": message} | choice] * 2,
        "usage": {"prompt_tokens": 1, "completion_tokens": 7},
    }
    return read(200, {}, json.dumps(said).encode(), "chat", lambda: 0.0).completions


def test_a_turn_has_its_calls_its_reasoning_its_end_and_its_share_of_the_tokens() -> None:
    call = {"id": "c7", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    first, second = turn(
        {"content": None, "tool_calls": [call], "reasoning_content": "a sum"}, finish_reason="tool_calls"
    )
    assert (first.text, first.tool_calls, first.finish) == ("", (CALL,), "tool_calls")
    assert (first.reasoning, first.usage, second.usage) == ("a sum", 3, 4)
    assert turn({"content": "x"}, finish_reason="length")[0].finish == "length"


@pytest.mark.parametrize(
    "arguments",
    ['{"a": ', "[1]", 5],
)
def test_a_call_that_cannot_be_read_stays_in_the_text(arguments) -> None:
    completion, _ = turn(
        {"content": "hm", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    )
    assert completion.tool_calls == ()
    assert completion.text.startswith("hm\n") and '"name":"f"' in completion.text
