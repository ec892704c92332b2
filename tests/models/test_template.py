"""Chat templates: what they render, what they may not do, and how they fail."""

from __future__ import annotations

from typing import Any

import pytest
from chat_samples import CHATML, MINIMAX, PARALLEL, WEATHER

from moevolve.errors import CheckpointError, UsageError
from moevolve.models.reply import ReplyFormat
from moevolve.models.template import ChatTemplate

USER = {"role": "user", "content": "hi"}


def render(source: str, messages: list[dict[str, Any]], tools: Any = None, **variables: Any) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}, "the model").render(messages, tools, **variables)


def test_a_conversation_ends_inside_the_models_thinking() -> None:
    assert render(MINIMAX, [{"role": "system", "content": "Be brief."}, USER]) == (
        "]~!b[]~b]system\nBe brief.[e~[\n]~b]user\nhi[e~[\n]~b]ai\n<think>\n"
    )


def test_tools_stand_in_the_system_turn() -> None:
    shown = render(MINIMAX, [USER], [WEATHER])
    assert '<tool>{"name": "weather", "parameters": {"type": "object"' in shown
    assert shown == render(MINIMAX, [USER], [WEATHER["function"]])


def test_a_turn_is_rendered_as_it_was_written_and_thoughts_before_the_last_question_are_left_out() -> None:
    reply, _ = ReplyFormat.of(MINIMAX).read(PARALLEL, "<think>\n", [WEATHER])
    answers = [{"role": "tool", "content": text} for text in ("rain", "sun")]
    shown = render(MINIMAX, [USER, reply.message(), *answers], [WEATHER], answer=False)
    assert f"]~b]ai\n<think>\n{PARALLEL.rstrip()}[e~[\n" in shown
    assert shown.endswith("]~b]tool\n<response>rain</response><response>sun</response>[e~[\n")
    later = render(MINIMAX, [USER, reply.message(), *answers, USER], [WEATHER])
    assert "The person wants two cities." not in later and "I look both up." in later


def test_arguments_may_come_as_json_and_content_in_parts() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "weather", "arguments": '{"days": 3}'}}
    shown = render(
        MINIMAX,
        [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "why"},
        ],
    )
    assert "]~b]user\nab[e~[" in shown  # This template reads parts by itself.
    assert '<parameter name="days">3</parameter>' in shown and "<think>\nwhy\n</think>" in shown


def test_settings_are_those_that_templates_are_written_for() -> None:
    assert render(CHATML, [USER]) == "<|im_start|>user\nhi\n<|im_end|>\n<|im_start|>assistant\n"
    assert render(CHATML, [USER], enable_thinking=False).endswith("<think>\n\n</think>\n\n")
    answered = [USER, {"role": "assistant", "content": "<think>x</think>yes"}]
    assert render(CHATML, answered, answer=False).endswith("<|im_start|>assistant\nyes\n<|im_end|>\n")
    assert render("{{ bos_token }}{{ {'a': '<é>'} | tojson }}", [USER]) == '<s>{"a": "<é>"}'
    assert render("{{ {'a': [1]} | tojson(indent=1) }}", [USER]) == '{\n "a": [\n  1\n ]\n}'
    assert (
        render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", [USER])
        == "01"
    )
    assert render("{{ strftime_now('%Y')|length }}{{ dict(a=1).a }}", [USER]) == "41"
    assert render("{{ '-' * 3 }}{{ 2 ** 10 }}{{ 2 * 1.5 }}{{ [1] * 2 }}", [USER]) == "---10243.0[1, 1]"
    assert render("{{ documents is none }}{{ tools is none }}", [USER]) == "TrueTrue"


PARTS = [{"type": "text", "text": "banana"}, {"type": "text", "text": "apple"}]
EACH = "{%% for m in messages %%}{%% for p in m.content %%}%s|{%% endfor %%}{%% endfor %%}"
THOUGHT = {"role": "assistant", "content": "x"}


