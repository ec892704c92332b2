"""Logits of golden checkpoints, and the tensors that carry them."""

from __future__ import annotations

import math

import pytest

from moevolve import _native
from moevolve.errors import UsageError


def test_logits_agree_with_transformers(golden, flat, far):
    engine = golden.load()
    ids = golden.expected["ids"]
    longest, vocabulary = max(map(len, ids)), golden.config["vocab_size"]
    tensor = engine.logits(ids)
    assert tensor.shape == (len(ids), longest, vocabulary)
    values = flat(tensor)
    for row, tokens in enumerate(ids):
        start = row * longest * vocabulary
        end = start + len(tokens) * vocabulary
        assert far(values[start:end], golden.arrays[f"logits.{row}"]) < 1e-4
        assert all(map(math.isnan, values[end : start + longest * vocabulary]))


def test_a_row_does_not_depend_on_its_neighbours(golden, flat):
    engine = golden.load()
    ids = golden.expected["ids"]
    together = flat(engine.logits([ids[1], ids[1], ids[0]]))
    alone = flat(engine.logits([ids[1]]))
    assert together[: len(alone)] == alone
    assert together[len(alone) : 2 * len(alone)] == alone


def test_logits_do_not_depend_on_threads(golden, flat):
    ids = golden.expected["ids"][:2]
    one, two = flat(golden.load(1).logits(ids)), flat(golden.load(2).logits(ids))
    assert [x for x in one if x == x] == [x for x in two if x == x]


def test_tensor_is_a_float_buffer(goldens):
    tensor = goldens["plain"].load().logits([[5, 6, 7]])
    view = memoryview(tensor)
    assert view.format == "f"
    assert view.shape == (1, 3, 64)
    assert view.c_contiguous
    assert view.tolist() == tensor.tolist()


def test_tensor_outlives_its_engine(goldens):
    view = memoryview(goldens["plain"].load().logits([[5, 6, 7]]))
    rows: list[list[float]] = view.tolist()[0]  # type: ignore[assignment]
    assert math.isfinite(sum(map(sum, rows)))


@pytest.mark.parametrize("ids", [[[64]], [[-1]], [[5, 1_000_000]]])
def test_a_token_outside_the_vocabulary_is_named(goldens, ids):
    with pytest.raises((UsageError, ValueError, OverflowError)):
        goldens["plain"].load().logits(ids)


@pytest.mark.parametrize("ids", [[], [[]], [[1], []]])
def test_empty_rows_do_no_harm(goldens, ids):
    engine = goldens["plain"].load()
    try:
        tensor = engine.logits(ids)
    except (UsageError, ValueError):
        return
    assert tensor.shape[0] == len(ids)


def test_the_engine_describes_itself(golden):
    engine = golden.load()
    shapes = golden.tensors
    assert engine.parameters == sum(
        math.prod(shape) for name, shape in shapes.items() if not name.endswith("e_score_correction_bias")
    )
    assert engine.vocab_size == golden.config["vocab_size"]
    assert engine.threads == 1
    assert engine.isa in ("avx512bf16", "avx512", "avx2", "scalar")
    assert engine.precision == "f32"
    assert engine.has_tokenizer == (golden.name == "text")
    assert engine.eos == ([1] if golden.name == "text" else [])
    assert isinstance(engine, _native.Engine)
