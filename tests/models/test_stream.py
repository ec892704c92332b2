"""Text from tokens one at a time: whole characters, and the text of all tokens at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.models.stream import TextStream
from moevolve.models.text_decoder import WINDOW, TextDecoder


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


class Drawn:
    """A draw that is over when its tokens are."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self.finish: str | None = None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        for place, token in enumerate(self._tokens):
            yield token, -float(place)
        self.finish = "stop"


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
    stream = TextStream(Drawn(list("a€".encode()) + [0xE2, 0x82]), as_bytes)
    assert stream.finish is None
    pieces = list(stream)
    assert [piece.text for piece in pieces] == ["a", "", "", "€", "", "\ufffd"]
    assert [piece.token for piece in pieces] == [97, 0xE2, 0x82, 0xAC, 0xE2, 0x82]
    assert [piece.logprob for piece in pieces] == [0.0, -1.0, -2.0, -3.0, -4.0, -5.0]
    assert stream.finish == "stop" and stream.completion.text == "a€\ufffd"
    assert stream.completion.tokens == [piece.token for piece in pieces]


def test_a_piece_comes_before_the_next_token_is_drawn() -> None:
    seen: list[int] = []

    class Watched(Drawn):
        def __iter__(self) -> Iterator[tuple[int, float]]:
            for token, logprob in super().__iter__():
                seen.append(token)
                yield token, logprob

    run = iter(TextStream(Watched([97, 98]), as_bytes))
    assert next(run).text == "a" and seen == [97]


def test_tokens_that_do_not_show_have_no_text() -> None:
    stream = TextStream(Drawn([97, 0, 98]), as_bytes, lambda token: token != 0)
    assert [piece.text for piece in stream] == ["a", "", "b"]
