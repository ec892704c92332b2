"""Conversations over an engine that says what the test wrote."""

from __future__ import annotations

from typing import Any

import pytest
from chat_samples import CHATML, MINIMAX, PARALLEL, WEATHER
from scripted_native import ScriptedNative

from moevolve.errors import CheckpointError, UsageError
from moevolve.models.chat import ChatCompletion, conversation
from moevolve.models.engine import Engine
from moevolve.models.turns import ContentDelta, ReasoningDelta, ToolCallEnd
from moevolve.protocol.sampling import Sampling

USER = {"role": "user", "content": "hi"}


def engine(answer: Any, template: str | None = MINIMAX, **options: Any) -> tuple[Engine, ScriptedNative]:
    native = ScriptedNative(answer, template, **options)
    return Engine(native, "the model"), native  # type: ignore[arg-type]


def test_a_turn_is_read_into_its_parts() -> None:
    model, native = engine(PARALLEL)
    answer = model.chat([USER], [WEATHER], seed=3)
    assert answer.reasoning == "The person wants two cities." and answer.content == "I look both up."
    assert [call.arguments["city"][:3] for call in answer.tool_calls] == ["São", "\nif"]
    assert answer.text == PARALLEL and answer.finish == "stop"
    assert len(answer.tokens) + 1 == len(answer.logprobs)
    (draw,) = native.asked
    assert draw.prompt.endswith("]~b]ai\n<think>\n")
    assert draw.sampling == Sampling(max_tokens=1024, temperature=0.0)


def test_the_stream_says_what_the_whole_turn_says() -> None:
    model, native = engine(PARALLEL)
    stream = model.chats.stream(conversation([USER], [WEATHER]))
    events = list(stream)
    assert stream.completion == model.chat([USER], [WEATHER])
    assert native.asked[0] == native.asked[1]
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == stream.completion.reasoning
    assert "".join(e.text for e in events if isinstance(e, ContentDelta)) == stream.completion.content
    assert tuple(e.call for e in events if isinstance(e, ToolCallEnd)) == stream.completion.tool_calls


def test_events_come_while_tokens_do() -> None:
    model, _ = engine("Thinking.</think>Yes, and more.")
    stream = model.chats.stream(conversation([USER], None))
    run = iter(stream)
    assert next(run) == ReasoningDelta(text="T")
    assert stream.completion.reasoning == "T" and len(stream.completion.tokens) == 1


def test_a_conversation_goes_on() -> None:
    model, native = engine(lambda prompt: "so.</think>\nfirst" if "more" not in prompt else "</think>second")
    first = model.chat([USER])
    second = model.chat([USER, first.message(), {"role": "user", "content": "more"}])
    assert (first.content, first.reasoning, second.content) == ("first", "so.", "second")
    assert "]~b]ai\nfirst[e~[" in native.asked[1].prompt


def test_a_turn_that_is_cut_off_says_so() -> None:
    model, _ = engine(PARALLEL)
    answer = model.chat([USER], [WEATHER], max_tokens=120)
    assert answer.finish == "length" and answer.tool_calls == ()
    assert [failed.reason for failed in answer.malformed] == ["the text ends inside the call"]


def test_special_tokens_other_than_marks_do_not_show() -> None:
    model, _ = engine("<think>a</think>b<|im_start|>c", CHATML)
    answer = model.chat([USER])
    assert (answer.reasoning, answer.content, answer.text) == ("a", "bc", "<think>a</think>bc")


def test_samples_are_those_of_one_call_however_they_are_grouped() -> None:
    model, native = engine("</think>x")
    asked = [conversation([{"role": "user", "content": text}], None) for text in "abc"]
    whole = model.chats.complete(asked, n=2)
    keys = [draw.key for draw in native.asked]
    native.asked.clear()
    parts = model.chats.complete(asked[:1], n=2) + model.chats.complete(asked[1:], n=2, offset=1)
    assert parts == whole and [draw.key for draw in native.asked] == keys
    assert all(isinstance(sample, ChatCompletion) for samples in whole for sample in samples)


