"""Text from tokens one at a time: whole characters, and the text of all tokens at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.models.stream import TextStream
from moevolve.models.text_decoder import WINDOW, TextDecoder
from moevolve.models.text_reader import TextReader
from moevolve.protocol.sampling import Drawn


def as_bytes(ids: list[int]) -> str:
    """Every token is one byte, as in byte-level vocabularies at their worst."""
    return bytes(ids).decode("utf-8", "replace")


def as_words(ids: list[int]) -> str:
    """Tokens with a leading blank that the text's first one loses, and bytes that spell nothing one by one."""
    text, run = "", b""
    for token in [*ids, -1]:
        if 0 <= token < 256:
            run += bytes([token])
            continue
        try:
            text += run.decode()
        except UnicodeDecodeError:
            text += "\ufffd" * len(run)
        run = b""
        text += "" if token < 0 else f" w{token}"
    return text.removeprefix(" ")


class Draw:
    """A draw that is over when its tokens are."""

    end_logprob = None

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self.finish: str | None = None

    def __iter__(self) -> Iterator[Drawn]:
        for index, token in enumerate(self._tokens):
            yield Drawn(token, -float(index))
        self.finish = "stop"


class Bytes:
    """A vocabulary of bytes, of which 0 is a special token."""

    has_tokenizer = True

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        return as_bytes(list(ids))

    def shows(self, token: int, marks: Sequence[str] | None = ()) -> bool:
        return token != 0 or marks is None


def stream_of(draw: Draw, stop: tuple[str, ...] = ()) -> TextStream:
    return TextStream(draw, TextReader(Bytes(), (), stop))


@given(st.text(st.characters(exclude_categories=["Cs"]).filter(lambda c: c != "\ufffd")))
def test_characters_come_whole(text: str) -> None:
    decoder = TextDecoder(as_bytes)
    told = [decoder.push(byte) for byte in text.encode()]
    assert not decoder.holds and decoder.finish() == ""
    assert "".join(told) == text
    assert [piece for piece in told if piece] == list(text)


@given(st.binary(max_size=200) | st.lists(st.sampled_from(list(b"A\xe2\x82\xac\xf0\x9f\x99\xff"))).map(bytes))
def test_bytes_that_are_no_text_come_as_the_whole_shows_them(data: bytes) -> None:
    decoder = TextDecoder(as_bytes)
    assert "".join([decoder.push(byte) for byte in data]) + decoder.finish() == as_bytes(list(data))


@given(
    st.lists(
        st.integers(256, 300).map(lambda token: [token])
        | st.sampled_from(["€", "🙂", "é", "a"]).map(lambda text: list(text.encode()))
    )
)
def test_words_keep_their_blanks_and_bytes_their_characters(groups: list[list[int]]) -> None:
    ids = [token for group in groups for token in group]
    decoder = TextDecoder(as_words)
    assert "".join([decoder.push(token) for token in ids]) + decoder.finish() == as_words(ids)


@pytest.mark.parametrize("data", [b"abc" * 2000, b"\xff" * 2000, "🙂".encode() * 800])
def test_a_token_costs_the_same_wherever_it_stands(data: bytes) -> None:
    longest = 0

    def decode(ids: list[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return as_bytes(ids)

    decoder = TextDecoder(decode)
    for byte in data:
        decoder.push(byte)
    assert longest <= 2 * WINDOW


def test_each_token_is_one_piece_and_the_last_takes_what_is_held() -> None:
    stream = stream_of(Draw(list("a€".encode()) + [0xE2, 0x82]))
    assert stream.finish is None
    pieces = list(stream)
    assert [piece.text for piece in pieces] == ["a", "", "", "€", "", "\ufffd"]
    assert [piece.token for piece in pieces] == [97, 0xE2, 0x82, 0xAC, 0xE2, 0x82]
    assert [piece.logprob for piece in pieces] == [0.0, -1.0, -2.0, -3.0, -4.0, -5.0]
    assert stream.finish == "stop" and stream.completion.text == "a€\ufffd"
    assert stream.completion.tokens == [piece.token for piece in pieces]


def test_a_piece_comes_before_the_next_token_is_drawn() -> None:
    seen: list[int] = []

    class Watched(Draw):
        def __iter__(self) -> Iterator[Drawn]:
            for one in super().__iter__():
                seen.append(one.token)
                yield one

    run = iter(stream_of(Watched([97, 98])))
    assert next(run).text == "a" and seen == [97]


def test_tokens_that_do_not_show_have_no_text() -> None:
    stream = stream_of(Draw([97, 0, 98]))
    assert [piece.text for piece in stream] == ["a", "", "b"]


def cut(text: str, stops: list[str]) -> str:
    """The text before the stop text that is complete first; of those that end together the longest counts."""
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends)[1]] if ends else text


@given(st.text("ab<€", max_size=30), st.lists(st.text("ab<€", min_size=1, max_size=4), max_size=3), st.data())
def test_text_ends_before_the_stop_text_however_tokens_arrive(text: str, stops: list[str], data: Any) -> None:
    reader = TextReader(Bytes(), (), stops)
    left, shown, finish = list(text.encode()), "", None
    read = 0
    while finish is None:
        size = data.draw(st.integers(1, 9))
        tokens, left = left[:size], left[size:]
        reading = reader.read(tokens, None if left else "length")
        shown, finish, read = shown + reading.text, reading.finish, read + len(reading.offsets)
        assert cut(text, stops).startswith(shown)
    assert shown == cut(text, stops)
    stopped = any(stop in text for stop in stops)
    assert finish == ("stop" if stopped else "length") and (reader.stop in stops) == stopped
    # No token is read behind the one that completes the stop text.
    seen = text.encode()[:read].decode("utf-8", "ignore")
    assert any(seen.endswith(stop) for stop in stops) == stopped or not stopped
    assert "".join(piece.text for piece in stream_of(Draw(list(text.encode())), tuple(stops))) == shown


def test_a_stop_text_ends_the_draw() -> None:
    draw = Draw(list(b"one END two"))
    stream = stream_of(draw, ("END",))
    assert "".join(piece.text for piece in stream) == "one "
    assert draw.finish is None and stream.finish == "stop"
    assert stream.completion.tokens == list(b"one END")


def test_marks_that_hold_each_other_end_with_the_first_that_is_complete() -> None:
    for stops, shown in ((("bcd", "c"), "ab"), (("abcd", "cd"), ""), (("ab", "abc"), "")):
        assert stream_of(Draw(list(b"abcd")), stops).completion.text == ""
        assert "".join(piece.text for piece in stream_of(Draw(list(b"abcd")), stops)) == shown
