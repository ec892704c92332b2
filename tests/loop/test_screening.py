"""The screening draws what it needs: nothing twice for skills that a candidate leaves alone, most for those it changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from moevolve.agents.genome import Genome
from moevolve.agents.plans.behaviour import Behaviour
from moevolve.config import Config
from moevolve.journal.archive import Archive, Variant
from moevolve.journal.store import RunStore
from moevolve.loop.run import start
from moevolve.loop.selecting import improvers
from moevolve.loop.stages.proposing import with_improver
from moevolve.records import Chosen, Proposed, Record, Screened, VariantAdded
from moevolve.rollouts.attempts import Attempt
from moevolve.rollouts.scoring import compared, mean
from moevolve.selection.clade import Hgm
from moevolve.selection.policy import Draw
from moevolve.tasks.task import Task, Verdict


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], dict[str, Behaviour]]:
    config = Config.load(
        "small", {"selection.policy": "best", "evolve.candidates": 6, "evolve.screen": 96, "cycles": 3}
    )
    out = start(
        config.override(seed=4, arm="program", cycles=3), tmp_path_factory.mktemp("screening") / "run"
    )
    with RunStore.open(out) as store:
        records = [entry.record for entry in store.entries()]
        behaviours = {
            record.variant: Behaviour.decoded(store.blob(record.behaviour))
            for record in records
            if isinstance(record, VariantAdded) and record.behaviour is not None
        }
    return records, behaviours


def test_a_skill_that_a_candidate_leaves_alone_has_the_champions_score(run) -> None:
    """Same plan, same keys, same policy: the same answers, whether they are drawn once or twice."""
    records, behaviours = run
    champion, waiting, compared_skills = "v0000", list[Screened](), 0
    for record in records:
        if isinstance(record, Screened):
            waiting.append(record)
        elif isinstance(record, Chosen):
            for screened in waiting:
                ours, theirs = behaviours[screened.variant], behaviours[champion]
                same = {skill for skill in ours.plans if ours.plans[skill] == theirs.plans.get(skill)}
                assert all(screened.skills[skill] == record.baseline[skill] for skill in same)
                compared_skills += len(same)
            waiting = []
        elif getattr(record, "decision", None) == "promote":
            champion = record.candidate  # type: ignore[union-attr]
    assert compared_skills > 30


def test_most_tasks_are_of_the_skills_that_some_candidate_changes(run) -> None:
    records, behaviours = run
    parents = {record.variant: record.parent for record in records if isinstance(record, Proposed)}
    changed: set[str] = set()
    focused = 0
    for record in records:
        if isinstance(record, Screened):
            ours, theirs = behaviours[record.variant], behaviours[parents[record.variant]]
            changed |= {skill for skill in ours.plans if ours.plans[skill] != theirs.plans[skill]}
            last = record
        elif isinstance(record, Chosen) and record.baseline:
            assert sum(share.n for share in record.baseline.values()) == 96
            if 0 < len(changed) < len(record.baseline) // 2:
                focused += 1
                inside = sum(share.n for skill, share in last.skills.items() if skill in changed)
                assert inside > 96 * 0.6
            changed = set()
    assert focused or any(isinstance(record, Screened) for record in records)


def attempt(skill: str, score: float) -> Attempt:
    task = Task(prompt="p", answer="a", skill=skill, level=1)
    return Attempt(task, "a", Verdict(score=score, success=score == 1, failure=None))


def test_skills_count_alike_however_many_tasks_they_have() -> None:
    ours = [attempt("a", 1.0), *[attempt("b", 0.0)] * 3]
    theirs = [attempt("a", 0.0), *[attempt("b", 1.0)] * 3]
    assert mean(ours) == 0.5
    beside = compared(ours, theirs)
    assert (beside.score, beside.baseline) == (0.5, 0.5)
    assert sum(beside.differences) == pytest.approx(0.0)


class Runs:
    """An archive with the programs that its variants have."""

    def __init__(self) -> None:
        self.archive = Archive()
        self.programs: dict[str, Genome] = {}
        self.store: Any = SimpleNamespace(genome=self.programs.__getitem__)

    def add(
        self, id: str, parents: list[str], solve: str, improve: str, score: float | None, status: str
    ) -> None:
        self.programs[id] = Genome(files={"solve.py": solve, "improve.py": improve})
        self.archive.add(Variant(id, parents, 1, "w", id, "program", "o", "s", score, status))

    @property
    def champion(self) -> Variant:
        return self.archive["a"]


def test_an_edit_of_the_improver_is_tried_by_the_scores_of_what_it_writes() -> None:
    """Of two ways of improving the one is drawn more often whose candidates pass, whoever is the parent by now."""
    run = Runs()
    run.add("a", [], "solve", "old", 0.5, "champion")
    run.add("b", ["a"], "solve", "new", None, "kept")
    run.add("c", ["a"], "other", "old", 0.6, "kept")
    for number in range(2):
        run.add(f"a{number}", ["c"], f"a{number}", "old", 0.4, "rejected")
        # Written for c by b's way of improving: its clade is b's.
        run.add(f"b{number}", ["c", "b"], f"b{number}", "new", 0.6, "kept")
    tree = improvers(run, "c")  # type: ignore[arg-type]
    assert [node.id for node in tree.members] == ["b", "c"]
    assert [node.id for node in tree.children("b")] == ["b0", "b1"]
    drawn = [Hgm().choose(tree, Draw(1, 1, "author", index)) for index in range(200)]
    assert 110 < drawn.count("b") < 200


def test_a_child_has_the_parents_way_of_solving_and_the_authors_of_improving() -> None:
    parent = Genome(files={"improve.py": "old", "proposer/edit.md": "p", "solve.py": "better"})
    author = Genome(files={"improve.py": "new", "solve.py": "older"})
    made, taken = with_improver(parent, author)
    assert made.files == {"improve.py": "new", "solve.py": "better"}
    assert taken == ["improve.py", "proposer/edit.md"]
    assert with_improver(parent, parent) == (parent, [])
