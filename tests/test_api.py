"""The Python face: a run that is driven, one that is attached, and a skill of the user's own."""

import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

import moevolve as mv
from moevolve.cli.main import main
from moevolve.errors import UsageError
from moevolve.records import CycleStarted, Guarded, RunFinished, RunStarted
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


TINY = {
    "cycles": 1,
    "suite": {"name": "user", "levels": [1, 3], "sealed_per_cell": 1, "dev_per_cell": 1},
    "attempts": {"tasks": 8, "samples": 2},
    "learn.steps": 2,
    "gate": {"min_n": 6, "max_n": 12, "confirm_n": 6, "batch": 6},
    "evolve.candidates": 1,
    "evolve.screen": 6,
}


@pytest.fixture
def doubling() -> Iterator[None]:
    @mv.skill("text/double", levels=(1, 3))
    def double(rng: Random, level: int) -> mv.Task:
        word = "".join(rng.choice("abcdefghij") for _ in range(level + 2))
        return mv.Task(prompt=f"dbl:{word}=", answer="".join(2 * letter for letter in word))

    yield
    registry.forget("text/double")


class TestSettings:
    def test_they_mean_what_the_command_line_means_by_them(self, tmp_path: Path) -> None:
        words = ["--set", "gate.alpha=0.2", "--set", "suite.levels=[1, 2]", "--set", "cycles=0"]
        assert (
            main(["run", "small", "--seed", "5", "--out", str(tmp_path / "a"), "--display", "none", *words])
            == 0
        )
        settings = {"gate.alpha": 0.2, "suite": {"levels": (1, 2)}, "cycles": 0}
        run = mv.evolve("small", seed=5, out=tmp_path / "b", settings=settings).wait()
        assert (tmp_path / "a/run.toml").read_text() == (tmp_path / "b/run.toml").read_text()
        assert mv.Run.attach(tmp_path / "a").summary["journal"] == run.summary["journal"]

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"gate.alpah": 0.2}, "unknown key `gate.alpah` .did you mean `alpha`"),
            ({"gate": {"alpha": 2.0}}, "`gate.alpha`.*not 2.0"),
            ({"gate": 3}, "`gate`"),
            ({"cycles.more": 3}, "`cycles` is not a table"),
            ({"gate.alpha": 0.1, "gate": {"alpha": 0.2}}, "`gate.alpha` is set twice"),
            ({3: 4}, "not 3"),
            ({"policy.model": "m"}, "endpoint"),
        ],
    )
    def test_a_wrong_one_is_refused_and_leaves_no_folder(
        self, settings: dict[str, object], said: str, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match=said):
            mv.evolve("small", out=tmp_path / "run", settings=settings)
        assert not (tmp_path / "run").exists()

    def test_an_empty_table_changes_nothing(self, tmp_path: Path) -> None:
        run = mv.evolve("small", cycles=0, out=tmp_path / "run", settings={"gate": {}})
        assert "max_n = 96" in (run.wait().path / "run.toml").read_text()

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"key_env": "KEY"}, "name its address too"),
            ({"model": "nowhere.gguf"}, "there is no model at nowhere.gguf"),
            ({"endpoint": "here"}, "`policy`.*"),
        ],
    )
    def test_what_answers_is_checked_as_the_command_line_does(
        self, given: dict[str, str], said: str, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match=said):
            mv.evolve(out=tmp_path / "run", **given)  # type: ignore[arg-type]


class TestGoingOn:
    def test_a_stopped_run_is_resumable_to_the_head_it_would_have_had(self, tmp_path: Path) -> None:
        whole = mv.evolve("small", cycles=2, seed=5, out=tmp_path / "whole").wait()
        run = mv.evolve("small", cycles=2, seed=5, out=tmp_path / "run")
        for entry in run:
            if isinstance(entry.record, CycleStarted):
                assert run.stop() is run
                break
        assert run.summary["status"] == "stopped"
        assert len(list(run)) < len(list(whole))
        assert mv.replay(run.path).equal
        assert mv.resume(run.path).wait().summary["journal"] == whole.summary["journal"]

    def test_stopping_what_has_ended_changes_nothing(self, run: mv.Run) -> None:
        assert run.stop().summary["status"] == "finished"

    def test_a_run_that_is_driven_elsewhere_is_not_stopped_here(self, run: mv.Run) -> None:
        with pytest.raises(UsageError, match="not driven here"):
            mv.Run.attach(run.path).stop()

    def test_a_resumed_run_is_iterated_from_its_first_entry(self, run: mv.Run) -> None:
        assert list(mv.resume(run.path)) == list(run)

    def test_a_run_gets_more_cycles(self, tmp_path: Path) -> None:
        mv.evolve("small", cycles=0, seed=5, out=tmp_path / "run").wait()
        longer = mv.resume(tmp_path / "run", cycles=1).wait()
        assert (longer.summary["status"], longer.summary["cycles"]) == ("finished", 1)
        assert mv.replay(longer.path).equal

    def test_a_replay_tells_both_heads(self, run: mv.Run, tmp_path: Path) -> None:
        done = mv.replay(run.path, keep=tmp_path / "kept")
        assert done.equal and done.difference is None
        assert done.recorded == done.replayed == run.summary["journal"]["head"]  # type: ignore[index]
        assert list(mv.Run.attach(tmp_path / "kept"))[-1].hash == done.recorded

    def test_what_is_no_run_is_refused(self, tmp_path: Path) -> None:
        for do in (mv.resume, mv.replay):
            with pytest.raises(UsageError):
                do(tmp_path / "nothing")


