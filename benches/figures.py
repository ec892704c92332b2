"""What the house is worth in figures, in one command: before and after a change, on one machine, in one run.

    python benches/figures.py --write benches/figures.json                 # this checkout's figures, kept in a file
    python benches/figures.py --against ../before --model MODEL.gguf       # both checkouts in turns, with ratios

Measured are a training step and batch-64 generation of the shipped seed, decoding and a prompt of 512 tokens of a real model
(a GGUF file, such as SmolLM2's or what `moe_model.py --write` makes, where `--model` names it), `serve` under 64 clients,
and a quickstart of some minutes: its cycles, and the share of its time in which neither engine nor grader works. Each
checkout measures itself by its own copy of this file in processes of its own, so that `--against` needs no common interface;
it must be built (`make build`).
The processes of the first four figures live side by side and take turns call by call, since a machine may be half as fast a
minute later; their ratio is the median of those of neighbouring calls.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
CALLS = {"train": 12, "generate": 50, "decode": 3, "prompt": 3}
"""Figures that take turns call by call, with their calls in a round."""
PAUSE = 0.05
"""Seconds before a call: threads of the side before may look for work a little longer."""
ENGINE = ("moevolve/models/", "moevolve/learning/")
"""Where Python stands while the engine computes: parts of file names."""
GRADER = ("moevolve/tasks/", "moevolve/rollouts/grader.py")
"""Checks in this process, and the wait for the process that grades answers."""


def best(repeat: Any, count: int, tokens: int) -> float:
    """Tokens a second of the fastest of some repetitions, after one that warms up."""
    repeat()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        repeat()
        times.append(time.perf_counter() - began)
    return tokens / min(times)


def train() -> float:
    """Tokens a second of training steps of the shipped seed: 128 sequences of 40 tokens, 4 to 12 of them answers."""
    from moevolve.protocol.training import Example

    engine = _seed()
    vocabulary = engine.vocab_size
    rows = [[(7 * row + 13 * at) % vocabulary for at in range(40)] for row in range(128)]
    batch = [Example(tokens=ids, start=36 - index % 9) for index, ids in enumerate(rows)]
    return best(lambda: engine.train(batch, 1e-4), 8, 128 * 40)


def generate() -> float:
    """New tokens a second of greedy generation: 64 prompts of 16 tokens, 32 new ones each."""
    from moevolve.protocol.sampling import Sampling, TokenRequest

    engine = _seed()
    vocabulary, sampling = engine.vocab_size, Sampling(max_tokens=32, temperature=0.0)
    requests = [
        TokenRequest([(7 * row + 13 * at) % vocabulary for at in range(16)], sampling, [row])
        for row in range(64)
    ]
    drawn = sum(len(samples.tokens) for samples in engine.complete(requests))
    return best(lambda: engine.complete(requests), 10, drawn)


def ids_of(engine: Any, text: str) -> list[int]:
    """A text's tokens, or as many of the first as it has words, where a file has no tokenizer."""
    from moevolve.errors import UsageError

    try:
        return engine.encode(text, whole=False)
    except UsageError:
        return list(range(1, 1 + len(text.split())))


def decode(model: str) -> float:
    """Tokens a second of one request after another."""
    from moevolve.models.engine import Engine

    engine = Engine.load(model, threads=2)
    ids = ids_of(engine, "The sea is wide and the sky above it is blue; the ships that sail there")
    drawn = len(list(engine.stream(ids, max_tokens=64)))
    return best(lambda: list(engine.stream(ids, max_tokens=64)), 4, drawn)


def prompt(model: str) -> float:
    """Tokens a second of reading a prompt of 512."""
    from moevolve.models.engine import Engine

    engine = Engine.load(model, threads=2)
    ids = ids_of(engine, "The sea is wide and the sky above it is blue; the ships sail there. " * 64)[:512]
    return best(lambda: next(iter(engine.stream(ids, max_tokens=1)), None), 4, 512)


def serve() -> dict[str, float]:
    """`benches/serve.py` for 20 seconds: tokens a second of 64 clients, and of one."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "benches/serve.py")], stdout=subprocess.PIPE, text=True, check=True
    )
    return {
        name: float(re.search(rf"^{words} +([\d,]+) tokens/s", run.stdout, re.M)[1].replace(",", ""))  # type: ignore[index]
        for name, words in (("serve 64", "64 +clients"), ("serve 1", "one client"))
    }


def quickstart(minutes: float, seed: int) -> dict[str, float]:
    """A quickstart of some minutes: cycles, scores, and the share of its time in which neither engine nor grader works."""
    from moevolve.config import Config
    from moevolve.journal.store import RunStore
    from moevolve.loop import run as runs
    from moevolve.report.optimisation import figures_of

    seen: Counter[str] = Counter()
    ended = threading.Event()

    def watch() -> None:
        me = threading.get_ident()
        while not ended.wait(0.01):
            seen[_doing([frame for thread, frame in sys._current_frames().items() if thread != me])] += 1

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        config = Config.load("quickstart").override(seed=seed, minutes=minutes, cycles=None, arm=None)
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        runs.start(config, out)
        ended.set()
        watcher.join()
        with RunStore.open(out) as store:
            shown = figures_of(store)
    score, tokens = shown["score"], shown["tokens"]
    return {
        "quickstart cycles": shown["cycles"],
        "quickstart tokens a second": (tokens["generated"] + tokens["trained"]) / shown["seconds"],
        "quickstart seconds": shown["seconds"],
        "quickstart gain": score["final"] - score["initial"],
        "outside engine and grader": seen["other"] / max(1, seen.total()),
    }


def _doing(frames: list[Any]) -> str:
    """What this process does: the engine's work where any thread waits for it, else the grader's, else other things."""
    places = [_innermost(frame) for frame in frames]
    if any(part in place for place in places for part in ENGINE):
        return "engine"
    return "grader" if any(part in place for place in places for part in GRADER) else "other"


def _innermost(frame: Any) -> str:
    while frame is not None:
        name = frame.f_code.co_filename
        if "/moevolve/" in name:
            return str(name)
        frame = frame.f_back
    return ""


def _seed() -> Any:
    from moevolve.models.checkpoint import seed_checkpoint
    from moevolve.models.engine import Engine

    return Engine.load(seed_checkpoint(), threads=2, precision="fastest")


# ---------------------------------------------------------------------- both sides


def ask(checkout: Path, figure: str, *arguments: str) -> Any:
    """What a checkout measures of itself, in a process of its own."""
    command = [sys.executable, str(checkout / "benches/figures.py"), "--worker", figure, *arguments]
    run = subprocess.run(command, env=environment(checkout), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def environment(checkout: Path) -> dict[str, str]:
    """The environment in which a checkout's package is imported."""
    return os.environ | {
        "PYTHONPATH": f"{checkout / 'python'}:{checkout / 'tui'}",
        "RAYON_NUM_THREADS": "2",
    }


