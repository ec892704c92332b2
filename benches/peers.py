"""Evaluations a second of an optimisation run, and what each costs beyond the evaluator, beside other frameworks.

One problem for all: a program of 2 KB, a scripted proposer that changes one constant of it, an evaluator that sleeps (or
computes) for 10 ms. Systems are measured in turn, round by round; a rate is taken from the evaluations' own times, without
the start, and processor time from the difference of a long and a short run. The floor is a loop that calls the evaluator
itself. Only ours isolates an evaluation: a process of its own, namespaces, limits.

    python benches/peers.py [--rounds 3] [--kind sleep|burn] [--require] [--python /tmp/peers/bin/python]

Peers are no dependency; give them an environment of their own: `pip install openevolve==0.4.1 gepa==0.1.4
shinka-evolve==0.0.7`. Without `--python` they are left out. ShinkaEvolve starts an interpreter for each evaluation and makes
some six a second, so it is given few; its evaluator writes both results files itself, since with `run_shinka_eval` each
evaluation takes seconds. It and OpenEvolve get the scripted proposer as a model's server, gepa as a function.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

import msgspec

from moevolve.loop.optimise import run
from moevolve.loop.optimise.settings import settings
from moevolve.loop.optimise.workers import Workers
from moevolve.records import Entry, Rated
from moevolve.tasks.evaluators import folder as folders
from moevolve.tasks.evaluators.folder import EvaluatorFolder
from promises import Row, told

WARM = 50
"""Evaluations at a run's beginning that no rate counts."""
BLOCK = 300
PROGRAM = "# EVOLVE-BLOCK-START\nX = 100\n# EVOLVE-BLOCK-END\n" + "".join(
    f"\ndef helper_{n}(value):\n    return value * {n} + 1\n" for n in range(40)
)
WORK = {
    "sleep": "time.sleep(0.01)",
    "burn": "end = time.thread_time() + 0.01\n    while time.thread_time() < end: pass",
}
EVALUATOR = """
import os, time

LOG = {log!r}


def evaluate(path):
    space = {{}}
    with open(path) as file:
        exec(file.read(), space)
    {work}
    if LOG:
        with open(LOG, "a") as file:
            file.write(f"{{time.time()}}\\n")
    return {{"combined_score": 1 / (1 + abs(float(space["X"]) - 777))}}
"""
PROPOSER = """
import re, time


def propose(brief, rng):
    if {seconds}:
        began = time.perf_counter()
        time.sleep({seconds})
        with open(__file__ + ".thought", "a") as file:
            file.write(f"{{time.perf_counter() - began}}\\n")
    return re.sub("X = .*", f"X = {{rng.randrange(10**9) / 10**6}}", brief.parent, count=1)
"""
GEPA = """
import random, re, sys
sys.path.insert(0, {folder!r})
import evaluator, tempfile
from gepa.optimize_anything import EngineConfig, GEPAConfig, ReflectionConfig, optimize_anything

rng = random.Random(1)
path = tempfile.mktemp()


def score(candidate):
    text = candidate if isinstance(candidate, str) else next(iter(candidate.values()))
    open(path, "w").write(text)
    return evaluator.evaluate(path)["combined_score"]


def model(prompt):
    prompt = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return "```\\n" + re.sub("X = .*", f"X = {{rng.randrange(10**9) / 10**6}}", {program!r}, count=1) + "\\n```"


optimize_anything(
    seed_candidate={program!r},
    evaluator=score,
    objective="find X",
    config=GEPAConfig(
        engine=EngineConfig(max_metric_calls={n}, seed=1), reflection=ReflectionConfig(reflection_lm=model)
    ),
)
"""
OPENEVOLVE = """
max_iterations: {n}
checkpoint_interval: 100000
random_seed: 1
llm:
  api_base: "{url}/v1"
  api_key: none
  models: [{{name: scripted, weight: 1.0}}]
database: {{population_size: 1000}}
evaluator: {{cascade_evaluation: false, parallel_evaluations: {workers}, timeout: 20}}
"""


SHINKA = """
import json, sys
from pathlib import Path

sys.path.insert(0, {folder!r})
import evaluator

given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
results = Path(given["--results_dir"])
results.mkdir(parents=True, exist_ok=True)
score = evaluator.evaluate(given["--program_path"])["combined_score"]
(results / "metrics.json").write_text(json.dumps({{"combined_score": score, "public": {{}}, "private": {{}}}}))
(results / "correct.json").write_text(json.dumps({{"correct": True, "error": None}}))
"""

SHORT = 100
"""Evaluations of the short run that the start's processor time is taken from."""
FEW, FEWER = 40, 12
"""ShinkaEvolve's evaluations, and those of its short run."""


