"""`generate` in a terminal: text as it comes, Ctrl-C, and a conversation."""

from __future__ import annotations

import pytest

pytest.importorskip("pty")

from terminal import Terminal  # noqa: E402


def test_text_shows_while_it_is_drawn_and_ctrl_c_ends_it() -> None:
    with Terminal(["generate", "p"], "'so far'", chat=False) as terminal:
        terminal.until("so far")
        terminal.interrupt()
        assert terminal.ended() == 130
        assert terminal.shown.endswith("so far\nmoevolve: interrupted\n")


def test_ctrl_c_ends_a_batch_that_is_under_way() -> None:
    answer = "print('drawing', flush=True) or 'x' if 0 else (lambda p: print('drawing', flush=True) or 'x')"
    with Terminal(["generate", "--no-stream", "p"], answer, chat=False) as terminal:
        terminal.until("drawing")
        terminal.interrupt()
        assert terminal.ended() == 130


def test_a_model_cannot_steer_the_terminal() -> None:
    with Terminal(["generate", "p"], r"'a\x1b]0;owned\x07\x9b2Jb.'", chat=False) as terminal:
        assert terminal.ended() == 0
        assert terminal.shown == "a\ufffd]0;owned\ufffd\ufffd2Jb.\n"


def test_thoughts_show_dimmed_before_the_answer() -> None:
    with Terminal(["generate", "--chat", "p"], "'hm\\n</think>\\n\\nyes.'", chat=True) as terminal:
        assert terminal.ended() == 0
        assert terminal.shown == "\x1b[2mhm\x1b[22m\nyes.\n"


def test_an_answer_that_is_cut_says_so() -> None:
    with Terminal(
        ["generate", "--chat", "--max-tokens=9", "p"], "'</think>and so on.'", chat=True
    ) as terminal:
        assert terminal.ended() == 0
        assert terminal.shown.endswith("\nmoevolve: cut after 9 tokens; --max-tokens sets another limit\n")


def test_a_conversation_remembers_and_begins_anew() -> None:
    answer = "lambda p: '</think>' + str(p.count(']~b]user')) + ' asked.'"
    with Terminal(["generate", "--chat"], answer, chat=True) as terminal:
        terminal.until("> ")
        terminal.type("first\n")
        terminal.until("1 asked.")
        terminal.until("> ")
        terminal.type("second\n")
        terminal.until("2 asked.")
        terminal.until("> ")
        terminal.type("/clear\n")
        terminal.until("> ")
        terminal.type("third\n")
        terminal.until("1 asked.")
        terminal.until("> ")
        terminal.type("/exit\n")
        assert terminal.ended() == 0


def test_ctrl_c_ends_an_answer_and_ctrl_d_the_conversation() -> None:
    answer = "lambda p: '</think>on and on' if p.count(']~b]user') == 1 else '</think>' + str('on and on' in p) + '.'"
    with Terminal(["generate", "--chat"], answer, chat=True) as terminal:
        terminal.until("> ")
        terminal.type("first\n")
        terminal.until("on and on")
        terminal.interrupt()
        terminal.until("> ")
        terminal.type("second\n")
        terminal.until("True.")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.ended() == 0


def test_ctrl_c_at_the_prompt_leaves() -> None:
    with Terminal(["generate", "--chat"], "'</think>x.'", chat=True) as terminal:
        terminal.until("> ")
        assert terminal.interrupted() == 130
