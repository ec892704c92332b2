"""Memory in a run: what is recalled and written is on record, a cycle sees earlier cycles' lessons alone, and replay,
resume, a move and a neighbour change nothing."""

from __future__ import annotations

import shutil
import sys
from itertools import chain
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from remembering import configured  # noqa: E402

from moevolve.auditor import audit  # noqa: E402
from moevolve.errors import MoevolveError  # noqa: E402
from moevolve.journal.lessons import MemoryStore, Query, memory_folder  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.loop.run import replay, resume, start  # noqa: E402
from moevolve.records import (  # noqa: E402
    CycleFinished,
    Entry,
    Evaluated,
    Generalised,
    Learned,
    Lesson,
    Outlived,
    Recalled,
    Record,
    Remembered,
    RunStarted,
)
from moevolve.report import terminal  # noqa: E402
from moevolve.report.summary import summary_of  # noqa: E402


def records_of(run: Path) -> list[Record]:
    with RunStore.open(run) as store:
        return [entry.record for entry in store.entries()]


def lessons_of(run: Path) -> dict[str, Lesson]:
    with MemoryStore(memory_folder(run)) as memory:
        return {lesson.id: lesson for lesson in memory.all()}


def head(run: Path) -> str:
    with RunStore.open(run) as store:
        return store.head()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    return start(configured(folder), folder / "run")


def test_a_cycle_recalls_the_lessons_of_earlier_cycles_alone(run: Path) -> None:
    lessons, seen = lessons_of(run), 0
    for record in records_of(run):
        if isinstance(record, Recalled):
            final = record.stage == "sealed" and record.cycle == 3
            latest = max((lessons[id].cycle for id in record.lessons), default=-1)
            assert latest < record.cycle + final
            assert all(lessons[id].kind != "failure" for id in record.lessons)
            seen += len(record.lessons)
    assert seen


def test_each_recall_is_on_record_with_its_ranks_and_what_became_of_it(run: Path) -> None:
    stages = {(r.stage, r.cycle): r for r in records_of(run) if isinstance(r, Recalled)}
    assert {("sealed", 0), ("dev", 1), ("program", 2), ("sealed", 3)} <= stages.keys()
    first, last = stages["sealed", 0], stages["sealed", 3]
    assert (first.attempts, first.recalls, first.silent, first.shown) == (8, 8, 8, [])
    assert (last.attempts, last.silent, len(last.shown)) == (8, 0, 8)
    final = [r for r in records_of(run) if isinstance(r, Evaluated)][-1]
    assert [shown.score for shown in last.shown] == final.outcomes
    assert all(len(shown.lessons) == 3 for shown in last.shown)


def test_what_memory_brought_is_told_from_attempts_made_again_without(run: Path) -> None:
    told = [record for record in records_of(run) if isinstance(record, Remembered)]
    assert [record.cycle for record in told] == [1, 2, 3]
    assert (told[0].with_memory, told[0].trust) == ([], {}), "there was nothing to recall"
    for record in told[1:]:
        assert len(record.with_memory) == len(record.without) == 12
        assert record.tokens > 0
    with RunStore.open(run) as store:
        summary = summary_of(store)
    assert summary is not None and summary.memory.n == 24
    memory = summary.memory
    assert memory.gain is not None and memory.gain_ci is not None
    assert memory.gain_ci[0] <= memory.gain <= memory.gain_ci[1]
    assert "made again without" in (terminal.memory_line(memory) or "")


def test_trust_on_record_is_trust_in_memory(run: Path) -> None:
    trust: dict[str, float] = {}
    for record in records_of(run):
        if isinstance(record, Remembered):
            trust |= record.trust
    assert trust
    with MemoryStore(memory_folder(run)) as memory:
        for id, value in trust.items():
            standing = memory.standing(id)
            assert standing is not None and standing.trust == pytest.approx(value, abs=1e-5)


