"""The step of selection in a run: which policy chose whom is on record, and the choice can be made again from the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from moevolve.config import Config
from moevolve.errors import ConfigError
from moevolve.journal.store import RunStore
from moevolve.loop.run import replay, start
from moevolve.records import Proposed, Record, Screened, Selected
from moevolve.selection.policy import Draw
from moevolve.selection.replayed import recorded
from moevolve.selection.table import policy
from moevolve.selection.tree import Tree

SMALL = {"suite.levels": [1, 4], "attempts.tasks": 24, "learn.steps": 0, "evolve.generations": 2}


def run(folder: Path, name: str) -> tuple[Path, list[Record]]:
    config = Config.load("small", {"selection.policy": name, **SMALL}).override(seed=9, arm="program")
    out = start(config, folder / "run")
    with RunStore.open(out) as store:
        return out, [entry.record for entry in store.entries()]


def before(records: list[Record], step: Selected) -> Tree:
    tree = recorded(records[: records.index(step)])
    return Tree(tree.nodes, tree.champion, step.step)


@pytest.mark.parametrize("name", ["dgm-h-paper", "shinka", "gepa-pareto"])
def test_a_choice_follows_from_the_records_before_it(name: str, tmp_path: Path) -> None:
    """The journal has the tree as the policy saw it: drawing again from it gives the parent on record."""
    _, records = run(tmp_path, name)
    steps = [record for record in records if isinstance(record, Selected)]
    assert [step.step for step in steps] == [0, 1, 2, 3]
    for step in steps:
        draw = Draw(9, step.cycle, "parent", step.step % 2)
        assert policy(name).choose(before(records, step), draw) == step.variant
        chances = policy(name).probabilities(before(records, step))
        assert chances is not None
        assert step.chance == pytest.approx(chances[step.variant])
    parents = {step.step: step.variant for step in steps}
    tree = recorded(records)
    for record in records:
        if isinstance(record, Proposed):
            assert record.parent == parents[tree[record.variant].step or 0]


def test_hgm_looks_at_variants_once_more_before_it_makes_others(tmp_path: Path) -> None:
    out, records = run(tmp_path, "hgm")
    again = [record for record in records if isinstance(record, Selected) and record.action == "evaluate"]
    assert again
    assert all(sum(share.n for share in record.skills.values()) == 24 for record in again)
    once = {record.variant: record.n for record in records if isinstance(record, Screened)}
    tree = recorded(records)
    # Whatever was drawn for a variant counts, and nothing else does.
    for id in {record.variant for record in again} - {tree.champion}:
        tries = once.get(id, 0) + 24 * sum(record.variant == id for record in again)
        if id != "v0000":
            assert tree[id].wins + tree[id].losses == tries
    recorded_head, head = replay(out, tmp_path / "again")
    assert recorded_head == head


def test_an_unknown_policy_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"selection\.policy.*huxley"):
        Config.load("small", {"selection.policy": "huxley"})
    with pytest.raises(ConfigError, match=r"evolve\.selection.*it is `selection\.policy` now"):
        Config.load("small", {"evolve.selection": "dgm"})
