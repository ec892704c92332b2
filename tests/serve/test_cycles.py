"""Cycles of a server: what they learn from, what they leave alone, and when the next one begins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from seed_run import run_of_the_seed
from serving import PATIENCE

from moevolve.config import Config
from moevolve.config.schema import LearnSection, SuiteSection
from moevolve.errors import MoevolveError, UsageError
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.models.scheduler import Scheduler
from moevolve.records import Gated, Learned, Lesson, Record
from moevolve.serve.deployed import Deployed, opened
from moevolve.serve.interactions import Feedback, Interaction, Interactions
from moevolve.serve.judging import LONGEST
from moevolve.serve.learner import FULL, NotEnough, learn, lesson_id
from moevolve.serve.learning import Learning, erase
from moevolve.serve.limits import Limits
from moevolve.serve.service import Service
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


class Scripted(Learning):
    """Cycles that end as a test wrote."""

    def __init__(self, deployed: Deployed, ends: Sequence[str | MoevolveError], every: float | None) -> None:
        service = Service("test", Limits(), Scheduler)
        super().__init__(deployed, service, lambda _: None, every=every, threads=1, most=100)
        self.ends = list(ends)
        self.over = asyncio.Event()

    async def _run(self) -> str:
        end = self.ends.pop(0)
        if not self.ends:
            self.over.set()
        if isinstance(end, MoevolveError):
            raise end
        return end


async def heard(learning: Learning) -> None:
    """One client's feedback."""
    learning.keep(Interaction(id="a", client="ann", at=0, prompt="p", answers=["x"], weights="w"))
    await learning.judge("a", 0, "ann", 1.0, None)


class Late(Scripted):
    """A cycle that writes lessons of what was erased after it had read it."""

    async def _run(self) -> str:
        assert self.running and await self.erase(None, "ann") == 1
        lesson = Lesson(
            id=lesson_id("a"),
            skill="deployed/feedback",
            level=1,
            text="px",
            prompt="p",
            answer="x",
            success=True,
            run="r",
            cycle=1,
            variant="v0000",
        )
        with MemoryStore(memory_folder(self.deployed.store.path)) as memory:
            memory.put([lesson])
        return await super()._run()


class TestWhenTheNextOneBegins:
    def test_feedback_of_a_cycle_that_failed_is_learned_from_by_the_next(self, deployed: Deployed) -> None:
        async def served() -> None:
            learning = Scripted(deployed, [MoevolveError("no memory"), "done"], every=0.0)
            await heard(learning)
            learning.begin()
            await asyncio.wait_for(learning.over.wait(), PATIENCE)
            await learning.finished()
            assert learning.last == "done" and not learning.interactions.unseen
            await learning.close()

        asyncio.run(served())

    @pytest.mark.parametrize("end", [MoevolveError("no memory"), "not enough feedback", None])
    def test_the_next_server_knows_whether_there_is_feedback_to_learn_from(
        self, deployed: Deployed, end: str | MoevolveError | None
    ) -> None:
        async def served() -> None:
            learning = Scripted(deployed, [] if end is None else [end], every=None)
            await heard(learning)
            if end is not None:
                learning.learn()
                await learning.finished()
            await learning.close()

        assert not Interactions(deployed.store).unseen
        asyncio.run(served())
        assert Interactions(deployed.store).unseen is not isinstance(end, str)

    def test_feedback_that_comes_while_a_cycle_runs_is_for_the_next(self, deployed: Deployed) -> None:
        kept = Interactions(deployed.store)
        say(kept, "a", "ann", "p", "x")
        began = kept.verdicts
        say(kept, "a", "bob", "p", "x")
        kept.seen(began)
        assert kept.unseen and Interactions(deployed.store).unseen
        kept.seen(kept.verdicts)
        assert not kept.unseen and not Interactions(deployed.store).unseen


@pytest.mark.parametrize("end", ["done", MoevolveError("no memory")])
def test_what_is_erased_while_a_cycle_runs_leaves_memory_with_its_end(
    deployed: Deployed, end: str | MoevolveError
) -> None:
    async def served() -> None:
        learning = Late(deployed, [end], every=None)
        await heard(learning)
        learning.learn()
        await learning.finished()
        await learning.close()

    asyncio.run(served())
    with MemoryStore(memory_folder(deployed.store.path)) as memory:
        assert memory.count() == 0


def test_what_a_client_said_of_anothers_answer_leaves_memory_with_it(deployed: Deployed) -> None:
    kept = Interactions(deployed.store)
    for number in range(20):
        say(kept, f"a{number}", ("bob", "cid")[number % 2], f"p{number}", f"x{number}", asker="ann")
    learn(deployed.store.path, 1, lambda _: None)
    with MemoryStore(memory_folder(deployed.store.path)) as memory:
        taught = {number for number in range(20) if memory.get(lesson_id(f"a{number}")) is not None}
    assert len(taught) == 10
    # Ann asked; what was learned is what one of the others said.
    assert erase(deployed, kept, None, ("bob", "cid")[min(taught) % 2]) == 0
    with MemoryStore(memory_folder(deployed.store.path)) as memory:
        assert memory.count() == 0
    assert len(kept) == 20
