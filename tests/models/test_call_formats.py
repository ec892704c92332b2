"""Turns of Llama 3, Mistral and gpt-oss, taken apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_samples import HARMONY, LLAMA, MISTRAL, WEATHER
from scripted_native import ScriptedNative

from moevolve.models.chat import conversation
from moevolve.models.constraints import regex, turn
from moevolve.models.engine import Engine
from moevolve.models.reply import ReplyFormat
from moevolve.protocol.sampling import Sampling

GPT_OSS, LLAMA_3, MISTRAL_3 = (ReplyFormat.of(template) for template in (HARMONY, LLAMA, MISTRAL))
BEGUN = "<|start|>user<|message|>hi<|end|><|start|>assistant"
USER = {"role": "user", "content": "hi"}


def days(*numbers: int) -> list[dict[str, Any]]:
    return [{"days": number} for number in numbers]


def call(number: int, key: str = "parameters") -> str:
    return json.dumps({"name": "weather", key: {"days": number}})


def test_the_format_is_told_by_the_template() -> None:
    assert (GPT_OSS.harmony, LLAMA_3.calls, MISTRAL_3.calls) == (True, "llama", "mistral")
    assert ReplyFormat.of("{{ '<|python_tag|>' }}").calls == "llama"
    assert ReplyFormat.of("[TOOL_CALLS]{{ name }}[CALL_ID]{{ id }}[ARGS]").named == "[CALL_ID][ARGS]"


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (call(1), "", days(1)),
        (f"\n{call(1)}\n", "", days(1)),
        (f"<|python_tag|>{call(1)}; {call(2)}", "", days(1, 2)),
        (f'{{"type": "function", {call(1)[1:]}', "", days(1)),
        (f"{call(1)} It rains.", " It rains.", days(1)),
        ('{"city": "Oslo"}', '{"city": "Oslo"}', []),
        ('{"name": "Ann"}', '{"name": "Ann"}', []),
        (f"As in {call(1)}", f"As in {call(1)}", []),
        ("<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
        (call(1)[:-4], call(1)[:-4], []),
        (
            '{"name": "weather", "parameters": {"days": "{"}}',
            '{"name": "weather", "parameters": {"days": "{"}}',
            [],
        ),
    ],
)
def test_calls_of_llama(text: str, content: str, calls: list[Any]) -> None:
    reply, _ = LLAMA_3.read(text, "", [WEATHER])
    assert (reply.content, [one.arguments for one in reply.tool_calls]) == (content, calls)


def test_an_object_is_an_answer_where_llama_was_offered_no_tool() -> None:
    assert LLAMA_3.read(call(1))[0].content == call(1)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"[TOOL_CALLS] [{call(1, 'arguments')}, {call(2, 'arguments')}]", "", days(1, 2)),
        (f"So:[TOOL_CALLS]{call(1, 'arguments')}", "So:", days(1)),
        ('[TOOL_CALLS]weather[ARGS]{"days": 1}[TOOL_CALLS]weather{"days": 2}', "", days(1, 2)),
        ('[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{"days": 1} so', " so", days(1)),
        ("[TOOL_CALLS] []", "[TOOL_CALLS] []", []),
        ("[TOOL_CALLS]weather", "[TOOL_CALLS]weather", []),
        ('[TOOL_CALLS]weather[ARGS]{"days"', '[TOOL_CALLS]weather[ARGS]{"days"', []),
        ("[TOOL_CALLS]weather[ARGS]now", "[TOOL_CALLS]weather[ARGS]now", []),
        ('[TOOL_CALLS] [{"name": "nope"}]', '[TOOL_CALLS] [{"name": "nope"}]', []),
    ],
)
def test_calls_of_mistral(text: str, content: str, calls: list[Any]) -> None:
    reply, _ = MISTRAL_3.read(text, "", [WEATHER])
    assert (reply.content, [one.arguments for one in reply.tool_calls]) == (content, calls)
    assert all(len(one.id) == 9 and one.id.isalnum() for one in reply.tool_calls)


FINAL, THOUGHT = "<|channel|>final<|message|>", "<|channel|>analysis<|message|>"
NEXT = "<|end|><|start|>assistant"
CALL = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"


@pytest.mark.parametrize(
    ("text", "reasoning", "content", "calls"),
    [
        (f"{THOUGHT}User says hi.{NEXT}{FINAL}Hello!", "User says hi.", "Hello!", []),
        (f"{FINAL}Hello!<|return|>", "", "Hello!", []),
        (f"{THOUGHT}a{NEXT}{THOUGHT}b{NEXT}{FINAL}c", "a\nb", "c", []),
        (f'{THOUGHT}a{NEXT}{CALL}{{"days": 1}}<|call|>', "a", "", days(1)),
        (' to=functions.weather<|channel|>commentary json<|message|>{"days": 1}', "", "", days(1)),
        (f'<|channel|>commentary<|message|>I look.{NEXT}{CALL}{{"days": 1}}', "", "I look.", days(1)),
        (f"{CALL}<|call|>", "", "", [{}]),
        (f"{THOUGHT}cut off", "cut off", "", []),
        (f"{THOUGHT}a{NEXT}<|channel|>fi", "a", "", []),
        ("no channel at all", "", "no channel at all", []),
        (f"{THOUGHT}a<|channel|>final<|message|>b", "a", "b", []),
    ],
)
def test_channels_of_gpt_oss(text: str, reasoning: str, content: str, calls: list[Any]) -> None:
    reply, _ = GPT_OSS.read(text, BEGUN, [WEATHER])
    assert (reply.reasoning, reply.content) == (reasoning, content)
    assert [one.arguments for one in reply.tool_calls] == calls and reply.malformed == ()


def test_a_call_of_gpt_oss_that_is_none_is_a_finding() -> None:
    for text, reason in (
        (f"{CALL}{{", "the text ends inside the call"),
        (f"{CALL}3<|call|>", "it is not a JSON object with a name and arguments"),
        (CALL.replace("weather", "nope") + "{}", "no tool 'nope' was offered"),
    ):
        reply, _ = GPT_OSS.read(text, BEGUN, [WEATHER])
        assert [failed.reason for failed in reply.malformed] == [reason] and text[-3:] in reply.content


def test_a_prompt_that_ends_inside_a_message_has_opened_it() -> None:
    assert GPT_OSS.read("lo", f"{BEGUN}{FINAL}Hel")[0].content == "lo"
    assert GPT_OSS.read(f"m{NEXT}{FINAL}x", f"{BEGUN}{THOUGHT}h")[0].reasoning == "m"


@pytest.mark.parametrize(
    ("prompt", "start"),
    [
        (BEGUN, f'("{THOUGHT}" analysis "<|start|>assistant")? ("{FINAL}" answer)'),
        (f"{BEGUN}{THOUGHT}h", f'analysis "<|start|>assistant" ("{FINAL}" answer)'),
        (f"{BEGUN}{FINAL}Hel", "answer"),
    ],
)
def test_the_form_of_an_answer_is_that_of_the_final_channel(prompt: str, start: str) -> None:
    found = turn(regex("[0-9]"), GPT_OSS, prompt).source
    assert found.startswith(f"start: {start}\n") and "analysis[lazy]: /(?s:.*)<\\|end\\|>/" in found


def test_reasoning_goes_back_under_the_name_that_the_template_reads() -> None:
    model = Engine(ScriptedNative(f'{THOUGHT}hm{NEXT}{CALL}{{"days": 1}}', HARMONY), "the model")  # type: ignore[arg-type]
    answer = model.chat([USER], [WEATHER])
    assert (answer.reasoning, answer.content) == ("hm", "")
    talk = conversation([USER, answer.message(), {"role": "tool", "content": "rain"}], [WEATHER])
    assert f"{THOUGHT}hm<|end|>" in model.chats.prompt(talk)


def test_reasoning_is_left_out_of_a_turn_that_calls_and_says_something() -> None:
    """The family's template takes one of the two, and refuses a turn with both."""
    model = Engine(ScriptedNative("x", HARMONY), "the model")  # type: ignore[arg-type]
    call = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}
    said = {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": [call]}
    assert "hm" not in model.chats.prompt(conversation([USER, said], [WEATHER]))


def test_marks_inside_a_turn_are_text_to_a_form_and_those_that_end_it_are_not() -> None:
    model = Engine(native := ScriptedNative("x", HARMONY), "the model")  # type: ignore[arg-type]
    model.chat([USER], sampling=Sampling(max_tokens=9, constraint=regex("[0-9]")))
    assert {"<|channel|>", "<|end|>"} <= set(native.written)
    assert not {"<|call|>", "<|return|>"} & set(native.written)
