"""The Python face: a run that is driven, one that is attached, and a skill of the user's own."""

import shutil
from pathlib import Path
from random import Random

import pytest

import moevolve as mv
from moevolve.errors import UsageError
from moevolve.records import RunFinished, RunStarted
from moevolve.tasks import registry


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mv.Run:
    return mv.evolve("small", cycles=1, seed=5, out=tmp_path_factory.mktemp("api") / "run").wait()


def test_a_run_is_an_iterator_of_its_entries(tmp_path: Path) -> None:
    entries = list(mv.evolve("small", cycles=0, out=tmp_path / "run"))
    assert isinstance(entries[0].record, RunStarted)
    assert isinstance(entries[-1].record, RunFinished)
    assert [entry.seq for entry in entries] == list(range(len(entries)))


def test_a_run_can_be_iterated_again(tmp_path: Path) -> None:
    run = mv.evolve("small", cycles=0, out=tmp_path / "run")
    assert list(run) == list(run) == list(mv.Run.attach(run.path))


def test_a_run_keeps_its_lessons_in_its_own_folder(run: mv.Run, tmp_path: Path) -> None:
    assert [path.name for path in run.path.parent.iterdir()] == [run.path.name]
    moved = shutil.copytree(run.path, tmp_path / "elsewhere")
    lessons = run.memory.search("rev", k=3)
    assert lessons and mv.Run.attach(moved).memory.search("rev", k=3) == lessons


def test_a_run_tells_champion_score_lineage_and_memory(run: mv.Run) -> None:
    assert run.score is not None
    assert 0 <= run.score.low <= run.score.mean <= run.score.high <= 1
    assert run.archive.lineage(run.champion)[0].id == "v0000"
    assert all(lesson.run == run.memory._run for lesson in run.memory.search("rev", k=3))


def test_a_finished_run_can_be_attached(run: mv.Run) -> None:
    attached = mv.Run.attach(run.path)
    assert attached.champion == run.champion
    assert isinstance(list(attached)[-1].record, RunFinished)


def test_a_wrong_start_raises_at_once(run: mv.Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        mv.evolve("smal", out=tmp_path / "run")
    with pytest.raises(UsageError):
        mv.evolve("small", out=run.path)


def test_a_users_skill_joins_the_suite_and_runs(tmp_path: Path) -> None:
    @mv.skill("text/double")
    def double(rng: Random, level: int) -> mv.Task:
        word = "".join(rng.choice("abcdefghij") for _ in range(level + 2))
        return mv.Task(prompt=f"dbl:{word}=", answer="".join(2 * letter for letter in word))

    try:
        settings = tmp_path / "own.toml"
        settings.write_text(
            'cycles = 1\n[suite]\nname = "primer+user"\nlevels = [1, 3]\nsealed_per_cell = 1\n'
            "dev_per_cell = 1\n[attempts]\ntasks = 52\nsamples = 2\n[learn]\nsteps = 4\n"
            "[gate]\nmin_n = 26\nmax_n = 52\nbatch = 20\n[evolve]\ncandidates = 2\nscreen = 26\n"
        )
        done = mv.evolve(settings, out=tmp_path / "run").wait()
        assert "text/double" in done.summary["skills"]  # type: ignore[operator]
    finally:
        registry.forget("text/double")


@pytest.mark.parametrize("share", [1, 4])
def test_a_check_that_raises_is_a_verdict_and_a_suite_that_cannot_grade_stops(
    share: int, tmp_path: Path
) -> None:
    def check(answer: str) -> float:
        if sum(map(ord, answer)) % share == 0:
            raise ValueError("no number")
        return 1.0

    @mv.skill("text/odd")
    def odd(rng: Random, level: int) -> mv.Task:
        word = "".join(rng.choice("abcdefghij") for _ in range(level + 2))
        return mv.Task(prompt=f"rev:{word}=", grade=check)

    try:
        settings = tmp_path / "own.toml"
        settings.write_text(
            'cycles = 1\n[suite]\nname = "user"\nlevels = [3, 6]\nsealed_per_cell = 8\n'
            "dev_per_cell = 1\n[attempts]\ntasks = 12\nsamples = 2\n[learn]\nsteps = 2\n"
            "[gate]\nmin_n = 6\nmax_n = 12\nconfirm_n = 6\nbatch = 6\n[evolve]\ncandidates = 1\nscreen = 6\n"
        )
        run = mv.evolve(settings, out=tmp_path / "run")
        if share == 1:
            with pytest.raises(UsageError, match="32 of 32 answers could not be graded(.|\n)*no number"):
                run.wait()
        else:
            run.wait()
            assert run.summary["status"] == "finished"
            assert run.summary["answers"] == "any"
    finally:
        registry.forget("text/odd")
