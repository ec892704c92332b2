"""Quantised models compute what llama.cpp computes, bit by bit: golden values of llama.cpp on x86 with AVX-512."""

from __future__ import annotations

import base64
import json
import platform
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from requests_of import request

from moevolve import _native
from moevolve.protocol.training import Example

CASES = json.loads((Path(__file__).parents[1] / "fixtures" / "ggml.json").read_text())
# Sines, cosines and a few exponentials are the C library's, there and here.
pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"),
    reason="the golden values hold for glibc on x86-64",
)


@pytest.fixture(
    scope="module", params=CASES, ids=lambda case: f"{case['config']['model_type']}-{case['format']}"
)
def case(request, tmp_path_factory) -> tuple[_native.Engine, list[dict[str, Any]]]:
    case = request.param
    file = tmp_path_factory.mktemp("ggml") / "model.gguf"
    _native.Engine.create(json.dumps(case["config"]), None, case["seed"], 1).save(file, case["format"])
    return _native.Engine.load(file, 2), case["said"]


def test_logits_are_llama_cpps_bit_by_bit(case):
    engine, said = case
    for one in said:
        found = memoryview(engine.logits([one["prompt"]]))
        last = [found[0, len(one["prompt"]) - 1, i] for i in range(engine.vocab_size)]
        assert struct.pack(f"<{len(last)}f", *last) == base64.b64decode(one["logits"])


def test_greedy_texts_are_llama_cpps(case):
    engine, said = case
    requests = [request(one["prompt"], [0], 24, 0.0) for one in said]
    # All at once: who else is read in the same rounds changes nothing.
    for one, (sample,) in zip(said, engine.generate(requests), strict=True):
        assert sample.tokens == one["tokens"]


def test_a_drawn_token_has_the_probability_that_the_whole_text_gives_it(case):
    engine, said = case
    prompt = said[2]["prompt"]
    (sample,) = engine.generate([request(prompt, [3], 12)])[0]
    whole = Example(tokens=prompt + sample.tokens, start=len(prompt))
    assert engine.logprobs([whole])[0] == pytest.approx(sample.logprobs, abs=1e-5)