class Side:
    """A process that makes one call of a figure, by its checkout's copy of this file, whenever it is told to."""

    def __init__(self, checkout: Path, figure: str, more: list[str]) -> None:
        self.name = f"{figure} of {checkout}"
        command = [sys.executable, __file__, "--turns", str(checkout / "benches/figures.py"), figure, *more]
        self.process = subprocess.Popen(
            command, env=environment(checkout), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self) -> float:
        """Tokens a second of one call."""
        assert self.process.stdin is not None and self.process.stdout is not None
        time.sleep(PAUSE)
        print(file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: it ended with {self.process.wait()}")
        return float(line)

    def close(self) -> None:
        self.process.communicate()


def take_turns(file: str, figure: str, *arguments: str) -> None:
    """Makes a call of a figure for each line that is read, and writes its tokens a second."""
    spec = importlib.util.spec_from_file_location("measured", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def answer(repeat: Any, count: int, tokens: int) -> float:
        repeat()
        for _ in sys.stdin:
            began = time.perf_counter()
            repeat()
            print(tokens / (time.perf_counter() - began), flush=True)
        return 0.0

    vars(module)["best"] = answer
    getattr(module, figure)(*arguments)


def measure(sides: dict[str, Path], options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """side -> figure -> its values, round by round; the sides take turns."""
    found: dict[str, dict[str, list[float]]] = {side: {} for side in sides}

    def note(side: str, figure: str, value: float) -> None:
        found[side].setdefault(figure, []).append(value)
        print(f"  {side}: {figure} {value:,.4g}", file=sys.stderr, flush=True)

    for figure, calls in CALLS.items():
        more = [options.model] if figure in ("decode", "prompt") else []
        if None in more:
            continue
        workers = {side: Side(checkout, figure, more) for side, checkout in sides.items()}
        for number in range(options.rounds * calls):
            order = list(workers.items())
            for side, worker in order if number % 2 == 0 else order[::-1]:
                found[side].setdefault(figure, []).append(worker.call())
        for side, worker in workers.items():
            worker.close()
            values = found[side][figure]
            print(f"  {side}: {figure} {statistics.median(values):,.4g}", file=sys.stderr, flush=True)
    for number in range(options.serve_rounds):
        for side, checkout in list(sides.items())[:: 1 if number % 2 == 0 else -1]:
            for figure, value in ask(checkout, "serve").items():
                note(side, figure, value)
    if options.minutes:
        for side, checkout in sides.items():
            for figure, value in ask(checkout, "quickstart", str(options.minutes), "21").items():
                note(side, figure, value)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--against", type=Path, help="another built checkout, measured in turns with this one"
    )
    parser.add_argument("--model", help="a GGUF file, such as SmolLM2's, for `decode` and `prompt`")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--serve-rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=5.0, help="of quickstart; 0 leaves it out")
    parser.add_argument("--write", type=Path, help="file for the figures as JSON")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--turns", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turns:
        take_turns(*options.turns)
        return 0
    if options.worker:
        figure, *arguments = options.worker
        calls: dict[str, Any] = {"train": train, "generate": generate, "serve": serve}
        calls |= {"decode": decode, "prompt": prompt}
        if figure == "quickstart":
            print(json.dumps(quickstart(float(arguments[0]), int(arguments[1]))))
        else:
            print(json.dumps(calls[figure](*arguments)))
        return 0
    sides = {"this": ROOT}
    if options.against is not None:
        sides = {"before": options.against.resolve(), "this": ROOT}
    found = measure(sides, options)
    medians = {
        side: {figure: statistics.median(values) for figure, values in figures.items()}
        for side, figures in found.items()
    }
    for figure, value in medians["this"].items():
        line = f"{figure:<28}{value:>14,.4g}"
        if "before" in medians and figure in medians["before"]:
            before, ratio = medians["before"][figure], value / medians["before"][figure]
            if figure in CALLS:
                pairs = zip(found["this"][figure], found["before"][figure], strict=True)
                ratio = statistics.median(this / other for this, other in pairs)
            line += f"{before:>14,.4g} before{ratio:>9.3f}x"
        print(line)
    if options.write:
        record = {
            "date": date.today().isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "command": "python " + " ".join(["benches/figures.py", *sys.argv[1:]]),
            "figures": medians,
            "rounds": found,
        }
        options.write.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
