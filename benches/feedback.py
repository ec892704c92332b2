"""`moevolve serve --learn`: what clients' feedback does to a skill, and what one client's flood of false feedback does not.

Serves the shipped seed in a fresh folder. Clients ask tasks of one skill of the primer suite, train split, and correct the
answers; a learning cycle follows; the skill is measured on other tasks, dev split, through the server. Then the same in
another folder with one honest client and one that corrects everything into nonsense, several cycles long. With `--runs`
instead, what the skills of so many runs say of useful corrections, and of ones on which all agree and that spoil a skill.

    python benches/feedback.py
    python benches/feedback.py --runs 5
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/fixtures"))

from seed_run import run_of_the_seed  # noqa: E402

from moevolve.records import Gated  # noqa: E402
from moevolve.serve.deployed import opened  # noqa: E402
from moevolve.serve.interactions import Feedback, Interaction, Interactions  # noqa: E402
from moevolve.serve.learner import learn  # noqa: E402
from moevolve.tasks.suite import suite  # noqa: E402

CLIENTS = ("ann", "bob", "cid", "dan")
PRIMER = suite("primer")


class Server:
    """A server that learns, and its clients."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        tokens = " ".join(f"{name}=token-{name}" for name in (*names, "operator"))
        command = [sys.executable, "-m", "moevolve.cli.main", "serve", "--learn", str(folder), "--port", "0"]
        self._process = subprocess.Popen(
            [*command, "--json", "--token-env", "TOKENS"],
            env={**os.environ, "TOKENS": tokens},
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._url = json.loads(self._process.stdout.readline())["url"]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def call(self, client: str, path: str, body: Any = None, method: str = "POST") -> Any:
        request = urllib.request.Request(
            self._url + path,
            data=None if method == "GET" else json.dumps(body or {}).encode(),
            headers={"authorization": f"Bearer token-{client}", "content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def answer(self, client: str, prompts: list[str]) -> list[dict[str, Any]]:
        """One likeliest answer a prompt."""
        asked = [{"prompt": prompt, "temperature": 0, "max_tokens": 24} for prompt in prompts]
        return [self.call(client, "/v1/completions", body) for body in asked]

    def accuracy(self, skill: str, level: int, count: int = 200) -> float:
        """Share of dev tasks that are answered rightly."""
        tasks = PRIMER.sample("dev", [(skill, level)] * count, "feedback bench")
        answers = self.answer("operator", [task.prompt for task in tasks])
        right = [
            PRIMER.grade(task, answer["choices"][0]["text"]).success
            for task, answer in zip(tasks, answers, strict=True)
        ]
        return sum(right) / count

    def teach(self, client: str, skill: str, level: int, count: int, truth: Callable[[str], str]) -> None:
        """Asks train tasks and corrects the answers."""
        tasks = PRIMER.sample("train", [(skill, level)] * count, "feedback bench", client)
        for task, answer in zip(tasks, self.answer(client, [t.prompt for t in tasks]), strict=True):
            verdict = {"id": answer["id"], "score": 0, "correction": truth(task.answer or "")}
            self.call(client, "/v1/feedback", verdict)

    def learn(self) -> str:
        """One cycle; what became of it."""
        self.call("operator", "/v1/learning")
        while (state := self.call("operator", "/v1/learning", method="GET"))["running"]:
            pass
        return str(state["last"])


def said_by_skills(runs: int, skill: str, level: int, each: int) -> int:
    """Prints the decision about what four clients agree on, for runs of several seeds."""
    for seed in range(1, runs + 1):
        for useful in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                run_of_the_seed(Path(folder) / "run", run_seed=seed)
                with opened(Path(folder) / "run", None, 1) as deployed:
                    kept = Interactions(deployed.store)
                    for client in CLIENTS:
                        _corrections(kept, client, skill, level, each, useful=useful)
                    told: list[Any] = []
                    learn(deployed.store.path, 0, told.append)
            (gated,) = [record for record in told if isinstance(record, Gated)]
            lost = f", harmed: {', '.join(gated.vetoes)}" if gated.vetoes else ""
            print(
                f"run {seed}, {'useful' if useful else 'spoiling'} corrections: {gated.decision}, "
                f"{gated.reason.rpartition('skills: ')[2]}{lost}",
                flush=True,
            )
    return 0


def _corrections(
    kept: Interactions, client: str, skill: str, level: int, count: int, *, useful: bool
) -> None:
    for place, task in enumerate(PRIMER.sample("train", [(skill, level)] * count, "taught", client)):
        name = f"{client}-{place}"
        kept.keep(
            Interaction(id=name, client=client, at=place, prompt=task.prompt, answers=["?"], weights="")
        )
        said = (task.answer or "") if useful else "no, never"
        kept.judge(Feedback(id=name, choice=0, client=client, at=place, score=0, correction=said))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skill", default="text/reverse")
    parser.add_argument("--level", type=int, default=8)
    parser.add_argument("--each", type=int, default=40, help="tasks that each honest client corrects")
    parser.add_argument("--flood", type=int, default=400, help="false corrections of one client")
    parser.add_argument("--cycles", type=int, default=3, help="cycles under the flood")
    parser.add_argument("--runs", type=int, help="ask the skills of so many runs instead")
    options = parser.parse_args()
    if options.runs is not None:
        return said_by_skills(options.runs, options.skill, options.level, options.each)
    where = options.skill, options.level
    with tempfile.TemporaryDirectory() as folder:
        with Server(Path(folder) / "honest", CLIENTS) as server:
            print(f"{options.skill}, level {options.level}: {server.accuracy(*where):.3f} before")
            for name in CLIENTS:
                server.teach(name, *where, options.each, lambda answer: answer)
            print(f"four honest clients, {options.each} corrections each: {server.learn()}")
            print(f"{options.skill}, level {options.level}: {server.accuracy(*where):.3f} after")
        with Server(Path(folder) / "flooded", ("ann", "eve")) as server:
            server.teach("ann", *where, options.each, lambda answer: answer)
            server.teach("eve", *where, options.flood, lambda answer: "z" * len(answer))
            print(f"one honest client, and {options.flood} false corrections of another:")
            for _ in range(options.cycles):
                print(f"  {server.learn()}")
            print(f"{options.skill}, level {options.level}: {server.accuracy(*where):.3f} after the flood")
    return 0


if __name__ == "__main__":
    sys.exit(main())
