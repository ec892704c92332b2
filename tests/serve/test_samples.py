"""A sample's text does not depend on how its tokens arrive."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scripted_native import FIRST, ScriptedNative

from moevolve.models.engine import Engine
from moevolve.models.text_reader import TextReader
from moevolve.protocol.sampling import Drawn, Event
from moevolve.serve.samples import SampleReader, joined

MODEL = Engine(ScriptedNative(""), "scripted")  # type: ignore[arg-type]
TEXTS = st.text("ab<e\u00e9", max_size=30)


def drawn(text: str) -> list[Drawn]:
    return [Drawn(token=ord(character), logprob=-0.5) for character in text]


def event(tokens: list[Drawn], finish: str | None, stops: TextReader | None = None) -> Event:
    """As the scheduler tells it: read where there are stop texts."""
    if stops is None:
        return Event(1, 0, tuple(tokens), finish)
    reading = stops.read([one.token for one in tokens], finish)
    read = tuple(tokens[: len(reading.offsets)])
    return Event(1, 0, read, reading.finish, reading.text, reading.offsets, reading.stop)


@given(TEXTS, st.lists(st.text("ab<", min_size=1, max_size=4), max_size=3), st.data())
def test_text_and_tokens_end_before_the_stop_text_however_they_arrive(
    text: str, stops: list[str], data: Any
) -> None:
    reader, plain = SampleReader(MODEL), SampleReader(MODEL, tells=False)
    scanner = TextReader(MODEL, (), stops) if stops else None
    left, shown, tokens, finish = drawn(text), "", "", None
    while finish is None:
        events: list[Event] = []
        for size in data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)):
            piece, left = left[:size], left[size:]
            events.append(event(piece, None if left else "length", scanner))
            if events[-1].finish is not None:
                break
        more, alone = reader.take(joined(events)), plain.take(joined(events))
        assert (alone.text, alone.finish, alone.tokens) == (more.text, more.finish, ())
        shown += more.text
        tokens += "".join(chr(one.drawn.token) for one in more.tokens)
        finish = more.finish
    assert shown == tokens == "".join(reader.parts)
    assert (plain.parts, plain.drawn, plain.mean) == (reader.parts, reader.drawn, reader.mean)
    assert [shown + stop in text for stop in stops].count(True) > 0 or shown == text
    assert finish == ("stop" if any(stop in text for stop in stops) else "length")


def test_a_special_token_has_no_text() -> None:
    reader = SampleReader(MODEL)
    more = reader.take(event([*drawn("a"), Drawn(FIRST + 1, -1.0)], "stop"))
    assert more.text == "a" and [one.drawn.token for one in more.tokens] == [ord("a"), FIRST + 1]
    assert reader.drawn == 2


def test_marks_show_where_they_are_asked_for() -> None:
    reader = SampleReader(MODEL, ("<think>",))
    assert reader.take(event([Drawn(FIRST + 3, -1.0)], "stop")).text == "<think>"
