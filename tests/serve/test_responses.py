"""The Responses interface, through OpenAI's client: whole, streamed, with tools, and going on from an earlier answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from chat_samples import CHATML, WEATHER
from serving import Serving, scripted

Start = Callable[..., Serving]
TOOL: Any = {"type": "function", **WEATHER["function"]}
CALL = 'I look.<tool_call>{"name": "weather", "arguments": {"days": 2}}</tool_call>'


def client(server: Serving, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=20)


def test_a_response_and_one_that_goes_on_from_it(serving: Start) -> None:
    engine = scripted("<think>so</think>\nhello")
    with client(serving(engine)) as asking:
        first = asking.responses.create(model="test", input="hi", instructions="Be brief.")
        assert (first.status, first.output_text) == ("completed", "hello")
        assert [item.type for item in first.output] == ["reasoning", "message"]
        assert first.usage is not None and first.usage.output_tokens > 0
        second = asking.responses.create(model="test", input="more", previous_response_id=first.id)
        assert second.previous_response_id == first.id
        assert asking.responses.retrieve(first.id).output_text == "hello"
    prompt = engine.native.asked[1].prompt  # type: ignore[attr-defined]
    assert "user\nhi" in prompt and "assistant\nhello" in prompt and "user\nmore" in prompt
    assert "Be brief." not in prompt


@pytest.mark.parametrize("answer", ["<think>so</think>\nhello", CALL])
def test_the_events_of_a_stream_make_up_the_response(serving: Start, answer: str) -> None:
    with client(serving(scripted(answer))) as asking:
        whole = asking.responses.create(model="test", input="hi", tools=[TOOL])
        events = list(asking.responses.create(model="test", input="hi", tools=[TOOL], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[1].type] == ["response.created", "response.in_progress"]
    last: Any = events[-1]
    assert last.type == "response.completed"
    strip = lambda item: {**item.model_dump(), "id": "", "call_id": ""}  # noqa: E731
    assert [strip(item) for item in last.response.output] == [strip(item) for item in whole.output]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    told = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    calls = [item for item in whole.output if item.type == "function_call"]
    assert told == "".join(call.arguments for call in calls)


def test_a_call_is_answered(serving: Start) -> None:
    engine = scripted(lambda prompt: "12 degrees" if "12" in prompt else CALL)
    with client(serving(engine)) as asking:
        first = asking.responses.create(model="test", input="hi", tools=[TOOL])
        call: Any = next(item for item in first.output if item.type == "function_call")
        assert json.loads(call.arguments) == {"days": 2}
        answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "12"}
        second = asking.responses.create(
            model="test", input=[answer], previous_response_id=first.id, tools=[TOOL]
        )
        told: Any = [{"role": "user", "content": "hi"}, *first.output, answer]
        by_hand = asking.responses.create(
            model="test",
            input=told,
            tools=[TOOL],
        )
    assert second.output_text == by_hand.output_text == "12 degrees"


@pytest.mark.parametrize("inside", [False, True])
def test_a_form_reaches_the_scheduler(serving: Start, inside: bool) -> None:
    """In this interface's shape, and in that of chats."""
    engine = scripted('{"a": 1}', CHATML.replace("<think>", "").replace("</think>", ""))
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    with client(serving(engine)) as asking:
        told = {"name": "r", "schema": schema, "strict": True}
        form = {"json_schema": told} if inside else told
        text: Any = {"format": {"type": "json_schema", **form}}
        asking.responses.create(model="test", input="hi", text=text)
    constraint = engine.native.asked[0].sampling.constraint  # type: ignore[attr-defined]
    assert constraint.form == "json" and '"integer"' in constraint.source


def test_an_answer_that_was_cut_is_incomplete(serving: Start) -> None:
    with client(serving(scripted("hello"))) as asking:
        cut = asking.responses.create(model="test", input="hi", max_output_tokens=2)
    assert cut.status == "incomplete" and cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
        ({"input": []}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema", "schema": 3}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "schema": {}, "json_schema": {}}}}, "text.format"),
        ({"text": {"fromat": {"type": "json_object"}}}, "text.fromat"),
        ({"reasoning": {"efort": "low"}}, "reasoning.efort"),
        ({"reasoning": {"effort": 5}}, "reasoning.effort"),
        ({"stream": True, "stream_options": {"every": 1}}, "stream_options.every"),
        ({"background": True}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"previous_response_id": "resp_x"}, "previous_response_id"),
    ],
)
def test_what_is_not_built_is_refused_by_name(serving: Start, asked: dict[str, Any], param: str) -> None:
    answer = serving(scripted("x")).post("/v1/responses", {"input": "hi", **asked})
    assert answer.status_code in (400, 404) and answer.json()["error"]["param"] == param


def test_a_response_belongs_to_the_client_that_asked(serving: Start) -> None:
    server = serving(scripted("hello"), tokens={"ann-token": "ann", "bob-token": "bob"})
    with client(server, "ann-token") as ann, client(server, "bob-token") as bob:
        told = ann.responses.create(model="test", input="hi")
        assert ann.responses.retrieve(told.id).id == told.id
        with pytest.raises(openai.NotFoundError):
            bob.responses.retrieve(told.id)
        with pytest.raises(openai.NotFoundError):
            bob.responses.create(model="test", input="hi", previous_response_id=told.id)
        kept = ann.responses.create(model="test", input="hi", store=False)
        with pytest.raises(openai.NotFoundError):
            ann.responses.retrieve(kept.id)
