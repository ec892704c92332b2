"""Cycles of a server: what they learn from, what they leave alone, and when the next one begins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from seed_run import run_of_the_seed

from moevolve.config import Config
from moevolve.config.schema import LearnSection, SuiteSection
from moevolve.errors import UsageError
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.records import Gated, Learned, Record
from moevolve.serve.deployed import Deployed, opened
from moevolve.serve.interactions import Feedback, Interaction, Interactions
from moevolve.serve.judging import LONGEST
from moevolve.serve.learner import FULL, NotEnough, learn
from moevolve.tasks.suite import suite

CLIENTS = ("ann", "bob", "cid", "dan")
KNOWN = "text/reverse", 2
"""A skill and a level that the seed knows."""
TAUGHT = "text/reverse", 8
LISTED = 40
"""Tasks of the suite of one's own."""


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    with opened(tmp_path / "learn", None, 1) as deployed:
        yield deployed


def say(kept: Interactions, id: str, client: str, prompt: str, correction: str, asker: str = "") -> None:
    """A prompt, and what a client says is the answer."""
    if kept.get(id) is None:
        kept.keep(Interaction(id=id, client=asker or client, at=0, prompt=prompt, answers=["?"], weights="w"))
    kept.judge(Feedback(id=id, choice=0, client=client, at=0, score=0.0, correction=correction))


def teach(
    deployed: Deployed,
    clients: Sequence[str],
    count: int = 12,
    long: Sequence[str] = (),
    always: str | None = None,
) -> None:
    """Corrections of clients, of which those of `long` are too long to learn from: right ones, or `always` the same."""
    kept = Interactions(deployed.store)
    for client in clients:
        for place, task in enumerate(suite("primer").sample("train", [TAUGHT] * count, "taught", client)):
            answer = "0123456789" * LONGEST if client in long else always or task.answer
            say(kept, f"{client}-{place}", client, task.prompt, answer or "")


def own_suite(folder: Path) -> Path:
    """A suite of one's own, at some of whose tasks the seed is right."""
    folder.mkdir()
    tasks = suite("primer").sample("train", [KNOWN] * LISTED, "own")
    rows = [
        {"id": str(place), "prompt": task.prompt, "answer": task.answer} for place, task in enumerate(tasks)
    ]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run_on(source: Path, run: Path, **more: Any) -> None:
    """A run on a suite of one's own."""
    run_of_the_seed(run, config=Config(cycles=0, seed=1, suite=SuiteSection(path=str(source)), **more))


class TestWhatACycleLearnsFrom:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        run_on(own_suite(tmp_path / "own"), tmp_path / "run")
        # As another process left it: nobody here has read the suite.
        monkeypatch.setattr("moevolve.tasks.suite._opened", {})
        return tmp_path / "run"

    def test_a_run_on_a_suite_of_ones_own_learns_and_keeps_its_skills(self, run: Path) -> None:
        with opened(run, None, 1) as deployed:
            teach(deployed, CLIENTS, 40, always="no, never")
            told: list[Record] = []
            learn(deployed.store.path, 1, told.append)
        (learned,) = [record for record in told if isinstance(record, Learned)]
        (gated,) = [record for record in told if isinstance(record, Gated)]
        # Of 40 listed tasks 16 are for training and 12 for the gate; each is asked once.
        assert learned.confirmed < learned.buffer <= learned.confirmed + 16
        assert gated.skills["deployed/feedback"] > 0 and "over 12 tasks" in gated.reason

    def test_a_suite_that_is_gone_is_an_error_before_anything_is_on_record(self, run: Path) -> None:
        with opened(run, None, 1) as deployed:
            teach(deployed, CLIENTS)
            (run / "suite" / "tasks.jsonl").unlink()
            told: list[Record] = []
            with pytest.raises(UsageError, match="suite"):
                learn(deployed.store.path, 1, told.append)
            assert told == []
            with MemoryStore(memory_folder(deployed.store.path)) as memory:
                assert memory.count() == 0

    def test_an_adapter_rehearses_too(self, tmp_path: Path) -> None:
        adapted = LearnSection(method="lora", targets=("q_proj",))
        run_on(own_suite(tmp_path / "own"), tmp_path / "run", learn=adapted)
        told: list[Record] = []
        with opened(tmp_path / "run", None, 1) as deployed:
            assert deployed.engine(deployed.champion()).adapter is not None
            teach(deployed, CLIENTS)
            learn(deployed.store.path, 1, told.append)
        (learned,) = [record for record in told if isinstance(record, Learned)]
        assert learned.buffer > learned.confirmed
        assert learned.recipe is not None and learned.recipe.recent == FULL.recent

    @pytest.mark.parametrize("long", [CLIENTS, CLIENTS[:3], ("ann",)])
    def test_answers_that_are_too_long_are_no_feedback(self, deployed: Deployed, long: Sequence[str]) -> None:
        # Whoever is to judge, too few are left beside those that are long.
        short = [name for name in CLIENTS if name not in long]
        teach(deployed, [*long, *short[:1]], long=long)
        told: list[Record] = []
        with pytest.raises(NotEnough, match=f"{LONGEST} tokens or more are left out"):
            learn(deployed.store.path, 1, told.append)
        assert told == []

    def test_clients_whose_answers_are_too_long_neither_teach_nor_judge(self, deployed: Deployed) -> None:
        teach(deployed, CLIENTS, long=CLIENTS[2:])
        told: list[Record] = []
        learn(deployed.store.path, 1, told.append)
        (gated,) = [record for record in told if isinstance(record, Gated)]
        (learned,) = [record for record in told if isinstance(record, Learned)]
        assert learned.confirmed == learned.lessons == 12 and 0 < gated.n <= 12
