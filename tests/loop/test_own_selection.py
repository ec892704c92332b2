"""Selection by a file of the genome: by scores and lineage alone; whatever else it does is the fallback's step."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from moevolve.agents.genome import SELECTOR, Genome, seed_genome, seed_selector
from moevolve.agents.host import ProgramHost
from moevolve.auditor import audit
from moevolve.config import Config
from moevolve.config.roles import LearnerSection, RolesSection
from moevolve.journal.store import RunStore
from moevolve.loop import own_selection
from moevolve.loop.context import RunContext
from moevolve.loop.run import replay, start
from moevolve.records import Proposed, Record, Selected
from moevolve.selection.tree import Node, Tree

TREE = Tree(
    [
        Node(id="v0", score=0.2),
        Node(id="v1", parent="v0", score=0.9, wins=9, losses=1, scores={"primer/rev": 0.9}, step=0),
        Node(id="v2", parent="v1", score=0.95, step=1, open=False),
        Node(id="v3", parent="v1", step=2),
    ],
    "v1",
    3,
)
SMALL = {"suite.levels": [1, 4], "attempts.tasks": 24, "learn.steps": 0, "evolve.generations": 3}
HEAD = "def select_parent(archive, rng):\n    "
ATTACKS = {
    "hangs": ("while True: pass", "timeout"),
    "floods": ("while True: print('x' * 10000)", "timeout"),
    "returns a flood": ("return 'v1' * 10**7", "malformed"),
    "returns nothing": ("return None", "malformed"),
    "returns a member": ("return archive.members[0]", "malformed"),
    "names nobody": ("return 'v99'", "unknown"),
    "names what a guard vetoed": ("return 'v2'", "vetoed"),
    "raises": ("raise KeyError('no')", "error"),
    "ends its process": ("import posix; posix._exit(0)", "crash"),
    "allocates": ("return 'v1' if bytearray(8 << 30) else ''", "error"),
    "reads files of the machine": ("return open('/etc/hostname').read()", "error"),
    "looks for the grader": ("import moevolve.tasks.grading; return 'v1'", "error"),
    "looks for answers": ("return archive.tasks[0].answer", "error"),
    "starts a process": ("import subprocess; return subprocess.run(['id'])", "error"),
    "is a coroutine": ("yield 'v1'", "malformed"),
}


@pytest.fixture
def host() -> ProgramHost:
    return ProgramHost(RolesSection(learner=LearnerSection(step_seconds=0.2, seconds=10.0)))


def stub(host: ProgramHost, text: str, seed: int = 5) -> RunContext:
    """As much of a run as a step of selection reads."""
    program = Genome(files={"solve.py": "", SELECTOR: text})
    archive = {"v1": SimpleNamespace(program="p")}
    store = SimpleNamespace(genome=lambda name: program)
    found: Any = SimpleNamespace(host=host, archive=archive, store=store, config=SimpleNamespace(seed=seed))
    return cast(RunContext, found)


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_an_attack_is_a_fault_by_name(host: ProgramHost, attack: str) -> None:
    text, fault = ATTACKS[attack]
    chosen, said = own_selection.asked(stub(host, HEAD + text), _program(text), TREE, 1)
    assert chosen is None
    assert said.startswith(f"{fault}: ") and len(said) <= own_selection.LONGEST, said


def _program(text: str) -> Genome:
    return Genome(files={"solve.py": "", SELECTOR: HEAD + text})


def test_it_sees_scores_and_lineage_and_draws_from_its_key(host: ProgramHost) -> None:
    text = (
        "names = [m.id for m in archive.members if m.open]\n"
        "    one = archive.members[1]\n"
        "    assert (one.parent, one.children, one.score, one.wins, one.step) == ('v0', ['v2', 'v3'], 0.9, 9.0, 0)\n"
        "    assert one.scores == {'primer/rev': 0.9} and archive.champion == 'v1' and archive.step == 3\n"
        "    return rng.choice(names)\n"
    )
    drawn = [own_selection.asked(stub(host, ""), _program(text), TREE, source)[0] for source in range(12)]
    assert drawn == [own_selection.asked(stub(host, ""), _program(text), TREE, n)[0] for n in range(12)]
    assert set(drawn) == {"v0", "v1", "v3"}


def test_the_shipped_one_prefers_good_members_with_few_children(host: ProgramHost) -> None:
    program = Genome(files={"solve.py": "", SELECTOR: seed_selector()})
    found = Counter(own_selection.asked(stub(host, ""), program, TREE, source)[0] for source in range(40))
    assert set(found) <= {"v0", "v1", "v3"} and found["v3"] > found["v0"]


def test_one_step_in_five_is_the_fallbacks_whatever_a_program_wants(host: ProgramHost) -> None:
    """A selection that always names its own variant starves nobody."""
    run = stub(host, HEAD + "return 'v1'")
    steps = [own_selection.chosen(run, TREE, "v1", 1, generation) for generation in range(60)]
    own = [step for step in steps if step.policy == own_selection.GENOME]
    assert all((step.variant, step.selector, step.chance) == ("v1", "v1", None) for step in own)
    others = [step for step in steps if step.policy == own_selection.FALLBACK]
    assert 4 <= len(others) <= 24 and all(not step.selector and not step.fault for step in others)
    assert {step.variant for step in others} > {"v1"}


def run(folder: Path, text: str | None) -> tuple[Path, list[Record]]:
    settings: dict[str, Any] = {"selection.policy": "genome", "evolve.proposers": ["improver"], **SMALL}
    if text is not None:
        agent = folder / "agent"
        Genome(files={**seed_genome().files, SELECTOR: text}).write(agent)
        settings["agent.path"] = str(agent)
    config = Config.load("small", settings).override(seed=9, arm="program")
    out = start(config, folder / "run")
    with RunStore.open(out) as store:
        return out, [entry.record for entry in store.entries()]


def steps_of(records: list[Record]) -> list[Selected]:
    return [record for record in records if isinstance(record, Selected) and record.policy != "clade"]


def test_a_run_selects_by_its_programs_and_a_replay_does_it_again(tmp_path: Path) -> None:
    out, records = run(tmp_path, None)
    steps = steps_of(records)
    assert [step.step for step in steps] == list(range(6))
    assert {step.policy for step in steps} <= {"genome", "dgm"} and not any(step.fault for step in steps)
    assert any(step.policy == "genome" and step.selector == "v0000" for step in steps)
    parents = {step.step: step.variant for step in steps}
    assert {record.parent for record in records if isinstance(record, Proposed)} <= set(parents.values())
    recorded, again = replay(out, tmp_path / "again")
    assert recorded == again
    assert not audit(out).findings


def test_a_selection_that_hangs_costs_its_steps_and_no_run(tmp_path: Path) -> None:
    out, records = run(tmp_path, "def select_parent(archive, rng):\n    return 'v9999'\n")
    steps = steps_of(records)
    faults = [step for step in steps if step.fault]
    assert faults and all(step.policy == "dgm" and step.selector == "v0000" for step in faults)
    assert all(step.fault.startswith("unknown: ") and step.chance is not None for step in faults)
    recorded, again = replay(out, tmp_path / "again")
    assert recorded == again