class Measured(msgspec.Struct):
    """One run: evaluations a second, and processor seconds of everything."""

    rate: float
    seconds: float
    evaluations: int
    stamps: list[float] = []


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--long", type=int, default=5000, help="evaluations of the long run; 0 leaves it out")
    parser.add_argument("--kind", choices=WORK, default="sleep")
    parser.add_argument("--python", type=Path, help="an interpreter that has the peers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require", action="store_true", help="exit 1 where a promise is not kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, model() as url:
        bench = Bench(Path(scratch), options.kind, url, options.python)
        systems: dict[str, Callable[[int], Measured]] = {
            "direct call": bench.direct,
            "ours, 1 worker": lambda n: bench.ours(n, 1),
            "ours, 2 workers": lambda n: bench.ours(n, 2),
        }
        if options.python is not None:
            systems["openevolve, 1 worker"] = lambda n: bench.openevolve(n, 1)
            systems["openevolve, 2 workers"] = lambda n: bench.openevolve(n, 2)
            systems["gepa"] = bench.gepa
            systems["shinka, 1 worker"] = lambda n: bench.shinka(n, 1)
            systems["shinka, 2 workers"] = lambda n: bench.shinka(n, 2)
        found: dict[str, list[Measured]] = {name: [] for name in systems}
        for _ in range(options.rounds):
            for name, measure in systems.items():
                found[name].append(measure(options.evaluations))
        rate = {name: median(each.rate for each in runs) for name, runs in found.items()}
        cpu = {}
        for name, runs in found.items():
            brief = [systems[name](SHORT) for _ in range(options.rounds)]
            less = median(each.seconds for each in brief) if name != "direct call" else 0.0
            fewer = brief[0].evaluations if name != "direct call" else 0
            cpu[name] = median((each.seconds - less) / (each.evaluations - fewer) * 1e3 for each in runs)
        if not options.json:
            for name in systems:
                print(f"{name:<24}{rate[name]:>8.1f} /s{cpu[name]:>8.2f} ms of processor time an evaluation")
        rows = [
            ratio("rate of a worker over the direct call's", "ours, 1 worker", "direct call", found, 0.8),
            ratio("two workers over one", "ours, 2 workers", "ours, 1 worker", found, 1.9),
            Row(
                "processor time beyond the evaluator, ms",
                cpu["ours, 1 worker"] - cpu["direct call"],
                3.0,
                True,
            ),
        ]
        if options.long:
            stamps = bench.ours(options.long, 2).stamps
            blocks = [
                BLOCK / (stamps[at + BLOCK] - stamps[at]) for at in range(0, len(stamps) - BLOCK, BLOCK)
            ]
            note = f"{blocks[0]:.0f} to {blocks[-1]:.0f} /s over {options.long} evaluations"
            rows.append(Row("last block over the first", blocks[-1] / blocks[0], 0.9, False, note))
        seconds = 0.25
        began = time.perf_counter()
        bench.ours(60, 1, thinks=seconds)
        wall = time.perf_counter() - began
        share = 1 - (bench.thought() + 60 * median(1 / each.rate for each in found["direct call"])) / wall
        rows.append(
            Row(
                "share outside of evaluator and model",
                share,
                0.05,
                True,
                f"a model of {seconds:g} s",
            )
        )
        return told(rows, options.json, options.require)


def ratio(name: str, of: str, to: str, found: dict[str, list[Measured]], bound: float) -> Row:
    """The median over rounds of two systems' rates against each other."""
    values = [mine.rate / other.rate for mine, other in zip(found[of], found[to], strict=True)]
    return Row(name, median(values), bound, False, f"{min(values):.2f} to {max(values):.2f}")


class Bench:
    """The problem in folders of every kind, and one run of each system on it."""

    def __init__(self, scratch: Path, kind: str, url: str, python: Path | None) -> None:
        self._scratch = scratch
        self._work = WORK[kind]
        self._url = url
        self._python = python
        self._runs = 0

    def _folder(self, log: str = "") -> Path:
        self._runs += 1
        path = self._scratch / f"problem{self._runs}"
        path.mkdir()
        (path / "initial_program.py").write_text(PROGRAM)
        (path / "evaluator.py").write_text(EVALUATOR.format(work=self._work, log=log))
        return path

    def direct(self, n: int) -> Measured:
        """A loop that writes a program and calls the evaluator."""
        path, rng = self._folder(), random.Random(1)
        space: dict[str, object] = {}
        exec((path / "evaluator.py").read_text(), space)
        evaluate = space["evaluate"]
        assert callable(evaluate)
        began, used = time.perf_counter(), spent()
        for _ in range(n):
            (path / "candidate.py").write_text(
                re.sub("X = .*", f"X = {rng.random() * 1000}", PROGRAM, count=1)
            )
            evaluate(str(path / "candidate.py"))
        return Measured(n / (time.perf_counter() - began), spent() - used, n)

    def ours(self, n: int, workers: int, thinks: float = 0.0) -> Measured:
        """One run of ours."""
        path = self._folder()
        proposer = path / "propose.py"
        proposer.write_text(PROPOSER.format(seconds=thinks))
        folder: EvaluatorFolder = folders.openevolve(path)
        given = {"evaluations": n, "proposers": [str(proposer)], "in_flight": 4 if not thinks else 1}
        stamps: list[float] = []

        def seen(entry: Entry) -> None:
            if isinstance(entry.record, Rated):
                stamps.append(time.perf_counter())

        inside: list[float] = []
        close = Workers.close

        def closed(self: Workers) -> None:
            inside.append(self.cpu)
            close(self)

        Workers.close = closed  # type: ignore[method-assign]
        try:
            used = spent(own=True)
            run.start(folder, settings(folder, given), path / "run", seen, workers=workers)
            own = spent(own=True) - used
        finally:
            Workers.close = close  # type: ignore[method-assign]
        warm = min(WARM, n // 2)
        rate = (len(stamps) - warm - 1) / (stamps[-1] - stamps[warm])
        return Measured(rate, own + inside[0], n, stamps)

    def thought(self) -> float:
        """Seconds that the proposer of the newest run has taken; a program that is evaluated afresh needs none."""
        said = self._scratch / f"problem{self._runs}" / "propose.py.thought"
        return sum(map(float, said.read_text().split()))

    def openevolve(self, n: int, workers: int) -> Measured:
        """OpenEvolve, its model a server that answers at once."""
        log = self._scratch / f"log{self._runs}"
        path = self._folder(str(log))
        (path / "config.yaml").write_text(OPENEVOLVE.format(n=n, url=self._url, workers=workers))
        script = "from openevolve.cli import main; import sys; sys.exit(main())"
        words = ["initial_program.py", "evaluator.py", "-c", "config.yaml", "-i", str(n), "-o", "out"]
        return self._peer([str(self._python), "-c", script, *words], path, log)

    def gepa(self, n: int) -> Measured:
        """gepa's optimize_anything, its model a function."""
        log = self._scratch / f"log{self._runs}"
        path = self._folder(str(log))
        script = GEPA.format(folder=str(path), program=PROGRAM, n=n)
        return self._peer([str(self._python), "-c", script], path, log)

    def shinka(self, n: int, workers: int) -> Measured:
        """ShinkaEvolve from its command line, its model the same server; nothing that needs embeddings or more models."""
        log = self._scratch / f"log{self._runs}"
        path = self._folder(str(log))
        (path / "initial.py").write_text(PROGRAM)
        (path / "evaluate.py").write_text(SHINKA.format(folder=str(path)))
        settings = {
            "evo.llm_models": json.dumps([f"local/scripted@{self._url}/v1"]),
            "evo.llm_dynamic_selection": "none",
            "evo.embedding_model": "none",
            "evo.meta_rec_interval": "none",
            "evo.patch_types": '["diff"]',
            "evo.patch_type_probs": "[1.0]",
            "job.python_executable": str(self._python),
        }
        script = "from shinka.cli.run import main; import sys; sys.exit(main())"
        words = ["--task-dir", str(path), "--results_dir", str(path / "out"), "--no-verbose"]
        words += ["--num_generations", str(FEWER if n <= SHORT else FEW)]
        words += ["--max-evaluation-jobs", str(workers), "--max-proposal-jobs", str(workers)]
        words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        return self._peer([str(self._python), "-c", script, *words], path, log, warm=FEWER // 4)

    def _peer(self, command: list[str], path: Path, log: Path, warm: int = WARM) -> Measured:
        used = spent()
        environment = {**os.environ, "OPENAI_API_KEY": "none"}
        done = subprocess.run(command, cwd=path, capture_output=True, text=True, check=False, env=environment)
        stamps = [float(line) for line in log.read_text().splitlines()] if log.exists() else []
        if len(stamps) < warm + 5:
            raise SystemExit(f"{command[1:3]} made {len(stamps)} evaluations:\n{done.stderr[-2000:]}")
        rate = (len(stamps) - warm - 1) / (stamps[-1] - stamps[warm])
        return Measured(rate, spent() - used, len(stamps), stamps)


def spent(*, own: bool = False) -> float:
    """Processor seconds of this process, and of those that it has waited for."""
    who = (resource.RUSAGE_SELF,) if own else (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


@contextmanager
def model() -> Iterator[str]:
    """A server whose model changes the constant in what it is shown."""
    rng = random.Random(1)

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            shown = re.findall(r"X = ([\d.]+)", asked)
            old, new = shown[-1] if shown else "100", rng.randrange(10**9) / 10**6
            edit = f"<<<<<<< SEARCH\nX = {old}\n=======\nX = {new}\n>>>>>>> REPLACE"
            # As ShinkaEvolve's prompt wants it; OpenEvolve reads the block wherever it stands.
            edit = f"<NAME>\nx\n</NAME>\n<DESCRIPTION>\nx\n</DESCRIPTION>\n<DIFF>\n{edit}\n</DIFF>"
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": edit}}
            body = json.dumps(
                {"id": "1", "object": "chat.completion", "model": "scripted", "choices": [choice]}
            )
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
