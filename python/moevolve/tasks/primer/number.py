"""The primer's number branch: arithmetic on digits, and counting."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate
from random import Random

from moevolve.tasks.skill import Skill
from moevolve.tasks.task import Task

DIGITS = "0123456789"
FILLERS = "ovz"
"""What stands between the counted x. More than one letter, so that no count has only a handful of prompts."""


def number(rng: Random, digits: int) -> int:
    """A number of exactly so many digits; 0 counts as one digit."""
    return rng.randrange(0 if digits == 1 else 10 ** (digits - 1), 10**digits)


def operands(rng: Random, level: int) -> tuple[int, int]:
    """Two numbers of `level + 2` digits in all, the first as long as the second or one digit longer."""
    digits = level + 2
    return number(rng, digits - digits // 2), number(rng, digits // 2)


def add(rng: Random, level: int) -> Task:
    first, second = operands(rng, level)
    return Task(prompt=f"add:{first}+{second}=", answer=str(first + second))


def subtract(rng: Random, level: int) -> Task:
    second, first = sorted(operands(rng, level))
    return Task(prompt=f"sub:{first}-{second}=", answer=str(first - second))


def compare(rng: Random, level: int) -> Task:
    """Two numbers of equal length, else length alone would tell; on even levels they begin alike."""
    digits = 2 + (level - 1) // 2
    first = str(number(rng, digits))
    shared = rng.randrange(1, digits) if level % 2 == 0 else 0
    second = first
    while second == first:
        rest = str(number(rng, digits)) if shared == 0 else "".join(rng.choices(DIGITS, k=digits - shared))
        second = first[:shared] + rest
    return Task(prompt=f"cmp:{first},{second}=", answer=max(first, second))


def count(rng: Random, level: int) -> Task:
    """The number of x is even over its range, so that no answer is likelier than another."""
    size = level + 5
    wanted = rng.randint(0, size - 2)
    payload = ["x"] * wanted + rng.choices(FILLERS, k=size - wanted)
    rng.shuffle(payload)
    return Task(prompt=f"cnt:{''.join(payload)}=", answer=str(wanted))


def parity(rng: Random, level: int) -> Task:
    """`3719` -> `1010`: the parity of 3, of 3+7, of 3+7+1, of 3+7+1+9.

    Digits rather than bits, because three bits make no more than eight prompts.
    """
    payload = rng.choices(DIGITS, k=level + 2)
    total = 0
    answer = ""
    for digit in payload:
        total += int(digit)
        answer += str(total % 2)
    return Task(prompt=f"par:{''.join(payload)}=", answer=answer)


def _truth(form: str, work: Callable[..., str]) -> Callable[[str], str | None]:
    """The right answer to prompts of a form, by what its groups say."""
    pattern = re.compile(form)

    def truth(prompt: str) -> str | None:
        found = pattern.fullmatch(prompt)
        return work(*found.groups()) if found else None

    return truth


def _parities(digits: str) -> str:
    return "".join(str(total % 2) for total in accumulate(map(int, digits)))


TRUTHS = {
    "add": _truth(r"add:(\d+)\+(\d+)=", lambda first, second: str(int(first) + int(second))),
    "sub": _truth(r"sub:(\d+)-(\d+)=", lambda first, second: str(int(first) - int(second))),
    "cmp": _truth(r"cmp:(\d+),(\d+)=", lambda first, second: str(max(first, second, key=int))),
    "cnt": _truth(rf"cnt:([x{FILLERS}]+)=", lambda text: str(text.count("x"))),
    "par": _truth(r"par:(\d+)=", _parities),
}

NUMBER = (
    Skill(
        path="number/add",
        verb="add",
        summary="add two numbers",
        generator=add,
        alphabet=DIGITS,
        truth=TRUTHS["add"],
    ),
    Skill(
        path="number/subtract",
        verb="sub",
        summary="subtract the smaller number from the larger",
        generator=subtract,
        alphabet=DIGITS,
        truth=TRUTHS["sub"],
    ),
    Skill(
        path="number/compare",
        verb="cmp",
        summary="name the larger of two numbers",
        generator=compare,
        alphabet=DIGITS,
        truth=TRUTHS["cmp"],
    ),
    Skill(
        path="number/count",
        verb="cnt",
        summary="count the x",
        generator=count,
        alphabet=DIGITS,
        truth=TRUTHS["cnt"],
    ),
    Skill(
        path="number/parity",
        verb="par",
        summary="parity of the digits' sum so far, digit by digit",
        generator=parity,
        alphabet="01",
        truth=TRUTHS["par"],
    ),
)
