"""Turns of a model, taken apart: whole, in pieces, torn, and very long."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from chat_samples import CHATML, MINIMAX, PARALLEL, WEATHER
from hypothesis import given, settings
from hypothesis import strategies as st

from moevolve.models.reply import ReplyFormat
from moevolve.models.scan import Scan
from moevolve.models.turns import (
    ContentDelta,
    Event,
    ReasoningDelta,
    Reply,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallFailed,
    ToolCallStart,
)

M2 = ReplyFormat.of(MINIMAX)
QWEN = ReplyFormat.of(CHATML)
THINKING = "]~b]ai\n<think>\n"


def read(
    text: str, form: ReplyFormat = M2, prompt: str = "", tools: Sequence[Any] | None = (WEATHER,)
) -> Reply:
    return form.read(text, prompt, tools)[0]


def invoke(body: str) -> str:
    return f'<minimax:tool_call>\n<invoke name="weather">\n{body}\n</invoke>\n</minimax:tool_call>'


def parameter(name: str, value: str) -> str:
    return f'<parameter name="{name}">{value}</parameter>'


def test_the_format_is_told_by_the_template() -> None:
    assert (M2.think, M2.calls) == (True, "minimax")
    assert (QWEN.think, QWEN.calls) == (True, "hermes")
    assert ReplyFormat.of("{{ messages[0].content }}") == ReplyFormat(think=False, calls=None)


def test_reasoning_content_and_parallel_calls() -> None:
    reply = read(PARALLEL, prompt=THINKING)
    assert reply.reasoning == "The person wants two cities."
    assert reply.content == "I look both up."
    first, second = reply.tool_calls
    assert (first.index, first.name, second.index) == (0, "weather", 1)
    assert first.arguments == {
        "city": 'São "Paulo"',
        "days": 3,
        "exact": True,
        "limit": None,
        "tags": ["rain", "wind"],
        "place": {"x": 1.5},
    }
    assert second.arguments == {"city": '\nif a < b and b > c: print("</invoke>")\n', "note": 7}
    assert reply.malformed == ()


def test_a_turn_goes_back_as_a_message() -> None:
    message = read(PARALLEL, prompt=THINKING).message()
    assert message["role"] == "assistant" and message["reasoning_content"] == "The person wants two cities."
    assert [call["id"] for call in message["tool_calls"]] == ["call_0", "call_1"]
    assert message["tool_calls"][0]["function"]["arguments"]["days"] == 3


def test_text_stands_between_calls_and_behind_them() -> None:
    reply = read(f"one\n{invoke(parameter('days', '1'))}\ntwo\n{invoke(parameter('days', '2'))}\n\nthree\n")
    assert reply.content == "one\n\ntwo\n\n\nthree\n"
    assert [call.arguments["days"] for call in reply.tool_calls] == [1, 2]


def test_a_model_may_think_again_behind_calls_but_may_also_write_about_thinking() -> None:
    reply = read(f"<think>a</think>{invoke('')}<think>b</think>The tag <think> opens it, </think> closes it.")
    assert reply.reasoning == "a\nb"
    assert reply.content == "The tag <think> opens it, </think> closes it."
    assert [call.arguments for call in reply.tool_calls] == [{}]


def test_thinking_that_the_prompt_has_closed_is_none() -> None:
    assert read("Paris.", QWEN, "<think>\n\n</think>\n\n") == Reply(content="Paris.")
    assert read("still thinking", QWEN, "<think>\n") == Reply(reasoning="still thinking")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("city", "3", "3"),
        ("city", " spaced \n", " spaced \n"),
        ("city", "null", "null"),
        ("city", '"quoted"', '"quoted"'),
        ("undeclared", "[1, 2]", "[1, 2]"),
        ("days", " -12 ", -12),
        ("days", "4.0", 4),
        ("exact", "False", False),
        ("limit", "1e3", 1000.0),
        ("limit", "5", 5),
        ("note", "x", "x"),
        ("note", '"7"', '"7"'),
        ("tags", '\n["a"]\n', ["a"]),
        ("place", '{"x": 1, "y": {"z": null}}', {"x": 1, "y": {"z": None}}),
    ],
)
def test_values_are_read_by_their_declared_type(name: str, text: str, value: object) -> None:
    (call,) = read(invoke(parameter(name, text))).tool_calls
    assert call.arguments == {name: value} and type(call.arguments[name]) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (invoke(parameter("days", "three")), "parameter 'days' should be integer, not 'three'"),
        (invoke(parameter("days", "3.5")), "parameter 'days' should be integer"),
        (invoke(parameter("days", "true")), "parameter 'days' should be integer"),
        (invoke(parameter("limit", "NaN")), "parameter 'limit' should be null or number"),
        (invoke(parameter("tags", "[" * 100_000)), "parameter 'tags' should be array"),
        (invoke(parameter("tags", "[" * 65 + "]" * 65)), "parameter 'tags' should be array"),
        (invoke(parameter("tags", '["\\ud800"]')), "parameter 'tags' should be array"),
        (invoke(parameter("days", "1" * 5000)), "parameter 'days' should be integer"),
        (invoke(parameter("days", "1") + parameter("days", "2")), "parameter 'days' is given twice"),
        (invoke("city: Paris"), "between its parameters stands 'city: Paris'"),
        (invoke("<parameter>x</parameter>"), "a parameter has no name"),
        ('<minimax:tool_call><invoke name="weather"></minimax:tool_call>', "the invoke is not closed"),
        ("<minimax:tool_call><invoke>x</invoke></minimax:tool_call>", "the invoke names no tool"),
        ("<minimax:tool_call><invoke <x></invoke></minimax:tool_call>", "the invoke names no tool"),
        ("<minimax:tool_call>\n</minimax:tool_call>", "the tool-call block holds no call"),
        (
            "<minimax:tool_call>weather()</minimax:tool_call>",
            "it stands in the tool-call block and is no call",
        ),
        ("<minimax:tool_call>\n", "the text ends inside the call"),
        ("<minimax:tool_call><invoke name=", "the text ends inside the call"),
        ('<minimax:tool_call><invoke name="weather"><parameter name="city">Par', "the text ends inside"),
        (invoke(parameter("days", "1"))[:-40], "the text ends inside the call"),
    ],
)
def test_what_is_no_call_is_reported_with_its_text(text: str, reason: str) -> None:
    reply = read(f"so: {text}")
    (failed,) = reply.malformed
    assert failed.reason.startswith(reason) and failed.text in text
    assert reply.tool_calls == () and reply.content == reply.message()["content"] == f"so: {text}"


def test_a_call_that_is_not_closed_takes_no_other_along() -> None:
    torn = '<minimax:tool_call><invoke name="a"><invoke name="b"></invoke></minimax:tool_call>ok'
    reply = read(torn, tools=None)
    assert [(c.index, c.name) for c in reply.malformed] == [(0, "a")]
    assert [(c.index, c.name) for c in reply.tool_calls] == [(1, "b")]
    assert reply.content == '<minimax:tool_call><invoke name="a">ok'


def test_calls_are_complete_where_only_the_blocks_end_is_missing() -> None:
    reply = read(invoke(parameter("days", "1")).removesuffix("</minimax:tool_call>"))
    assert len(reply.tool_calls) == 1 and reply.malformed == ()


def test_json_calls() -> None:
    text = (
        "<think>\nhm\n</think>\n\nLook:\n<tool_call>\n"
        '{"name": "weather", "arguments": {"city": "x", "days": 2}}\n</tool_call>\n<tool_call>\n'
        '{"name": "weather", "arguments": "{\\"days\\": 3}"}\n</tool_call>'
    )
    reply = read(text, QWEN)
    assert (reply.reasoning, reply.content) == ("hm", "Look:")
    assert [call.arguments for call in reply.tool_calls] == [{"city": "x", "days": 2}, {"days": 3}]


@pytest.mark.parametrize(
    ("text", "calls", "failures"),
    [
        ('<tool_call>{"name": "a"}', ["a"], []),
        ('<tool_call>{"name": "a", "arguments": {"x": ', [], ["the text ends inside the call"]),
        (
            '<tool_call>{"name": "\\ud800"}</tool_call>',
            [],
            ["it is not a JSON object with a name and arguments"],
        ),
        ("<tool_call>a()</tool_call>", [], ["it is not a JSON object with a name and arguments"]),
        (
            '<tool_call>{"name": "a", "arguments": [1]}</tool_call>',
            [],
            ["it is not a JSON object with a name and arguments"],
        ),
        (
            '<tool_call>{"nam<tool_call>{"name": "b"}</tool_call>',
            ["b"],
            ["it is not a JSON object with a name and arguments"],
        ),
        ('<tool_call>{"name": "a"}\n<tool_call>{"name": "b"}</tool_call>', ["a", "b"], []),
    ],
)
def test_torn_json_calls(text: str, calls: list[str], failures: list[str]) -> None:
    reply = read(text, QWEN, tools=None)
    assert [call.name for call in reply.tool_calls] == calls
    assert [failed.reason for failed in reply.malformed] == failures
    assert all(failed.text in text for failed in reply.malformed)


@pytest.mark.parametrize(
    "text",
    [
        "Use <tool_call> to call.",
        "<tool_call>\n{'name': 'weather'}\n</tool_call>\nSorry.",
        "\n one \n\n<tool_call>no</tool_call>\t\n two <tool_call>\n",
        '<tool_call>{"name": "wea\'</tool_call> and "so</tool_call> on',
        '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>\n\n',
    ],
)
def test_what_is_no_call_stays_as_it_was_written(text: str) -> None:
    reply = read(text, QWEN)
    assert (reply.content, reply.tool_calls) == (text, ()) and reply.malformed


def test_an_end_mark_inside_an_argument_ends_nothing() -> None:
    arguments = {"city": 'a </tool_call> "b" \\ <tool_call>', "days": 2}
    call = json.dumps({"name": "weather", "arguments": arguments})
    reply = read(f" so:\n<tool_call>\n{call}\n</tool_call> and\n", QWEN)
    assert [found.arguments for found in reply.tool_calls] == [arguments]
    assert (reply.content, reply.malformed) == (" so:\n and\n", ())


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("nobody", {}, "no tool 'nobody' was offered"),
        ("weather", {"days": "five"}, "its arguments: days should be integer, not 'five'"),
        ("weather", {"tags": ["a", 1]}, "its arguments: tags[1] should be string, not 1"),
    ],
)
def test_a_call_that_its_tool_does_not_allow_is_a_finding(name: str, arguments: Any, reason: str) -> None:
    hermes = f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"
    reply = read(hermes, QWEN)
    assert (reply.tool_calls, reply.content) == ((), hermes)
    assert [(failed.reason, failed.name) for failed in reply.malformed] == [(reason, name)]


def test_nothing_is_a_call_where_nothing_was_offered() -> None:
    text = '<tool_call>{"name": "weather"}</tool_call>'
    assert read(text, QWEN, tools=()).tool_calls == () and read(text, QWEN, tools=()).content == text
    assert read(text, QWEN, tools=None).tool_calls


# --- pieces

FRAGMENTS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<minimax:tool_call>",
        "</minimax:tool_call>",
        '<invoke name="weather">',
        '<invoke name="other">',
        "<invoke",
        "</invoke>",
        '<parameter name="city">',
        '<parameter name="days">',
        "<parameter>",
        "</parameter>",
        "<tool_call>",
        "</tool_call>",
        '{"name": "weather", "arguments": {"days": 1}}',
        '{"name": "weather", "parameters": {"days": 1}}',
        *("<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "weather", "{", "}]", "; "),
        *("<|start|>assistant", "<|channel|>final", "<|channel|>analysis", " to=functions.weather"),
        *("<|message|>", "<|end|>", "<|call|>"),
        "12",
        "\n",
        "\n\n",
        " ",
        "<",
        ">",
        "</",
        "text",
        "ü€🙂",
        '"',
    ]
)
TEXTS = st.lists(FRAGMENTS, max_size=30).map("".join) | st.just(PARALLEL)
FORMS = st.sampled_from(
    [
        M2,
        QWEN,
        ReplyFormat(think=True),
        ReplyFormat(),
        ReplyFormat(calls="llama"),
        ReplyFormat(calls="mistral"),
        ReplyFormat(harmony=True, calls="harmony"),
    ]
)
PROMPTS = st.sampled_from(["", THINKING])


def cut(text: str, places: list[int]) -> Iterator[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    yield from (text[start:end] for start, end in zip(edges, edges[1:], strict=False))


def merged(events: list[Event]) -> list[tuple[str, Any]]:
    """Neighbouring deltas joined."""
    rows: list[tuple[str, Any]] = []
    for event in events:
        kind = type(event).__name__
        if isinstance(event, ReasoningDelta | ContentDelta):
            before = rows.pop()[1] if rows and rows[-1][0] == kind else ""
            rows.append((kind, before + event.text))
        elif isinstance(event, ToolCallArguments):
            kind = f"{kind} {event.index}"
            before = rows.pop()[1] if rows and rows[-1][0] == kind else ""
            rows.append((kind, before + event.json))
        else:
            rows.append((kind, event))
    return rows


@settings(max_examples=400)
@given(text=TEXTS, form=FORMS, prompt=PROMPTS, places=st.lists(st.integers(0, 2000), max_size=40))
def test_pieces_read_as_the_whole(text: str, form: ReplyFormat, prompt: str, places: list[int]) -> None:
    whole, events = form.read(text, prompt, [WEATHER])
    for pieces in (list(cut(text, places)), list(text)):
        parser = form.parser(prompt, [WEATHER])
        told = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
        assert parser.reply() == whole
        assert merged(told) == merged(events)


@settings(max_examples=400)
@given(text=TEXTS, form=FORMS, prompt=PROMPTS)
def test_events_are_the_whole_reply(text: str, form: ReplyFormat, prompt: str) -> None:
    reply, events = form.read(text, prompt, [WEATHER])
    assert "".join(e.text for e in events if isinstance(e, ContentDelta)) == reply.content
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == reply.reasoning
    assert [e.call for e in events if isinstance(e, ToolCallEnd)] == list(reply.tool_calls)
    assert [e.call for e in events if isinstance(e, ToolCallFailed)] == list(reply.malformed)
    indices = [call.index for call in reply.tool_calls] + [call.index for call in reply.malformed]
    assert sorted(indices) == list(range(len(indices)))
    for call in reply.tool_calls:
        told = "".join(e.json for e in events if isinstance(e, ToolCallArguments) and e.index == call.index)
        assert json.loads(told) == call.arguments
        assert [e.name for e in events if isinstance(e, ToolCallStart) and e.index == call.index] == [
            call.name
        ]


@settings(max_examples=200)
@given(
    values=st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"])).filter(lambda t: "</parameter>" not in t),
        max_size=4,
    )
)
def test_a_string_comes_back_as_it_was_written(values: dict[str, str]) -> None:
    (call,) = read(invoke("\n".join(parameter(name, value) for name, value in values.items()))).tool_calls
    assert call.arguments == values


class Counting(Scan):
    """Counts the characters that are carried over from piece to piece."""

    carried = 0

    def push(self, piece: str) -> None:
        type(self).carried += len(self._text) - self._at
        super().push(piece)


@pytest.mark.parametrize(
    "text",
    [
        "<" * 20_000,
        "\n" * 20_000,
        "<think>" + "</thin" * 4000,
        "<minimax:tool_call>" + "<invoke " * 3000,
        '<minimax:tool_call><invoke name="a"><parameter name="b">' + "</paramete" * 3000,
        '<minimax:tool_call><invoke name="' + "a" * 20_000,
        invoke(parameter("tags", json.dumps(["x"] * 5000))),
    ],
    ids=lambda text: text[:30],
)
def test_no_more_than_a_mark_is_held_back(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moevolve.models.turnparser.Scan", Counting)
    Counting.carried = 0
    parser = M2.parser()
    for character in text:
        parser.feed(character)
    parser.finish()
    assert Counting.carried <= 20 * len(text)
