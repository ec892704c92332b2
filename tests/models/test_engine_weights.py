"""Weights that stay as their file has them, through the engine as people load it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from moevolve.errors import UsageError
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.decoder import Decoder
from moevolve.models.engine import Engine
from moevolve.protocol.training import Example

PROMPTS = ["rev:abc=", "add:12+7="]


@pytest.fixture(scope="module")
def stored() -> Engine:
    return Engine.load(seed_checkpoint(), weights="stored", threads=1)


def test_they_answer_as_trainable_ones(stored: Engine) -> None:
    trainable = Engine.load(seed_checkpoint(), weights="trainable", threads=1)
    answers = [[samples.text for samples in engine.generate(PROMPTS)] for engine in (stored, trainable)]
    assert answers[0] == answers[1]
    assert stored.weights_hash == trainable.weights_hash


def test_a_step_is_refused_with_the_way_out(stored: Engine) -> None:
    with pytest.raises(UsageError, match='weights="trainable"'):
        stored.train([Example(tokens=[5, 6, 7], start=1)], 1e-3)


def test_a_precision_counts_in_training_alone() -> None:
    engines = [Engine.load(seed_checkpoint(), weights="stored", precision=name) for name in ("f32", "bf16")]
    assert [engine.precision for engine in engines] == ["f32", "bf16"]
    assert len({str(engine.generate(PROMPTS)) for engine in engines}) == 1
    example = Example(tokens=[5, 6, 7], start=1)
    norms = []
    for engine in engines:
        engine.adapt(4)
        norms.append(engine.train([example], 1e-3).gradient_norm)
    assert norms[0] != norms[1]
    assert norms[0] == pytest.approx(norms[1], rel=0.02)


def test_another_word_is_refused() -> None:
    with pytest.raises(UsageError, match="auto, trainable or stored"):
        Engine.load(seed_checkpoint(), weights="frozen")


def test_an_answer_ends_with_the_token_that_the_tokenizer_calls_so() -> None:
    """As in Llama 3's folders: texts end with any of three tokens, turns with the tokenizer's own."""

    def native(name: str | None, *eos: int) -> Any:
        special = {} if name is None else {"eos_token": name}
        encoded = {"<turn>": [9], "<text>": [1], "<other>": [5], "<parts>": [1, 9]}
        return SimpleNamespace(
            special=special, eos=[*eos], has_tokenizer=True, encode=lambda text, whole: encoded[text]
        )

    assert Decoder(native("<turn>", 1, 8, 9)).ending == [9]
    assert Decoder(native("<text>", 1, 8, 9)).ending == [1]
    assert Decoder(native("<other>", 1, 8, 9)).ending == [1]
    assert Decoder(native("<parts>", 1, 9)).ending == [1]
    assert Decoder(native(None, 8, 9)).ending == [8]
    assert Decoder(native("<turn>")).ending == []
