"""Forms of answers as a turn's grammar has them: what a client wrote stays what it wrote."""

from __future__ import annotations

import msgspec
import pytest

from moevolve.models.constraints import choice, grammar, json_schema, regex, turn
from moevolve.models.reply import ReplyFormat
from moevolve.protocol.sampling import Constraint

THINKS = msgspec.structs.replace(ReplyFormat.of(""), think=True)


def told(constraint: Constraint) -> str:
    """The grammar of a turn that may reason before its answer."""
    return turn(constraint, THINKS, "user: hello\n").source


def test_texts_of_a_choice_that_read_like_a_rules_name_stay() -> None:
    assert 'answer: "start" | "re start" | "st\\"art"' in told(choice(["start", "re start", 'st"art']))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('start: "a" more\nmore: "start"', 'answer: "a" more\nmore: "start"'),
        (
            "start: WORD // start here\nWORD: /start\\/start/",
            "answer: WORD // start here\nWORD: /start\\/start/",
        ),
        ('start: restart\nrestart: "x" start?', 'answer: restart\nrestart: "x" answer?'),
        ('start: %json {"const": "start"}', 'answer: %json {"const": "start"}'),
        ('start: answer\nanswer: "x"', 'answer_: answer\nanswer: "x"'),
    ],
)
def test_of_a_grammar_the_first_rules_name_alone_changes(source: str, expected: str) -> None:
    found = told(grammar(source))
    assert expected in found and f"({expected.partition(':')[0]})" in found


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/b", "/a\\/b/"),
        ("a\\/b", "/a\\/b/"),
        ("a\\\\/b", "/a\\\\\\/b/"),
        ("a\nb", "/a\\nb/"),
        ("[/]", "/[\\/]/"),
    ],
)
def test_an_expression_stands_between_slashes_on_one_line(pattern: str, expected: str) -> None:
    assert f"ANSWER: {expected}\n" in told(regex(pattern))


def test_a_schema_that_speaks_of_answers_is_none_of_the_grammars_names() -> None:
    found = told(json_schema({"type": "object", "properties": {"answer": {"type": "string"}}}))
    assert "answer_: %json" in found
