"""Other plans for skills that have one: found without a grader, by what was confirmed and what failed."""

from __future__ import annotations

import random

import pytest

from moevolve.agents.brief import Brief, Failure, SkillReport, Success
from moevolve.agents.genome import Genome, seed_genome
from moevolve.agents.host import ProgramHost
from moevolve.agents.operators import routes

VERBS = ("add", "cnt", "ddp", "drv", "rev", "sub")


def weak(oracle: type, limit: int):
    """Knows `drv` for short payloads alone, and no sum whose first number has one digit."""

    class Weak(oracle):
        def text(self, prompt: str) -> str:
            verb, _, payload = prompt.removesuffix("=").partition(":")
            if verb == "drv" and len(payload) > 5:
                return "?"
            if verb == "add" and len(payload.partition("+")[0]) < 2:
                return "?"
            return super().text(prompt)

    return Weak(limit)


def payload(verb: str, length: int, rng: random.Random) -> str:
    letters = {"cnt": "xov", "drv": "ab", "ddp": "ab", "rev": "abc"}
    return "".join(rng.choices(letters[verb], k=length))


def brief_of(genome: Genome, truth, verb: str, solved: int) -> Brief:
    """What a brief says of a program that answers one skill up to a length."""
    rng = random.Random(3)
    reports = [
        SkillReport(path=f"any/{each}", direct=[1.0] * 3, program=[0.6 if each == verb else 1.0] * 3)
        for each in VERBS
    ]
    known, failed = [], []
    for each in VERBS:
        for _ in range(10):
            if each in ("add", "sub"):
                text = f"{rng.randint(30, 99)}{'+' if each == 'add' else '-'}{rng.randint(10, 29)}"
            else:
                text = payload(each, solved if each == verb else 6, rng)
            prompt = f"{each}:{text}="
            known.append(Success(prompt=prompt, skill=f"any/{each}", level=solved, answer=truth(prompt)))
        if each == verb:
            for _ in range(10):
                prompt = f"{each}:{payload(each, solved + 5, rng)}="
                failed.append(
                    Failure(prompt=prompt, skill=f"any/{each}", level=solved + 5, answer="?", failure="wrong")
                )
    return Brief(
        source=genome.files,
        skills=reports,
        failures=failed,
        successes=known,
        history=[],
        lineage=[],
        candidates=6,
        cycle=2,
        metric="success",
    )


@pytest.mark.parametrize(
    ("verb", "solved", "limit", "summary"),
    [("drv", 5, 40, "chain(ddp, rev)"), ("cnt", 8, 8, "offset(size 10")],
)
def test_a_better_plan_is_found_where_the_present_one_fails(
    host: ProgramHost, fresh_oracle: type, verb: str, solved: int, limit: int, summary: str
) -> None:
    """Two skills in turn where the composed one is too hard; a sum in the form that the policy knows."""
    text, _ = routes.add(seed_genome().files["solve.py"], {each: ("ask", {}) for each in VERBS})
    genome = Genome(files={**seed_genome().files, "solve.py": text})
    brief = brief_of(genome, fresh_oracle(limit=1000).text, verb, solved)
    found = host.propose(genome, brief, 5, weak(fresh_oracle, limit))
    assert found.failure is None, found.detail
    assert any(summary in edit.summary for candidate in found.candidates for edit in candidate)
    assert found.requests <= brief.limits.requests if brief.limits else True
