"""One formula for one cell: right formulas of any shape pass, what fits the given list alone does not, no answer harms."""

from __future__ import annotations

from random import Random

import pytest

from moevolve.tasks.office.excel_cell import EXCEL_CELL, LEVELS, voice
from moevolve.tasks.office.formula import Formula
from moevolve.tasks.office.functions import FUNCTIONS
from moevolve.tasks.office.values import Block, FormulaError, Value
from moevolve.tasks.office.wording import FRAMES, PHRASES, asked, voice_of
from moevolve.tasks.splits import SPLITS
from moevolve.tasks.suite import suite

LIST: list[tuple[Value, ...]] = [
    ("key", "region", "units", "price"),
    (1.0, "North", 10.0, 1.5),
    (2.0, "south", 20.0, 2.5),
    (3.0, "North", 5.0, 4.0),
    (4.0, "West", None, 0.5),
]
CELLS = {(column, row): value for row, values in enumerate(LIST, 1) for column, value in enumerate(values, 1)}


def value(source: str) -> Value:
    return Formula(source, FUNCTIONS).value(CELLS, (4, 5), (8, 1))


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("=1+2*3^2", 19.0),
        ("=-2^2", 4.0),
        ("=10%*50", 5.0),
        ("=(1+2)*3-4/2", 7.0),
        ("=2^3^2", 64.0),
        ('="a"&"b"&1', "ab1"),
        ('="A"="a"', True),
        ("=SUM(C2:C5)", 35.0),
        ("=sum( $c$2 : c5 )", 35.0),
        ("=SUM(C:C)", 35.0),
        ("=SUM(C2:C3,C4)", 35.0),
        ("=C5+1", 1.0),
        ("=MAX(C2:C5)-MIN(D2:D5)", 19.5),
        ("=AVERAGE(C2:C5)", 35.0 / 3),
        ("=MEDIAN(D2:D5)", 2.0),
        ("=COUNT(A1:D1)", 0.0),
        ("=COUNTA(C2:C5)", 3.0),
        ("=COUNTBLANK(C2:C5)", 1.0),
        ("=ROUND(2.675,2)", 2.68),
        ("=ROUND(-0.5,0)", -1.0),
        ("=ROUNDUP(1.21,1)", 1.3),
        ('=SUMIF(B2:B5,"north",C2:C5)', 15.0),
        ('=SUMIF(B2:B5,"*th",C2:C5)', 35.0),
        ('=SUMIF(C2:C5,">5")', 30.0),
        ('=COUNTIF(B2:B5,"<>North")', 2.0),
        ('=COUNTIF(C2:C5,">="&5)', 3.0),
        ('=SUMIFS(C2:C5,B2:B5,"North",D2:D5,">2")', 5.0),
        ('=COUNTIFS(B2:B5,"North",C2:C5,10)', 1.0),
        ('=AVERAGEIF(B2:B5,"North",D2:D5)', 2.75),
        ("=SUMPRODUCT(C2:C5,D2:D5)", 85.0),
        ('=SUMPRODUCT((B2:B5="North")*C2:C5)', 15.0),
        ('=SUMPRODUCT(--(B2:B5="North"),C2:C5)', 15.0),
        ("=INDEX(C2:C5,MATCH(3,A2:A5,0))", 5.0),
        ("=VLOOKUP(2,A2:D5,4,FALSE)", 2.5),
        ('=XLOOKUP(9,A2:A5,C2:C5,"none")', "none"),
        ('=IF(SUM(C2:C5)>30,"high","low")', "high"),
        ("=IF(FALSE,1/0,2)", 2.0),
        ("=IFERROR(1/0,7)", 7.0),
        ("=AND(TRUE,C2=10)", True),
        ("=LARGE(C2:C5,2)", 10.0),
        ("=MOD(-3,2)", 1.0),
        ('=LEN("a""b")', 3.0),
        ('=MID("spread",2,3)', "pre"),
    ],
)
def test_formulas_come_to_what_spreadsheets_make_of_them(source: str, wanted: Value) -> None:
    found = value(source)
    assert type(found) is type(wanted)
    assert found == (pytest.approx(wanted) if isinstance(wanted, float) else wanted)


HOSTILE = [
    "",
    "SUM(C2:C5)",
    "=",
    "=SUM(C2:C5",
    "=SUM C2",
    "=1+",
    "=NOSUCH(1)",
    "=__import__('os')",
    "=C2:C5",
    "=H1+1",
    "=A1:ZZ99999",
    "=SUM(A1:ZZ99999)",
    "=1/0",
    "=9^9^9^9",
    "=1E99*1E99*1E99*1E99",
    "=SQRT(-1)",
    "=ROUND(1E99,9)",
    "=ROUND(1,999)",
    "=ROWS(5)",
    "=INDEX(C2:C5,99)",
    "=MATCH(1,A2:A5)",
    '=SUMIF(B2:B5,"' + "*a" * 60 + '",C2:C5)',
    "=SUMIFS(C2:C5,B2:B4,1)",
    "=C2:C4+C2:C5",
    "=" + "(" * 200 + "1" + ")" * 200,
    "=" + "-" * 300 + "1",
    "=1" + "%" * 300,
    "=" + "1+" * 250 + "1",
    "=" + "SUM(" * 100 + "1" + ")" * 100,
    "=" + "A" * 600,
    '="' + "x" * 400 + '"&' * 1 + '"y"',
    "=LEFT(1,-1)",
    "=TRUE+",
    "=Data!A1",
    "=\ud800",
    "=SUM(\x00)",
    "=nan",
    "=SUM(nosuch)",
    "=SUM(units units)",
    "=units",
    "=SUM(units!A1)",
]


