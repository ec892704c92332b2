import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve_tui.untrusted import plain


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("split \x1b[31mred\x1b[0m join", "split red join"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x1bP+q544e\x1b\\dcs", "dcs"),
        ("a\nb\r\nc\td", "a b c d"),
        ("abc\u202edcba", "abcdcba"),
        ("bell\x07\x00", "bell"),
        ("unfinished \x1b[", "unfinished"),
        ("0 \x08 0", "0 0"),
        ("häufig ✔ 日本", "häufig ✔ 日本"),
    ],
)
def test_escapes_and_controls_go_and_words_stay(dirty: str, clean: str) -> None:
    assert plain(dirty) == clean


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = plain(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert plain(shown) == shown


def test_long_text_is_cut() -> None:
    assert plain("x" * 1000, limit=10) == "x" * 9 + "…"
