"""What becomes of attempts whose policy does not answer."""

from __future__ import annotations

import os
import select
import signal

import pytest

from moevolve.agents.host import ProgramHost
from moevolve.agents.process import Process
from moevolve.config import RolesSection, SandboxSection
from moevolve.config.roles import RoleSection
from moevolve.protocol.requests import GenerateRequest, PublicTask, Reply, Unanswered


def tasks(*prompts: str) -> list[PublicTask]:
    return [PublicTask(prompt=prompt, skill="text/reverse") for prompt in prompts]


def failing(oracle, failure: str = "policy"):
    """Answers like `oracle`, but for prompts that hold `lost`."""

    def answer(requests: list[GenerateRequest]) -> list[Reply]:
        return [
            Unanswered(failure=failure, detail="timeout") if "lost" in request.prompt else texts
            for request, texts in zip(requests, oracle(requests), strict=True)
        ]

    return answer


ASK = """
answer = await agent.generate(task.prompt)
return answer.text
"""


def test_an_unanswered_request_ends_its_attempt_alone(host, oracle, program):
    outcomes = host.solve(
        program(ASK), tasks("rev:abc=", "rev:lost=", "rev:cd="), failing(oracle), None, [1, 2, 3]
    )
    assert [outcome.answer for outcome in outcomes] == ["cba", None, "dc"]
    assert [outcome.failure for outcome in outcomes] == [None, "policy", None]
    assert outcomes[1].detail == "timeout"


def test_a_refused_request_is_told_apart(host, oracle, program):
    [outcome] = host.solve(program(ASK), tasks("rev:lost="), failing(oracle, "rejected"), None, [1])
    assert outcome.failure == "rejected"


def test_what_an_attempt_asks_beside_a_lost_request_does_not_disturb_its_siblings(host, oracle, program):
    genome = program(
        """
if task.prompt == "rev:lost=":
    await agent.gather(agent.generate(task.prompt), agent.recall("x"), agent.generate("rev:a="))
first = await agent.generate(task.prompt)
again = await agent.generate(task.prompt)
return again.text
"""
    )
    outcomes = host.solve(genome, tasks("rev:lost=", "rev:ab="), failing(oracle), None, [1, 2])
    assert [outcome.failure for outcome in outcomes] == ["policy", None]
    assert outcomes[1].answer == "ba"


def test_a_program_that_will_not_go_leaves_its_siblings_alone(host, oracle, program):
    genome = program(
        """
try:
    answer = await agent.generate(task.prompt)
except BaseException:
    answer = await agent.generate("rev:x=")
answer = await agent.generate(task.prompt)
return answer.text
"""
    )
    outcomes = host.solve(genome, tasks("rev:lost=", "rev:ab="), failing(oracle), None, [1, 2])
    assert [outcome.failure for outcome in outcomes] == ["policy", None]


def test_a_program_cannot_blame_the_policy(host, oracle, program):
    genome = program(
        """
import gc
for found in gc.get_objects():
    if type(found).__name__ == "Rounds":
        found.finish = lambda value: (None, "policy", "not me")
return "x"
"""
    )
    [outcome] = host.solve(genome, tasks("rev:ab="), oracle, None, [1])
    assert outcome.failure == "malformed"


@pytest.mark.parametrize(("deaths", "failure"), [(0, None), (2, None), (3, "infrastructure")])
def test_a_process_that_the_machine_takes_is_run_again(
    deaths, failure, host, oracle, program, monkeypatch
) -> None:
    started = []

    class Watched(Process):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            started.append(self._native.pid)

    def answer(requests: list[GenerateRequest]):
        if len(started) <= deaths:
            os.kill(started[-1], signal.SIGKILL)
        return oracle(requests)

    monkeypatch.setattr("moevolve.agents.transcripts.Process", Watched)
    outcomes = host.solve(program(ASK), tasks("rev:abc=", "rev:cd="), answer, None, [1, 2])
    assert len(started) == min(3, deaths + 1)
    assert {outcome.failure for outcome in outcomes} == {failure}
    if failure is None:
        assert [outcome.answer for outcome in outcomes] == ["cba", "dc"]


SPINS = """
def spin(*arguments):
    while True:
        try:
            while True: pass
        except BaseException: pass
"""
GUILTY = {
    "spins while the policy answers": (
        SPINS + "import sys\nsys.modules['worker'].Frames.read = spin\n" + ASK,
        "timeout",
    ),
    "prints what is said of others": (
        "import os\nos.write(2, b'the sandboxed process ended (killed by SIGKILL)\\n')\nos._exit(1)\n",
        "crash",
    ),
    "closes its pipes and goes on": (SPINS + "import os\nos.close(3)\nos.close(4)\nspin()\n", "crash"),
}


@pytest.mark.parametrize("deed", GUILTY)
def test_who_has_itself_killed_was_not_taken_by_the_machine(deed, oracle, program, monkeypatch) -> None:
    """An attempt that the machine took is in no mean: whoever could end as one would choose which tasks count."""
    source, failure = GUILTY[deed]
    role = RoleSection(seconds=0.9, step_seconds=0.2)
    host = ProgramHost(RolesSection(solver=role), SandboxSection(memory_mb=128))
    started = []

    class Watched(Process):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            started.append(self._native.pid)

    def answer(requests: list[GenerateRequest]):
        process = os.pidfd_open(started[-1])
        ended = select.poll()
        ended.register(process, select.POLLIN)
        assert ended.poll(60_000), "its processor time ends it"
        os.close(process)
        return oracle(requests)

    monkeypatch.setattr("moevolve.agents.transcripts.Process", Watched)
    outcomes = host.solve(program(source), tasks("rev:abc=", "rev:cd="), answer, None, [1, 2])
    assert {outcome.failure for outcome in outcomes} == {failure}
    assert len(started) == 1