@pytest.mark.parametrize(
    ("source", "messages", "tools", "shown"),
    [
        ("{{ messages[0].thinking }}", [{**THOUGHT, "reasoning_content": "why"}], None, "why"),
        ("{{ messages[0].reasoning_content }}", [{**THOUGHT, "reasoning": "R", "thinking": "T"}], None, "T"),
        ("{{ messages[0].thinking }}", [{**THOUGHT, "reasoning_content": "C", "thinking": "T"}], None, "T"),
        ("{{ dict.fromkeys(['a', 'b'], 1) | tojson }}", [USER], None, '{"a": 1, "b": 1}'),
        (
            "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
            [USER],
            None,
            "21",
        ),
        (
            "{% set n = namespace(x=1) %}{% for m in messages %}{% generation %}{{ loop.index }}{% set n.x = 2 %}"
            "{% endgeneration %}{% endfor %}{{ n.x }}",
            [USER],
            None,
            "12",
        ),
        (EACH % "{{ p.text | upper }}", [{"role": "user", "content": PARTS}], None, "BANANA|APPLE|"),
        (EACH % "{{ p.text[:3] }}", [{"role": "user", "content": PARTS}], None, "ban|app|"),
        (
            EACH % "{{ p.text.replace('a', 'Z')[-3:] }}",
            [{"role": "user", "content": PARTS}],
            None,
            "ZnZ|ple|",
        ),
        (EACH % "{{ p.text | length }}", [{"role": "user", "content": PARTS}], None, "6|5|"),
        (EACH % "{{ p.text | tojson }}", [{"role": "user", "content": PARTS}], None, '"banana"|"apple"|'),
        ("{{ tools is none }}{{ tools }}", [USER], [], "False[]"),
        (
            "{{ messages[0].content | length }}{{ messages[0].content }}",
            [{"role": "user", "content": []}],
            None,
            "0[]",
        ),
    ],
)
def test_it_renders_as_transformers_does(source: str, messages: Any, tools: Any, shown: str) -> None:
    assert render(source, messages, tools) == shown


def test_parts_are_read_or_not_by_each_kind_of_message() -> None:
    """However a template writes those that it reads, and whatever it does with the others."""
    source = (
        "{% for m in messages %}{% if m.role == 'tool' %}{% for p in m.content %}<{{ p.text | upper }}>{% endfor %}"
        "{% elif m.content is string %}{{ m.content }}{% endif %}{% endfor %}"
    )
    messages = [{"role": role, "content": PARTS} for role in ("user", "tool", "user", "tool")]
    assert render(source, messages) == "banana\napple<BANANA><APPLE>" * 2
    assert render("{{ messages[0].content | upper }}", messages) == "BANANA\nAPPLE"


def test_many_messages_in_parts_are_rendered_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    template = ChatTemplate("{% for m in messages %}{{ m.content + '' }}{% endfor %}", {}, "the model")

    def rendered(*given: Any) -> str:
        nonlocal asked
        asked += 1
        return ChatTemplate._rendered(template, *given)

    monkeypatch.setattr(template, "_rendered", rendered)
    messages = [{"role": f"role {number}", "content": PARTS} for number in range(300)]
    assert template.render(messages) == "banana\napple" * 300
    assert asked < 50


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{% if %}", "line 1"),
        ("a\n{{ b", "line 2"),
        ("{% for m in messages %}", "line 1"),
        ("{% nonsense %}", "nonsense"),
        ("{{ 1 | nofilter }}", "nofilter"),
    ],
)
def test_a_broken_template_is_one_error_that_names_it(source: str, complaint: str) -> None:
    with pytest.raises(CheckpointError, match="the chat template of the model is broken") as caught:
        render(source, [USER])
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses this conversation: roles must alternate"),
        ("{{ nothing.there.at_all }}", "refuses this conversation: 'nothing' is undefined"),
        ("{{ messages + 1 }}", "fails on this conversation"),
        ("{{ 1 // 0 }}", "fails on this conversation"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails on this conversation"),
        ("{{ 'x' * 10 ** 9 }}", "* makes too large a value"),
        ("{{ (10 ** 6) * [1] * 9 }}", "* makes too large a value"),
        ("{{ 9 ** 99 ** 99 }}", "** makes too large a value"),
        ("{{ range(10 ** 9) | length }}", "fails on this conversation"),
    ],
)
def test_a_conversation_that_a_template_cannot_take(source: str, complaint: str) -> None:
    with pytest.raises(UsageError, match="the chat template of the model") as caught:
        render(source, [USER])
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ strftime_now.__globals__ }}",
        "{{ dict.__globals__ }}",
        "{% set n = namespace(_x=1) %}{{ n._x }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ ('%c' * 2).format.__self__ }}",
    ],
)
def test_a_template_stays_in_its_sandbox(source: str) -> None:
    try:
        shown = render(source, [USER])
    except UsageError:
        return
    assert shown.strip() == ""


@pytest.mark.parametrize("message", [{"content": "x"}, {"role": 1, "content": "x"}, "hi", None])
def test_a_message_has_a_role(message: Any) -> None:
    with pytest.raises(UsageError, match="a message is an object with a role"):
        render(MINIMAX, [message])


@pytest.mark.parametrize("tool", [{}, {"function": {}}, {"function": "x"}, 3])
def test_a_tool_has_a_name(tool: Any) -> None:
    with pytest.raises(UsageError, match="a tool is an object with a name"):
        render(MINIMAX, [USER], [tool])