@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_no_answer_does_more_than_fail(source: str) -> None:
    task = EXCEL_CELL.task(1, 7)
    assert task.grade is not None
    verdict = EXCEL_CELL.grade(task, source)
    assert not verdict.success and verdict.failure in ("malformed", "wrong"), verdict


def test_random_answers_only_ever_fail() -> None:
    draw = Random(1)
    pieces = [*"()+-*/^&=<>%,:\"'$!.", " ", *FUNCTIONS, "C2", "C2:C9", "1", '"a"', "TRUE", "1e9", "D:D", "IF"]
    tasks = [EXCEL_CELL.task(level, seed) for level in (1, 2, 3, 4) for seed in range(3)]
    for _ in range(3000):
        answer = "=" + "".join(draw.choices(pieces, k=draw.randint(1, 14)))
        verdict = EXCEL_CELL.grade(draw.choice(tasks), answer)
        assert verdict.failure in (None, "malformed", "wrong"), (answer, verdict)


def test_the_formula_behind_a_task_passes_and_what_fits_the_given_list_alone_does_not() -> None:
    for level in range(1, len(LEVELS) + 1):
        for seed in range(60):
            task = EXCEL_CELL.task(level, seed)
            assert task.answer is not None and EXCEL_CELL.grade(task, task.answer).success, task
            given = task.grade.truths[0]  # type: ignore[union-attr]
            quoted = f'"{given}"' if isinstance(given, str) else repr(given)
            first = task.grade.lists[0].rows[0][3]  # type: ignore[union-attr]
            other = '"low"' if given == "high" else '"high"' if isinstance(given, str) else "0"
            for cheat in (f"={quoted}", f"=IF(D2={first!r},{quoted},{other})", quoted, "=D2", "=SUM(D2:E2)"):
                assert not EXCEL_CELL.grade(task, cheat).success, (task.prompt, cheat)


def test_a_right_formula_of_another_shape_passes_too() -> None:
    for seed in range(40):
        task = EXCEL_CELL.task(3, seed)
        assert task.answer is not None
        if task.answer.startswith("=SUMIF("):
            where, key, what = task.answer[7:-1].split(",")
            sheet = task.grade.lists[0]  # type: ignore[union-attr]
            letters = ["ABCDE"[sheet.names.index(name)] for name in (where, what)]
            cells = [f"${letter}$2:{letter}{sheet.last}" for letter in letters]
            for group, numbers in (where, what), cells:
                assert EXCEL_CELL.grade(task, f"=SUMPRODUCT(({group}={key})*{numbers})").success
            for group, numbers in (where.upper(), what), cells, [f"{letter}:{letter}" for letter in letters]:
                assert EXCEL_CELL.grade(task, f"=SUMIF({group},{key},{numbers})").success
            assert EXCEL_CELL.grade(task, f"= sumifs({what}, {where}, {key.lower()})").success
            assert not EXCEL_CELL.grade(task, f"=SUMIF({where},{key})").success


def test_voices_share_no_words_and_are_told_apart() -> None:
    phrases = [phrase for kind in PHRASES.values() for phrase in kind]
    assert len(set(phrases)) == len(phrases) and len(set(FRAMES)) == len(FRAMES)
    assert {len(kind) for kind in PHRASES.values()} == {len(FRAMES)}
    assert set(PHRASES) == {kind for level in LEVELS for kind in level}
    slots = {"q": "units", "p": "prices", "g": "region", "h": "product", "k": "North", "j": "Nails", "n": 4}
    for kind in PHRASES:
        for number in range(len(FRAMES)):
            assert voice_of(asked(kind, number, **slots)) == number


@pytest.mark.parametrize("secret", [b"a", b"b" * 32, b""])
def test_no_two_splits_of_a_run_share_a_voice(secret: bytes) -> None:
    office = suite("office").keyed(secret).opened()
    voices = {
        split: {
            voice(task.prompt)
            for task in office.sample(split, [("office/excel_cell", level) for level in (1, 2, 3, 4)] * 25, 1)
        }
        for split in SPLITS
    }
    assert all(voices.values()) and None not in set.union(*voices.values())
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or not voices[one] & voices[other]
    assert len(voices["train"]) > 5
    assert all(
        office.split_of(task.prompt) == "gate"
        for task in office.sample("gate", [("office/excel_cell", 1)] * 9)
    )


def test_which_voices_are_sealed_is_the_secrets_business() -> None:
    families = EXCEL_CELL.families
    assert families is not None
    sealed = {
        tuple(sorted(name for name, split in families.splits(bytes([number])).items() if split == "sealed"))
        for number in range(20)
    }
    assert len(sealed) > 10


def test_a_block_and_errors_are_no_answers() -> None:
    assert Block([1.0], (1, 1)).shape == (1, 1)
    with pytest.raises(FormulaError, match="one value"):
        value("=A1:B2")