def test_a_turn_fits_into_the_context() -> None:
    model, native = engine("</think>x", positions=200)
    prompt = len(native.encode(model.chats.prompt(conversation([USER], None))))
    model.chat([USER])
    assert native.asked[0].sampling.max_tokens == 200 - prompt
    with pytest.raises(UsageError, match="the model has room for 200"):
        model.chat([{"role": "user", "content": "x" * 300}])


def test_a_model_without_a_template_does_not_chat() -> None:
    with pytest.raises(UsageError, match="the model has no chat template"):
        engine("x", None)[0].chat([USER])


def test_a_broken_template_is_named() -> None:
    with pytest.raises(CheckpointError, match="the chat template of the model is broken: line 1"):
        engine("x", "{% if %}")[0].chat([USER])


@pytest.mark.parametrize(("tools", "shown"), [(None, "True"), ([], "False")])
def test_an_empty_list_of_tools_is_one(tools: Any, shown: str) -> None:
    model, native = engine("x", "{{ tools is none }}")
    model.chat([USER], tools)
    assert native.asked[0].prompt == shown


def test_a_template_takes_variables() -> None:
    model, native = engine("x", CHATML)
    model.chat([USER], enable_thinking=False)
    assert native.asked[0].prompt.endswith("<think>\n\n</think>\n\n")


PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def test_documents_reach_a_template_that_has_a_place_for_them() -> None:
    source = (
        "{% for d in documents or [] %}{{ d.title }}: {{ d.text }}\n{% endfor %}{{ messages[0].content }}"
    )
    model, native = engine("x", source)
    model.chat([USER], documents=[{"title": "a", "text": "b"}])
    assert native.asked[-1].prompt == "a: b\nhi"
    with pytest.raises(UsageError, match="documents: the chat template of the model has no place for them"):
        engine("x", CHATML)[0].chat([USER], documents=[{"text": "b"}])
    with pytest.raises(UsageError, match="a document is an object"):
        model.chat([USER], documents=["b"])


@pytest.mark.parametrize("name", ["add_generation_prompt", "tools", "messages"])
def test_what_a_template_gets_from_the_conversation_is_no_variable(name: str) -> None:
    model, _ = engine("x", CHATML)
    with pytest.raises(UsageError, match=f"{name}: a chat template gets this from the conversation"):
        model.chats.prompt(conversation([USER], None), **{name: False})


def test_tools_stand_in_the_texts_where_the_template_has_no_place_for_them() -> None:
    model, native = engine(
        'So:\n<tool_call>\n{"name": "weather", "arguments": {"days": 2}}\n</tool_call>', PLAIN
    )
    turn = model.chat([USER], [WEATHER])
    assert (
        native.asked[0].prompt.startswith("<system>You can call these tools:")
        and '"days"' in native.asked[0].prompt
    )
    assert [call.arguments for call in turn.tool_calls] == [{"days": 2}] and turn.content == "So:"
    told = [USER, turn.message(), {"role": "tool", "content": "12"}, {"role": "tool", "content": "13"}]
    model.chat(told, [WEATHER])
    calls = '<assistant>So:\n<tool_call>\n{"name": "weather", "arguments": {"days": 2}}\n</tool_call>'
    answers = "<tool_response>\n12\n</tool_response>\n<tool_response>\n13\n</tool_response>"
    assert f"{calls}<user>{answers}<assistant>" in native.asked[1].prompt
    model.chat(told)
    assert native.asked[2].prompt.startswith("<user>") and calls in native.asked[2].prompt


def test_a_template_for_tools_counts_where_there_are_tools() -> None:
    model, native = engine("<think>a</think>b", "plain")
    native.named["tool_use"] = CHATML
    assert model.chat([USER], [WEATHER]).content == "b" and native.asked[0].prompt.startswith("<|im_start|>")
    model.chat([USER])
    assert native.asked[1].prompt == "plain"


def test_plain_streams_draw_what_generate_draws() -> None:
    model, native = engine("aé🙂<|im_end|>b", None)
    stream = model.stream("p", max_tokens=50, temperature=0.5, seed=4, index=0, sample=0)
    text = "".join(piece.text for piece in stream)
    ((sample,),) = model.generate(["p"], max_tokens=50, temperature=0.5, seed=4)
    assert text == sample.text == stream.completion.text == "aé🙂b"
    assert stream.completion == sample and native.asked[0] == native.asked[1]


