"""Second tries and transcripts: what a program says in spite of its key is found, and heard once only."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest
from msgspec import Raw

from moevolve.agents.genome import Genome
from moevolve.agents.host import ProgramHost
from moevolve.agents.limits import Limits
from moevolve.agents.process import Process
from moevolve.agents.transcripts import Conversation, Transcripts
from moevolve.agents.twice import Heard
from moevolve.agents.wire import Replies, Start
from moevolve.config import RolesSection, SandboxSection
from moevolve.config.roles import RoleSection
from moevolve.protocol.requests import PublicTask

COUNT = """
n = 0
try:
    while True:
        n += 1
except BaseException:
    pass
"""
"""How fast the machine is, in the program's hands: it catches the end of its step."""

STEADY = """
import os, time, uuid
first = (await agent.generate(f"rev:{os.urandom(2).hex()}=")).text
second = (await agent.generate(f"rev:{int(time.time())}{uuid.uuid4().hex[:2]}=")).text
return f"{first} {second} {id(object())}"
"""

TASKS = [PublicTask(prompt=f"rev:{letter}x=", skill="text/reverse") for letter in "ab"]


def solved(host, genome, oracle, **how):
    return host.solve(genome, TASKS, oracle, None, [1, 2], **how)


@pytest.fixture(scope="module")
def brisk() -> ProgramHost:
    """A host whose steps end soon, for programs that use all of their time."""
    return ProgramHost(
        RolesSection(solver=RoleSection(seconds=30.0, step_seconds=0.2)), SandboxSection(memory_mb=128)
    )


@pytest.fixture
def remembering(tmp_path, brisk):
    """Makes hosts that share one file of transcripts."""
    made = []

    def host() -> ProgramHost:
        transcripts = Transcripts(tmp_path / "said")
        made.append(transcripts)
        return ProgramHost(brisk.roles, brisk.sandbox, transcripts=transcripts)

    yield host
    for transcripts in made:
        transcripts.close()


@pytest.fixture
def processes(monkeypatch):
    """Counts processes."""
    started = []
    begin = Process.__init__

    def counted(self, *arguments):
        started.append(self)
        begin(self, *arguments)

    monkeypatch.setattr(Process, "__init__", counted)
    return started


def test_a_program_that_counts_its_time_is_nondeterministic(brisk, oracle, program):
    genome = program(COUNT + "return str(n)")
    assert {o.failure for o in solved(brisk, genome, oracle)} == {None}
    found = solved(brisk, genome, oracle, twice=True)
    assert [(o.answer, o.failure) for o in found] == [(None, "nondeterministic")] * 2


def test_one_attempt_is_enough_to_discard_a_program(brisk, oracle, program):
    body = indent(COUNT, "    ")
    genome = program(f"if task.prompt == 'rev:ax=':\n{body}\n    return str(n)\nreturn 'x'")
    assert {o.failure for o in solved(brisk, genome, oracle, twice=True)} == {"nondeterministic"}


def test_requests_count_as_much_as_answers(brisk, oracle, program):
    genome = program(COUNT + "await agent.generate(f'rev:{n}=')\nreturn 'x'")
    assert {o.failure for o in solved(brisk, genome, oracle, twice=True)} == {"nondeterministic"}


def test_clocks_entropy_and_addresses_are_the_same_in_a_second_try_and_the_policy_is_asked_once(
    brisk, fresh_oracle, program
):
    once, twice = fresh_oracle(), fresh_oracle()
    genome = program(STEADY)
    assert solved(brisk, genome, once) == solved(brisk, genome, twice, twice=True)
    assert once.rounds == twice.rounds


@pytest.mark.parametrize("deed", ["raise ValueError('x')", "import os\nos._exit(1)", "b'x' * (1 << 40)"])
def test_what_fails_twice_alike_keeps_its_failure(brisk, oracle, program, deed):
    genome = program(deed)
    failures = [[o.failure for o in solved(brisk, genome, oracle, twice=twice)] for twice in (False, True)]
    assert failures[0] == failures[1] and None not in failures[0]


def test_plans_that_differ_are_no_plans(brisk):
    body = indent(COUNT, "    ")
    source = f"import plan\ndef solve(task):\n{body}\n    return plan.ask(f'{{n}}{{task.prompt}}')"
    behaviour = brisk.behaviour(
        Genome(files={"solve.py": source}), {"text/reverse": "rev", "text/sort": "srt"}, 1
    )
    assert not behaviour.plans and not behaviour.computes
    reasons = behaviour.expressions({})
    assert {reason.failure for reason in reasons.values()} == {"nondeterministic"}


