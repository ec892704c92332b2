"""Proposers: whoever writes edits, what they make of a program is judged alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from moevolve.agents.brief import Brief
from moevolve.agents.genome import Genome, seed_genome
from moevolve.agents.host import ProgramHost, Proposals
from moevolve.proposers.command import Command
from moevolve.proposers.proposer import Improver, ProposalContext, Proposer
from moevolve.proposers.search import children, meaning
from moevolve.proposers.table import PROPOSERS
from moevolve.protocol.requests import GenerateRequest, Reply
from moevolve.records import Edit

BRIEF = Brief(
    source={}, skills=[], failures=[], history=[], lineage=[], candidates=2, cycle=1, metric="mean success"
)


class Scripted:
    """Proposes what it was given."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def propose(self, brief: Brief, context: ProposalContext) -> Proposals:
        edits = [[Edit(path="improve.py", text=text, operator="script", summary=text)] for text in self.texts]
        return Proposals(edits[: brief.candidates], None, "", 0, 0)


def answer(requests: Sequence[GenerateRequest]) -> list[Reply]:
    raise AssertionError("nobody asks the policy here")


def proposed(proposer: Proposer, program: Genome) -> list[Genome]:
    found = proposer.propose(BRIEF, ProposalContext(program, 7, answer)).candidates
    return [proposal.genome for proposal in children(program, found, set(), lambda genome: genome.hash)]


def test_edits_that_change_nothing_or_come_twice_are_no_proposals() -> None:
    seed = seed_genome()
    assert proposed(Scripted("x = 1", "x = 1"), seed) == [Genome(files={**seed.files, "improve.py": "x = 1"})]
    assert proposed(Scripted(seed.files["improve.py"]), seed) == []


def test_a_program_that_the_run_has_had_is_known_by_its_meaning() -> None:
    seed, had = seed_genome(), Genome(files={**seed_genome().files, "solve.py": "x = 1\n"})
    known = {had.hash, meaning(had)}
    texts = (
        "x = 1\n",
        "x = (1)  # again\n\n",
        "x = 2\n",
        "x = 2  # again\n",
        seed.files["solve.py"] + "# again\n",
    )
    found = [[Edit(path="solve.py", text=text, operator="script", summary="")] for text in texts]
    [child] = children(seed, found, known, lambda genome: genome.hash)
    assert child.genome.files["solve.py"] == "x = 2\n"


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_run_files_names_make_proposers(name: str) -> None:
    nothing = Command((), 1.0, lambda digest: None, lambda digest, written: None)
    assert hasattr(PROPOSERS[name](ProgramHost(), lambda: nothing), "propose")


def test_the_improver_is_the_programs_own_file_and_a_crash_of_it_is_data() -> None:
    text = (
        "from contract import Edit\nasync def improve(brief, agent):\n"
        "    return [Edit('improve.py', '# ' + brief.metric, 'own', 'said')]\n"
    )
    program = Genome(files={**seed_genome().files, "improve.py": text})
    [child] = proposed(Improver(ProgramHost()), program)
    assert child.files["improve.py"] == "# mean success"
    broken = Genome(files={**program.files, "improve.py": "async def improve(brief, agent): raise OSError"})
    found = Improver(ProgramHost()).propose(BRIEF, ProposalContext(broken, 7, answer))
    assert (found.candidates, found.failure) == ([], "error")
