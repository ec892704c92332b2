"""The native block of experts: shapes, errors, and the same numbers however many threads compute them."""

from __future__ import annotations

import random
from array import array

import pytest

from moevolve import _native
from moevolve.errors import UsageError

HIDDEN, INTERMEDIATE, EXPERTS, TOKENS = 32, 16, 4, 5


def numbers(count: int, seed: int) -> array[float]:
    draw = random.Random(seed)
    return array("f", (draw.uniform(-1, 1) for _ in range(count)))


def block(
    *, threads: int = 1, precision: str = "f32", chosen: int = 2, hidden: int = HIDDEN
) -> _native.MoeLayer:
    return _native.MoeLayer(
        numbers(EXPERTS * HIDDEN, 1),
        numbers(EXPERTS, 2),
        numbers(EXPERTS * 2 * INTERMEDIATE * HIDDEN, 3),
        numbers(EXPERTS * HIDDEN * INTERMEDIATE, 4),
        hidden=hidden,
        intermediate=INTERMEDIATE,
        chosen=chosen,
        precision=precision,
        threads=threads,
    )


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_outputs_do_not_depend_on_threads_or_neighbours(precision: str) -> None:
    x = numbers(TOKENS * HIDDEN, 5)
    one = block(precision=precision)
    out = one.forward(x)
    assert one.precision == precision
    assert out.shape == (TOKENS, HIDDEN)
    assert block(precision=precision, threads=3).forward(x).tolist() == out.tolist()
    assert one.forward(x[:HIDDEN]).tolist() == out.tolist()[:1]


def test_bf16_lies_near_f32() -> None:
    x = numbers(TOKENS * HIDDEN, 5)
    exact, near = block().forward(x).tolist(), block(precision="bf16").forward(x).tolist()
    pairs = [(a, b) for row, other in zip(exact, near, strict=True) for a, b in zip(row, other, strict=True)]
    assert any(a != b for a, b in pairs)
    assert max(abs(a - b) for a, b in pairs) < 0.02 * max(abs(a) for a, _ in pairs)


def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="f32, bf16 or fastest"):
        block(precision="f16")
    with pytest.raises(UsageError, match=r"chosen lies in \[1, 4\]"):
        block(chosen=5)
    with pytest.raises(UsageError, match="router is 256 contiguous floats"):
        block(hidden=64)
    with pytest.raises(UsageError, match="x is 32 contiguous floats"):
        block().forward(numbers(HIDDEN + 1, 5))