def test_texts_of_programs_are_lessons_once_each(run: Path) -> None:
    notes = [lesson for lesson in lessons_of(run).values() if lesson.source == "program"]
    told = [record for record in records_of(run) if isinstance(record, Remembered)]
    assert len(notes) == sum(record.notes for record in told) > 0
    assert len({note.text for note in notes}) == len(notes)
    assert {(note.kind, note.success, note.prompt) for note in notes} == {("tool", False, "")}
    assert all(sum(record.refused.values()) for record in told)


def test_counts_of_lessons_agree(run: Path) -> None:
    written = sum(record.lessons for record in records_of(run) if isinstance(record, Learned))
    finished = [record for record in records_of(run) if isinstance(record, CycleFinished)]
    assert written == finished[-1].lessons == len(lessons_of(run))
    report = audit(run)
    assert report.ok, report.findings


def test_a_replay_recalls_the_same(run: Path, tmp_path: Path) -> None:
    recorded, again = replay(run, tmp_path / "again")
    assert recorded == again
    assert lessons_of(tmp_path / "again").keys() == lessons_of(run).keys()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before memory is written", "after practice"])
def test_a_run_that_is_killed_goes_on_to_the_same_end(
    run: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moevolve.loop.stages import practise
    from moevolve.memory.lessons import LessonMemory

    kind, name = (LessonMemory, "write") if moment == "before memory is written" else (practise, "remember")
    true, calls = getattr(kind, name), 0

    def dies(*arguments, **named):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Killed
        return true(*arguments, **named)

    config = configured(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(kind, name, dies)
        with pytest.raises(Killed):
            start(config, tmp_path / "run")
    resume(tmp_path / "run")
    assert head(tmp_path / "run") == head(run)
    assert lessons_of(tmp_path / "run").keys() == lessons_of(run).keys()


def test_runs_beside_each_other_do_not_see_each_other_and_a_moved_run_keeps_its_memory(
    run: Path, tmp_path: Path
) -> None:
    config = configured(tmp_path)
    first = start(config, tmp_path / "runs" / "first")
    second = start(config, tmp_path / "runs" / "second")
    assert head(first) == head(second) == head(run)
    assert lessons_of(first).keys() == lessons_of(second).keys()
    before = lessons_of(first)
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.move(first, moved)
    assert lessons_of(moved) == before and lessons_of(second).keys() == before.keys()
    recorded, again = replay(moved, tmp_path / "again")
    assert recorded == again


def test_without_memory_nothing_is_recalled_or_written(run: Path, tmp_path: Path) -> None:
    off = start(configured(tmp_path, memory__mode="off"), tmp_path / "run")
    kinds = {type(record) for record in records_of(off)}
    assert not kinds & {Recalled, Remembered}
    assert lessons_of(off) == {}
    first = [next(r for r in records_of(each) if isinstance(r, Evaluated)) for each in (run, off)]
    assert first[0].outcomes == first[1].outcomes, "before the first lesson both are the same run"


def test_a_shuffled_memory_shows_other_lessons_of_the_same_skill(run: Path, tmp_path: Path) -> None:
    other = start(configured(tmp_path, memory__mode="shuffled"), tmp_path / "run")
    shown = [
        r for r in records_of(other) if isinstance(r, Recalled) and r.cycle == 2 and r.stage == "program"
    ]
    mine = [r for r in records_of(run) if isinstance(r, Recalled) and r.cycle == 2 and r.stage == "program"]
    ids = [lessons_of(each) for each in (other, run)]
    texts = [
        {lessons[id].text for id in record[0].lessons}
        for lessons, record in zip(ids, (shown, mine), strict=True)
    ]
    assert texts[0] != texts[1]
    recorded, again = replay(other, tmp_path / "again")
    assert recorded == again


def test_a_poisoned_memory_has_wrong_answers_beside_the_right_ones(tmp_path: Path) -> None:
    poisoned = start(configured(tmp_path, memory__mode="poisoned", cycles=1), tmp_path / "run")
    lessons = list(lessons_of(poisoned).values())
    wrong = [lesson for lesson in lessons if lesson.source == "poison"]
    assert wrong and all(lesson.answer != lesson.prompt[4:-1][::-1] for lesson in wrong)
    right = [lesson for lesson in lessons if lesson.success and lesson.source == ""]
    assert {lesson.prompt for lesson in wrong} <= {lesson.prompt for lesson in right}


def test_memory_that_outlives_runs_is_copied_at_the_start_and_given_what_helped(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    first = start(configured(tmp_path, memory__shared=str(shared)), tmp_path / "first")
    [outlived] = [record for record in records_of(first) if isinstance(record, Outlived)]
    with MemoryStore(shared) as memory:
        given = {lesson.id for lesson in memory.all()}
        assert given <= set(outlived.lessons)
        memory.put(
            [lesson for lesson in lessons_of(first).values() if lesson.success and lesson.source == ""][:6]
        )
        held = {hit.lesson.id for hit in memory.search(Query(k=100))}
    second = start(configured(tmp_path, seed=9, memory__shared=str(shared)), tmp_path / "second")
    [started] = [record for record in records_of(second) if isinstance(record, RunStarted)]
    assert started.shared is not None and started.shared.lessons == len(held) >= 6
    before = [r for r in records_of(second) if isinstance(r, Recalled) and r.cycle == 0]
    assert before and set(chain.from_iterable(r.lessons for r in before)) <= held
    own = lessons_of(second)
    assert {own[id].source for id in held} == {started_name(first)}
    shutil.rmtree(shared)
    recorded, again = replay(second, tmp_path / "again")
    assert recorded == again, "the run has its own copy"
    assert not shared.exists(), "a replay gives nothing"


def started_name(run: Path) -> str:
    return next(record.run for record in records_of(run) if isinstance(record, RunStarted))


def test_hidden_states_of_a_server_are_out_of_reach(tmp_path: Path) -> None:
    from moevolve.loop import resolve

    config = configured(tmp_path, policy__endpoint="http://127.0.0.1:9/v1", policy__model="m")
    asked = {"memory.embedder": "policy"}
    assert resolve.embedder(resolve.with_embedder(config, "hashed-ngrams")) is not None
    with pytest.raises(MoevolveError, match="hashed-ngrams"):
        resolve.embedder(
            configured(tmp_path, policy__endpoint="http://127.0.0.1:9/v1", policy__model="m", **asked)
        )


def test_vectors_of_the_policys_own_hidden_states(tmp_path: Path) -> None:
    own = start(configured(tmp_path, memory__embedder="auto", cycles=2), tmp_path / "run")
    with MemoryStore(memory_folder(own)) as memory:
        told = memory.statistics()
        assert (told.embedder or "").startswith("policy ") and told.vectors > 0
    recorded, again = replay(own, tmp_path / "again")
    assert recorded == again


def test_the_last_score_is_on_record_with_what_it_recalled_also_where_the_run_is_killed_behind_it(
    tmp_path: Path,
) -> None:
    """Columns follow the score: the audit holds its recalls against its outcomes all the same."""

    def kill(entry: Entry) -> None:
        if isinstance(entry.record, Generalised):
            raise KeyboardInterrupt

    config = configured(tmp_path, generalise__per_cell=1, cycles=1)
    with pytest.raises(KeyboardInterrupt):
        start(config, tmp_path / "killed", kill)
    for _ in range(2):
        found = records_of(tmp_path / "killed")
        at = next(
            index for index, each in enumerate(found) if isinstance(each, Evaluated) and each.when == "final"
        )
        recalled = found[at - 1]
        assert isinstance(recalled, Recalled) and (recalled.stage, recalled.cycle) == ("sealed", 1)
        assert (
            sum(isinstance(each, Recalled) and each.stage == "sealed" and each.cycle == 1 for each in found)
            == 1
        )
        resume(tmp_path / "killed")
    start(config, tmp_path / "whole")
    assert head(tmp_path / "killed") == head(tmp_path / "whole")
    assert audit(tmp_path / "whole").ok, audit(tmp_path / "whole").findings