class TestSkillsOfAProgram:
    def test_the_program_that_defines_them_resumes_and_replays(self, doubling: None, tmp_path: Path) -> None:
        run = mv.evolve("small", seed=5, out=tmp_path / "run", settings=TINY).wait()
        assert mv.replay(run.path).equal
        assert mv.resume(run.path, cycles=1).wait().summary["cycles"] == 2
        assert mv.replay(run.path).equal

    @pytest.mark.parametrize("words", [("replay",), ("resume", "--cycles", "+1")])
    def test_the_command_line_says_where_they_are(
        self, words: tuple[str, ...], doubling: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = mv.evolve("small", seed=5, out=tmp_path / "run", settings=TINY, cycles=0).wait().path
        registry.forget("text/double")
        assert main([words[0], str(path), *words[1:], "--display", "none"]) == 2
        said = capsys.readouterr().err
        assert "mv.replay(" in said and "mv.resume(" in said and str(path) in said

    def test_a_run_does_not_go_on_with_other_skills(self, doubling: None, tmp_path: Path) -> None:
        path = mv.evolve("small", seed=5, out=tmp_path / "run", settings=TINY, cycles=0).wait().path

        @mv.skill("text/triple", levels=(1, 3))
        def triple(rng: Random, level: int) -> mv.Task:
            return mv.Task(prompt=f"tri:{rng.random()}=", answer="x")

        try:
            for do in (lambda: mv.resume(path, cycles=1), lambda: mv.replay(path)):
                with pytest.raises(UsageError, match="has besides text/triple"):
                    do()
        finally:
            registry.forget("text/triple")

    def test_an_error_of_a_generator_is_raised_with_its_traceback_and_names_the_task(
        self, tmp_path: Path
    ) -> None:
        @mv.skill("text/rotten", levels=(1, 3))
        def rotten(rng: Random, level: int) -> mv.Task:
            if level == 3:
                raise KeyError("no such table")
            return mv.Task(prompt=f"rot:{rng.random()}=", answer="x")

        try:
            with pytest.raises(
                UsageError, match=r"text/rotten raised KeyError.*, task text/rotten/3/\d+"
            ) as told:
                mv.evolve("small", seed=5, out=tmp_path / "run", settings=TINY).wait()
        finally:
            registry.forget("text/rotten")
        cause = told.value.__cause__
        assert isinstance(cause, KeyError)
        assert [frame.name for frame in traceback.extract_tb(cause.__traceback__)][-1] == "rotten"

    def test_a_defect_that_is_no_error_of_ours_is_raised_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("moevolve.loop.cycle.cycle", broken)
        run = mv.evolve("small", cycles=1, seed=5, out=tmp_path / "run")
        for wait in (run.wait, lambda: list(run)):
            with pytest.raises(ZeroDivisionError):
                wait()
        assert run.summary["status"] == "failed"


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
            with pytest.raises(
                UsageError, match="32 of 32 answers could not be graded.* on task 'text/odd/(.|\n)*no number"
            ):
                run.wait()
        else:
            run.wait()
            assert run.summary["status"] == "finished"
            assert run.summary["answers"] == "any"
            failed = [e.record for e in run if isinstance(e.record, Guarded) and e.record.guard == "checks"]
            assert failed and all(0 < record.vetoed < record.checked for record in failed)
            assert "check_error on text/odd" in failed[0].detail and "no number" in failed[0].detail
            assert mv.replay(run.path).equal
    finally:
        registry.forget("text/odd")


def test_a_suite_and_an_agent_of_ones_own(tmp_path: Path) -> None:
    from moevolve.cli.main import main

    for kind in ("agent", "suite"):
        assert main(["init", kind, str(tmp_path / kind)]) == 0
    settings = {"gate": {"min_n": 8, "max_n": 16, "batch": 8}, "attempts.tasks": 12, "evolve.screen": 8}
    run = mv.evolve(
        "small",
        out=tmp_path / "run",
        cycles=1,
        suite=tmp_path / "suite",
        agent=tmp_path / "agent",
        settings=settings,
    ).wait()
    assert run.summary["suite"] == "dates" and "dates/iso" in run.summary["skills"]  # type: ignore[operator]
    assert mv.replay(run.path).equal


def test_a_skill_asked_in_sentences_has_edits_proposed_too(tmp_path: Path) -> None:
    @mv.skill("shop/total", levels=(1, 1))
    def total(rng: Random, level: int) -> mv.Task:
        a, b = rng.randint(1, 10**4), rng.randint(1, 10**4)
        return mv.Task(prompt=f"What is the total of {a} and {b}?", answer=str(a + b))

    try:
        settings = {"suite": {"name": "user"}, "attempts.tasks": 8, "evolve": {"screen": 8, "candidates": 2}}
        run = mv.evolve("small", out=tmp_path / "run", arm="program", cycles=1, settings=settings).wait()
        assert run.summary["promotions"]["program"]["proposed"] == 2  # type: ignore[index,call-overload]
    finally:
        registry.forget("shop/total")
