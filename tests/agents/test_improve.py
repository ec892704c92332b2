"""The improver finds the routes that help, says why, and cannot be made to do harm."""

from __future__ import annotations

import ast
import random

import pytest

from moevolve.agents.brief import Brief, Failure, LearnReport, SkillReport, Success, TrialReport
from moevolve.agents.genome import Genome, seed_genome
from moevolve.agents.operators import source
from moevolve.protocol.requests import PublicTask
from moevolve.records import Recipe

LETTERS = {"rev", "srt", "ddp", "cae", "srv", "crv", "drv"}
VERBS = ["add", "cae", "cnt", "crv", "ddp", "drv", "par", "rev", "srt", "srv", "sub"]


def payload(verb: str, level: int, rng: random.Random) -> str:
    if verb in LETTERS:
        return "".join(rng.choice("abcdefghij") for _ in range(level + 2))
    if verb == "par":
        return "".join(rng.choice("0123456789") for _ in range(level + 2))
    if verb == "cnt":
        return "".join(rng.choice("xvzo") for _ in range(level + 5))
    numbers = sorted((rng.randrange(10 ** (level // 2 + 1)) for _ in range(2)), reverse=True)
    return ("+" if verb == "add" else "-").join(map(str, numbers))


def measure(host, oracle, genome, solve):
    """Outcomes of a program over all skills and levels 1-12: mean by skill, and the attempts."""
    rng = random.Random(5)
    tasks = [
        (verb, level, f"{verb}:{payload(verb, level, rng)}=")
        for verb in VERBS
        for level in range(1, 13)
        for _ in range(2)
    ]
    exact = type(oracle)(limit=1000).text
    public = [PublicTask(prompt=prompt, skill=f"any/{verb}") for verb, _, prompt in tasks]
    outcomes = solve(host, genome, public, oracle)
    return [
        (task, outcome.answer, outcome.answer == exact(task[2]))
        for task, outcome in zip(tasks, outcomes, strict=True)
    ]


def brief_of(attempts, genome, **changes) -> Brief:
    def levels(verb):
        of = [
            [right for (v, lv, _), _, right in attempts if v == verb and lv == level]
            for level in range(1, 13)
        ]
        return [sum(rights) / len(rights) for rights in of]

    fields = {
        "source": genome.files,
        "skills": [SkillReport(path=f"any/{v}", direct=levels(v), program=levels(v)) for v in VERBS],
        "failures": [
            Failure(prompt=p, skill=f"any/{v}", level=lv, answer=a or "", failure="wrong")
            for (v, lv, p), a, right in attempts
            if not right
        ],
        "successes": [
            Success(prompt=p, skill=f"any/{v}", level=lv, answer=a)
            for (v, lv, p), a, right in attempts
            if right
        ],
        "history": [],
        "lineage": [],
        "candidates": 6,
        "cycle": 1,
        "metric": "success",
    }
    return Brief(**fields | changes)


def success(attempts) -> float:
    return sum(right for _, _, right in attempts) / len(attempts)


@pytest.fixture(scope="module")
def start(host, fresh_oracle, solve):
    return measure(host, fresh_oracle(), seed_genome(), solve)


@pytest.mark.parametrize("with_successes", [True, False])
def test_the_first_call_opens_the_levels_that_splitting_opens(host, oracle, solve, start, with_successes):
    changes: dict[str, list] = {} if with_successes else {"successes": []}
    proposals = host.propose(seed_genome(), brief_of(start, seed_genome(), **changes), 3, oracle)
    assert proposals.failure is None, proposals.detail
    assert len(proposals.candidates) == 6
    assert 0 < proposals.requests < 3000
    child = seed_genome().edited(proposals.candidates[0])
    after = measure(host, oracle, child, solve)
    assert success(after) > success(start) + 0.25
    found = source.routes(ast.parse(child.files["solve.py"]))
    for verb, join in {"rev": "reversed", "crv": "reversed", "cae": "order", "ddp": "order"}.items():
        assert found[verb][1]["join"] == join
    assert found["par"][0] == "carry"


def test_without_a_policy_it_proposes_by_weight(host, start):
    [*candidates] = host.improve(seed_genome(), brief_of(start, seed_genome()), 3)
    assert len(candidates) == 6
    sources = [candidate[0].text for candidate in candidates]
    assert len(set(sources)) == 6
    for text in sources:
        compile(text, "solve.py", "exec")


def test_the_same_key_proposes_the_same(host, oracle, start):
    brief = brief_of(start, seed_genome())
    assert host.improve(seed_genome(), brief, 3, oracle) == host.improve(seed_genome(), brief, 3, oracle)
    assert host.improve(seed_genome(), brief, 3) != host.improve(seed_genome(), brief, 4)


def test_what_was_tried_is_not_proposed_again(host, start):
    brief = brief_of(start, seed_genome())
    first = host.improve(seed_genome(), brief, 3)
    summaries = {edit.summary for candidate in first for edit in candidate if edit.path == "solve.py"}
    history = [
        TrialReport(cycle=1, operator="split", summary=summary, gain=-0.1, decision="discard")
        for summary in sorted(summaries)
    ]
    again = host.improve(seed_genome(), brief_of(start, seed_genome(), history=history), 3)
    assert not summaries & {edit.summary for candidate in again for edit in candidate}


def test_generations_keep_improving_or_hold(host, oracle, start, solve):
    genome, score = seed_genome(), success(start)
    history: list[TrialReport] = []
    attempts = start
    for cycle in range(4):
        brief = brief_of(attempts, genome, history=history, candidates=4, cycle=cycle + 1)
        best = (score, genome, attempts)
        for candidate in host.improve(genome, brief, cycle, oracle):
            child = genome.edited(candidate)
            measured = measure(host, oracle, child, solve)
            history.append(
                TrialReport(
                    cycle=cycle + 1,
                    operator=candidate[0].operator,
                    summary=candidate[0].summary,
                    gain=success(measured) - score,
                    decision="promote" if success(measured) > score else "discard",
                )
            )
            if success(measured) > best[0]:
                best = (success(measured), child, measured)
        score, genome, attempts = best
    assert score > 0.85


def test_edits_of_the_program_itself_are_proposed_too(host, start):
    history = [TrialReport(cycle=1, operator="vote", summary="x", gain=0.1, decision="promote")]
    paths = set()
    for key in range(12):
        brief = brief_of(start, seed_genome(), history=history)
        for candidate in host.improve(seed_genome(), brief, key):
            paths |= {edit.path for edit in candidate}
    assert paths == {"solve.py", "improve.py", "learn.py"}


def test_an_empty_brief_proposes_nothing_and_raises_nothing(host, oracle):
    brief = Brief(
        source=seed_genome().files,
        skills=[],
        failures=[],
        history=[],
        lineage=[],
        candidates=4,
        cycle=1,
        metric="",
    )
    proposals = host.propose(seed_genome(), brief, 1, oracle)
    assert (proposals.candidates, proposals.failure) == ([], None)


HEAD = "from contract import Edit\n"


@pytest.mark.parametrize(
    ("body", "failure", "kept"),
    [
        ("return [[Edit('solve.py', 'x = 1', 'o', 's')]]", None, 1),
        ("return [Edit('solve.py', 'x = 1', 'o', 's')]", None, 1),
        ("return []", None, 0),
        ("return [[]]", None, 0),
        ("return [[Edit('../../escape.py', 'x = 1', 'o', 's')]]", None, 0),
        ("return [[Edit('agent.py', 'x = 1', 'o', 's')]]", None, 0),
        ("return [[Edit('solve.py', 'this is not', 'o', 's')]]", None, 0),
        ("return [[Edit('solve.py', '#' * 100_000, 'o', 's')]]", None, 0),
        ("return [[Edit('solve.py', 'x = 1', 'o' * 1000, 's')]]", None, 0),
        ("return [[Edit('solve.py', '#' * n, 'o', 's')] for n in (100_000, 3, 100_000, 4)]", None, 2),
        ("return [[Edit('solve.py', t, 'o', 's')] for t in ('x = 1', 'this is not', 'x = 2')]", None, 2),
        ("return [[Edit('solve.py', f'x = {n}', 'o', 's')] for n in range(64)]", None, 6),
        ("return 5", "malformed", 0),
        ("return [[7]]", "malformed", 0),
        ("raise RuntimeError", "error", 0),
        ("while True: pass", "timeout", 0),
        ("import os; os._exit(1)", "crash", 0),
        ("await agent.generate('p')", "budget", 0),
    ],
)
def test_an_improver_that_goes_wrong_is_data(hasty, start, body, failure, kept):
    files = {"improve.py": f"{HEAD}async def improve(brief, agent):\n    {body}\n"}
    proposals = hasty.propose(Genome(files=files), brief_of(start, seed_genome()), 1)
    assert (proposals.failure, len(proposals.candidates)) == (failure, kept), proposals


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return Recipe()", Recipe()),
        ("return Recipe(steps=10**9, learning_rate=-1)", Recipe(steps=400, learning_rate=1e-5)),
        ("return Recipe(focus=float('inf'), batch=0)", Recipe()),
        ("return Recipe(focus=7, batch=0)", Recipe(focus=1.0, batch=8)),
        ("return Recipe(focus=float('nan'))", Recipe()),
        ("return Recipe(steps='many')", Recipe()),
        ("return 5", Recipe()),
        ("raise ValueError", Recipe()),
        ("while True: pass", Recipe()),
    ],
)
def test_a_recipe_is_clamped_or_the_default(hasty, body, expected):
    files = {"learn.py": f"from contract import Recipe\ndef recipe(report):\n    {body}\n"}
    assert hasty.recipe(Genome(files=files), LearnReport(cycle=1, skills=[], history=[]), 1) == expected
