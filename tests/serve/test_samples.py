"""A sample's text does not depend on how its tokens arrive."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scripted_native import FIRST, ScriptedNative

from moevolve.models.engine import Engine
from moevolve.protocol.sampling import Drawn
from moevolve.serve.samples import SampleReader

MODEL = Engine(ScriptedNative(""), "scripted")  # type: ignore[arg-type]
TEXTS = st.text("ab<e\u00e9", max_size=30)


def cut(text: str, stops: list[str]) -> str:
    """The text before the stop string that is complete first."""
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(found)[1]] if found else text


def drawn(text: str) -> list[Drawn]:
    return [Drawn(token=ord(character), logprob=-0.5) for character in text]


@given(TEXTS, st.lists(st.text("ab<", min_size=1, max_size=4), max_size=3), st.data())
def test_text_and_tokens_end_before_the_stop_string_however_they_arrive(
    text: str, stops: list[str], data: Any
) -> None:
    reader = SampleReader(MODEL, (), stops)
    left, told, tokens, finish = drawn(text), "", "", None
    while finish is None:
        size = data.draw(st.integers(0, len(left)))
        piece, left = left[:size], left[size:]
        more = reader.take(piece, None if left else "length")
        told += more.text
        tokens += "".join(chr(one.drawn.token) for one in more.tokens)
        finish = more.finish
        assert cut(text, stops).startswith(told)
    assert told == cut(text, stops) == tokens == "".join(reader.parts)
    assert finish == ("stop" if any(stop in text for stop in stops) else "length")


def test_a_special_token_has_no_text_and_an_end_token_no_place() -> None:
    reader = SampleReader(MODEL)
    more = reader.take([*drawn("a"), Drawn(FIRST + 1, -1.0), Drawn(FIRST, -1.0)], "stop")
    assert more.text == "a" and [one.drawn.token for one in more.tokens] == [ord("a"), FIRST + 1]
    assert reader.drawn == 3


def test_marks_show_where_they_are_asked_for() -> None:
    assert SampleReader(MODEL, ("<think>",)).take([Drawn(FIRST + 3, -1.0)], "stop").text == "<think>"


def test_nothing_counts_after_the_end() -> None:
    reader = SampleReader(MODEL, (), ["b"])
    assert reader.take(drawn("ab"), None).finish == "stop"
    assert reader.take(drawn("cd"), "length").text == "" and reader.finish == "stop"
