"""Attempts of their own: `isolation = "attempt"` keeps siblings out of each other's memory; `"batch"` does not."""

from __future__ import annotations

import pytest

from moevolve.agents.host import ProgramHost
from moevolve.agents.process import in_force
from moevolve.config.schema import SandboxSection
from moevolve.protocol.requests import PublicTask

pytestmark = pytest.mark.skipif(
    "virtual clock" in in_force().missing, reason="needs the virtual clock's layer"
)

ATTACK = """
import gc
if task.prompt == "rev:ax=":
    for other in gc.get_objects():
        if type(other).__name__ == "Rounds":
            other.finish = lambda value: ("stolen", None, "")
        if type(other).__name__ == "Agent" and other is not agent:
            other.rng.seed(1)
draw = agent.rng.random()
first = (await agent.generate(task.prompt, temperature=0)).text
return (await agent.generate(f"rev:{first}{draw:.3f}", temperature=0)).text and first
"""


@pytest.fixture(scope="module")
def apart() -> ProgramHost:
    return ProgramHost(None, SandboxSection(isolation="attempt"))


def outcomes(host, genome, oracle, count=4):
    tasks = [PublicTask(prompt=f"rev:{'abcd'[index % 4]}x=", skill="text/reverse") for index in range(count)]
    return host.solve(genome, tasks, oracle, None, list(range(count)))


def test_an_attacker_reaches_nobody_but_itself(apart, oracle, program):
    _, *others = outcomes(apart, program(ATTACK), oracle)
    assert [(other.answer, other.failure) for other in others] == [("xb", None), ("xc", None), ("xd", None)]


def test_outcomes_are_those_of_a_batch(apart, host, oracle, program):
    genome = program("import os\nreturn (await agent.generate(f'rev:{os.urandom(2).hex()}=')).text")
    fields = [[(o.answer, o.failure) for o in outcomes(each, genome, oracle, 6)] for each in (apart, host)]
    assert fields[0] == fields[1]


@pytest.mark.parametrize(
    ("deed", "failure"),
    [
        ("import os; os._exit(3)", "malformed"),
        ("import os; os.write(5, b'x' * 64); os._exit(0)", "malformed"),
    ],
)
def test_one_that_dies_takes_no_sibling_with_it(apart, oracle, program, deed, failure):
    genome = program(
        f"if task.prompt == 'rev:ax=':\n    {deed}\nreturn (await agent.generate(task.prompt)).text"
    )
    first, *others = outcomes(apart, genome, oracle)
    assert first.failure == failure
    assert [other.answer for other in others] == ["xb", "xc", "xd"]


def test_an_attempt_starts_no_process(apart, oracle, program):
    first, *_ = outcomes(apart, program("import os\nos.fork()\nreturn ''"), oracle)
    assert (first.failure, "PermissionError" in first.detail) == ("error", True)