def test_a_stop_text_ends_streams_chats_and_completions_alike() -> None:
    model, _ = engine("</think>one two END three")
    sampling = Sampling(max_tokens=90, temperature=0.0, stop=("END", "never"))
    ((whole,),) = model.generate(["p"], sampling=sampling)
    stream = model.stream("p", sampling=sampling)
    shown = "".join(piece.text for piece in stream)
    assert (shown, stream.finish) == (whole.text, whole.finish) == ("one two ", "stop")
    assert stream.completion == whole and model.decode(whole.tokens).endswith("END")
    answer = model.chat([USER], sampling=sampling)
    assert (answer.content, answer.finish, answer.text) == ("one two ", "stop", "</think>one two ")


WRONG = {
    "max_tokens": 0,
    "temperature": -1.0,
    "top_p": 0.0,
    "top_k": -1,
    "min_p": 1.5,
    "repetition_penalty": 0.0,
    "presence_penalty": float("nan"),
    "top_logprobs": 21,
    "speculate": -1,
    "stop": ["a", ""],
    "stop_tokens": [-4],
    "logit_bias": {3: float("inf")},
}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_setting_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    model, _ = engine("x", None)
    for call in (lambda **settings: model.generate(["p"], **settings), lambda **s: model.stream("p", **s)):
        with pytest.raises(UsageError, match=name):
            call(**{name: value})


def test_settings_are_known_and_come_one_way() -> None:
    model, _ = engine("x", None)
    with pytest.raises(UsageError, match="no sampling setting 'best_of'"):
        model.generate(["p"], best_of=3)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="sampling settings: Expected `float`"):
        model.generate(["p"], min_p="a")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="give `sampling` or max_tokens, not both"):
        model.generate(["p"], sampling=Sampling(max_tokens=3), max_tokens=4)
    with pytest.raises(UsageError, match="at least 1 sample"):
        model.generate(["p"], n=0)


def test_a_temperature_that_nobody_chose_is_greedy_for_one_sample_alone() -> None:
    model, native = engine("x", None)
    model.generate(["p"])
    model.generate(["p"], n=2)
    assert [draw.sampling.temperature for draw in native.asked] == [0.0, 1.0, 1.0]


SPACED = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)
"""As Llama 2 has it: what is trimmed gets a blank behind it."""
TRIMS = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}"


@pytest.mark.parametrize(
    ("template", "content", "end"),
    [
        (CHATML, "Hel", "<|im_start|>assistant\nHel"),
        (CHATML, "<", "<|im_start|>assistant\n<"),
        (CHATML, "The answer is ", "<|im_start|>assistant\nThe answer is "),
        (CHATML, "a\n\n", "<|im_start|>assistant\na\n\n"),
        (CHATML, [{"type": "text", "text": "a"}, {"type": "text", "text": "b "}], "assistant\na\nb "),
        (TRIMS, "The answer is ", "<assistant>The answer is"),
        (TRIMS, " a", "<assistant>a"),
        (TRIMS, "assistant>", "<assistant>assistant>"),
        (SPACED, "Hello  ", "[INST] hi [/INST] Hello"),
    ],
    ids=str,
)
def test_a_prompt_to_go_on_from_ends_where_the_last_text_does(template: str, content: Any, end: str) -> None:
    model, _ = engine("x", template)
    talk = conversation([USER, {"role": "assistant", "content": content}], None)
    assert model.chats.prompt(talk, go_on=True).endswith(end)


@pytest.mark.parametrize(
    ("template", "content"),
    [
        (CHATML, ""),
        (CHATML, []),
        (CHATML, "a</think>b"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "a"),
    ],
)
def test_a_text_that_the_prompt_does_not_have_is_not_gone_on_from(template: str, content: Any) -> None:
    model, _ = engine("x", template)
    talk = conversation([USER, {"role": "assistant", "content": content}], None)
    with pytest.raises(UsageError, match="to go on from"):
        model.chats.prompt(talk, go_on=True)
