import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.journal.text import line, lines


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
    assert line(dirty) == clean


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = line(text)
    assert shown.isprintable()
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert line(shown) == shown


def test_long_text_is_cut() -> None:
    assert line("x" * 1000, limit=10) == "x" * 9 + "…"


def test_marks_that_hide_or_reorder_text_are_gone_from_lines_too() -> None:
    text = "rm \u202e -rf\u2069 \u200bx\n\tdone\x1b[2J\r"
    assert lines(text) == "rm \ufffd -rf\ufffd \ufffdx\n\tdone\ufffd[2J\ufffd"


@given(st.text(), st.integers(0, 40))
def test_lines_may_come_in_pieces(text: str, cut: int) -> None:
    assert lines(text[:cut]) + lines(text[cut:]) == lines(text)