def test_words_on_file_are_heard_again_and_no_process_runs(remembering, processes, oracle, program):
    genome = program(COUNT + "return (await agent.generate(f'rev:{n % 10}=')).text + str(n)")
    first = solved(remembering(), genome, oracle)
    count = len(processes)
    assert solved(remembering(), genome, oracle) == first
    assert len(processes) == count


def test_a_second_try_is_on_file_as_well(remembering, processes, oracle, program):
    genome = program(COUNT + "return str(n)")
    found = solved(remembering(), genome, oracle, twice=True)
    count = len(processes)
    assert solved(remembering(), genome, oracle, twice=True) == found
    assert (len(processes), count) == (2, 2)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_file_that_was_torn_gives_what_is_whole_and_a_process_the_rest(
    remembering, tmp_path: Path, oracle, program, share
):
    genome = program(STEADY)
    first = solved(remembering(), genome, oracle)
    file = tmp_path / "said"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert solved(remembering(), genome, oracle) == first
    whole = file.read_bytes()
    assert solved(remembering(), genome, oracle) == first
    assert file.read_bytes() == whole


def test_other_tasks_keys_and_programs_are_other_words(remembering, oracle, program):
    host = remembering()
    answer = "return f'{task.prompt}{agent.rng.random()}'"
    seen = {solved(host, program(answer + extra), oracle)[0].answer for extra in ("", "+ '!'")}
    seen |= {host.solve(program(answer), TASKS, oracle, None, [key, 2])[0].answer for key in (1, 7)}
    assert len(seen) == 3


def test_faults_are_words_too(remembering, processes, oracle, program):
    genome = program("import os\nos._exit(4)")
    host = remembering()
    assert [o.failure for o in solved(host, genome, oracle)] == ["crash"] * 2
    assert [o.failure for o in solved(host, genome, oracle)] == ["crash"] * 2
    assert len(processes) == 1


def test_what_is_cleared_is_forgotten(remembering, processes, oracle, program):
    host = remembering()
    for _ in range(2):
        solved(host, program("return 'x'"), oracle)
        host.transcripts.clear()
    assert len(processes) == 2


def test_only_a_second_try_keeps_what_a_program_said_and_of_that_a_digest(
    brisk, oracle, program, monkeypatch
):
    heard = []

    def kept(said):
        heard.append(Heard(said))
        return heard[-1]

    monkeypatch.setattr("moevolve.agents.host.Heard", kept)
    genome = program("return (await agent.generate('rev:ab=' + 'x' * 1000)).text")
    solved(brisk, genome, oracle)
    assert not heard
    solved(brisk, genome, oracle, twice=True)
    assert heard and {len(each.said) for each in heard} == {16}


LARGE = """
for _ in range(20):
    try:
        await agent.generate("A" * 300_000)
    except Exception:
        pass
return "x"
"""


def test_requests_that_are_refused_are_bounded_in_bytes_as_well(oracle, program):
    role = RoleSection(requests=20, prompt_chars=64)
    host = ProgramHost(RolesSection(solver=role), SandboxSection(memory_mb=128))
    first, second = solved(
        host, program(f"if task.prompt == 'rev:bx=': return 'x'{indent(LARGE, '')}"), oracle
    )
    assert (first.failure, second.answer) == ("malformed", "x")
    assert "its requests came to more than" in first.detail


def test_what_a_process_says_beyond_its_bound_is_not_kept(tmp_path: Path, monkeypatch):
    class Talker:
        def __init__(self, *arguments) -> None:
            self.send = lambda body: None
            self.close = lambda: None

        def receive(self) -> bytes:
            return b'{"requests":[],"done":[]}' + b" " * 1000

    monkeypatch.setattr("moevolve.agents.transcripts.Process", Talker)
    start = Start("solve", {}, [], [], {}, Raw(b"null"))
    for _ in range(2):  # Said the first time, heard again the second.
        transcripts = Transcripts(tmp_path / "said")
        talk = Conversation(transcripts, start, Limits(), False, "batch", 3000)
        for _ in range(2):
            talk.round()
            talk.reply(Replies([]))
        with pytest.raises(ValueError, match="more than 3000 bytes"):
            talk.round()
        transcripts.close()
    assert (tmp_path / "said").stat().st_size < 3000
