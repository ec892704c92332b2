"""Lessons made one in a run: on record, recalled from the next cycle on, done again by a replay, taken back by a command."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from remembering import configured  # noqa: E402

from moevolve.auditor import audit  # noqa: E402
from moevolve.cli.main import main  # noqa: E402
from moevolve.errors import UsageError  # noqa: E402
from moevolve.journal.lessons import MemoryStore, Query, memory_folder  # noqa: E402
from moevolve.journal.reader import read  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.loop.run import replay, roll_back, start  # noqa: E402
from moevolve.records import Consolidated, Recalled, Record  # noqa: E402

AGENT = '''
async def solve(task, agent):
    """Says one thing in the first cycle, and nearly the same once it is told that."""
    told = await agent.recall("tasks are read from the last letter to the first", k=1, kinds=("tool",))
    word = "always" if told else "often"
    await agent.remember(f"tasks of this skill are read from the last letter to the first {word}", kind="tool")
    return (await agent.generate(task.prompt, max_tokens=16)).text
'''


def records_of(run: Path) -> list[Record]:
    with RunStore.open(run) as store:
        return [entry.record for entry in store.entries()]


def head(run: Path) -> str:
    with RunStore.open(run) as store:
        return store.head()


def texts(run: Path) -> dict[str, str]:
    """Texts that queries return, by id."""
    with MemoryStore(memory_folder(run)) as memory:
        return {hit.lesson.id: hit.lesson.text for hit in memory.search(Query(kinds=("tool",), k=99))}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("consolidation")
    return start(configured(folder, AGENT, cycles=4), folder / "run")


def test_what_was_said_anew_is_one_with_what_attempts_told_of_both(run: Path) -> None:
    [made] = [record for record in records_of(run) if isinstance(record, Consolidated)]
    assert (made.merge, made.decision, made.cycle, len(made.sources)) == ("m001", "merged", 3, 2)
    assert sum(sum(each) for each in made.evidence) > 0
    assert list(texts(run)) == [made.lesson] and texts(run)[made.lesson].endswith("always")
    with MemoryStore(memory_folder(run)) as memory:
        one = memory.get(made.lesson)
        assert one is not None and one.sources == made.sources and one.source == "program"
    recalled = [
        r for r in records_of(run) if isinstance(r, Recalled) and (r.cycle, r.stage) == (4, "program")
    ]
    assert [record.lessons for record in recalled] == [[made.lesson]]


def test_it_is_audited_and_done_again(run: Path, tmp_path: Path) -> None:
    assert not audit(run).findings
    assert replay(run, tmp_path / "again") == (head(run), head(run))
    assert texts(tmp_path / "again") == texts(run)


def test_it_is_off_by_a_setting(tmp_path: Path) -> None:
    out = start(configured(tmp_path, AGENT, cycles=3, memory__consolidate=False), tmp_path / "run")
    assert not [record for record in records_of(out) if isinstance(record, Consolidated)]


def test_an_ended_run_takes_it_back_and_goes_on_without(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    assert main(["memory", str(out), "merges"]) == 0
    assert capsys.readouterr().out.startswith("m001  cycle 3  text/back")
    with pytest.raises(UsageError, match="there are m001"):
        roll_back(out, "m002")
    assert main(["memory", str(out), "undo", "m001"]) == 0
    assert "m001 is rolled back" in capsys.readouterr().err
    [made] = [record for record in records_of(out) if isinstance(record, Consolidated)]
    assert made.lesson not in texts(out) and len(texts(out)) == 1
    with RunStore.open(out) as store:
        assert read(store).view.memory.merges == {}
    assert not audit(out).findings
    assert main(["memory", str(out), "check"]) == 0
    assert main(["resume", str(out), "--cycles", "+1", "--display", "none"]) == 0
    assert len([record for record in records_of(out) if isinstance(record, Consolidated)]) == 1
    assert made.lesson not in texts(out)
