"""A run that starts from another run's champion needs that run no more, and is audited, resumed and replayed by itself."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from promotion import gated, variant  # noqa: E402
from seed_run import run_of_the_seed  # noqa: E402

import moevolve as mv  # noqa: E402
from moevolve.cli.main import main  # noqa: E402
from moevolve.errors import CheckpointError, UsageError  # noqa: E402
from moevolve.journal.reader import read  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.models.checkpoint import seed_checkpoint  # noqa: E402
from moevolve.models.engine import Engine  # noqa: E402
from moevolve.protocol.training import Example  # noqa: E402
from moevolve.records import RunStarted, Timing  # noqa: E402
from moevolve.serve.deployed import opened  # noqa: E402

SETTINGS = {"suite.levels": (1, 1), "policy.threads": 1, "suite.sealed_per_cell": 1, "suite.dev_per_cell": 1}


def promoted(path: Path) -> str:
    """Writes a run whose champion has learnt something; returns the hash of its weights."""
    run_of_the_seed(path)
    engine = Engine.load(seed_checkpoint(), threads=1)
    engine.train([Example(prompt="rev:abc=", answer="cba")], 1e-2)
    learnt = engine.weights_hash
    with RunStore.open(path, write=True) as store:
        engine.write_weights(store.weights_dir / f"{learnt}.safetensors")
        store.append([variant("new", learnt), gated("new")], Timing(at=0.0))
    return learnt


def started(path: Path) -> RunStarted:
    with RunStore.open(path) as store:
        return read(store).started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def learnt(folder: Path) -> str:
    return promoted(folder / "first")


@pytest.fixture(scope="module")
def run(folder: Path, learnt: str) -> Path:
    """A run from the champion of another, which is gone since; itself it has been moved."""
    mv.evolve("small", model=folder / "first", out=folder / "begun", cycles=0, settings=SETTINGS).wait()
    (folder / "first").rename(folder / "gone")
    return (folder / "begun").rename(folder / "second")


def test_it_starts_from_the_champions_weights(run: Path, folder: Path, learnt: str) -> None:
    assert started(run).weights == learnt
    assert Engine.load(run, threads=1).weights_hash == learnt
    assert not list(folder.glob(".moevolve-model-*"))


def test_it_is_audited_replayed_and_goes_on_where_it_lies_now(run: Path, folder: Path) -> None:
    assert mv.audit(run).ok
    again = mv.replay(run, keep=folder / "again")
    assert again.equal
    assert Engine.load(folder / "again", threads=1).weights_hash == started(run).weights
    longer = shutil.copytree(run, folder / "longer")
    mv.resume(longer, cycles=1).wait()
    assert mv.audit(longer).ok and mv.replay(longer).equal


def test_another_run_starts_from_it(run: Path, folder: Path, learnt: str) -> None:
    mv.evolve("small", model=run, out=folder / "third", cycles=0, settings=SETTINGS).wait()
    assert started(folder / "third").weights == learnt
    mv.evolve(run / "run.toml", out=folder / "fourth").wait()
    shutil.rmtree(folder / "third")
    assert Engine.load(folder / "fourth", threads=1).weights_hash == learnt


def test_a_model_that_was_changed_or_is_gone_is_refused(run: Path, folder: Path) -> None:
    other = shutil.copytree(run, folder / "changed")
    with next((other / "model").glob("*.safetensors")).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(UsageError, match="is not the model that the run began with"):
        mv.resume(other, cycles=1)
    assert not mv.audit(other).ok
    shutil.rmtree(other / "model")
    with pytest.raises(CheckpointError, match="model is gone"):
        mv.resume(other, cycles=1)
    with pytest.raises(CheckpointError, match="model is gone"):
        Engine.load(other, threads=1)


@pytest.mark.parametrize(
    "words", [["eval", "primer", "--each", "1", "--set", "suite.levels=[1,1]", "--model"], ["plan"]]
)
def test_commands_that_take_a_model_take_a_run(
    run: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--set", "wording.style=bare"] if words[0] == "eval" else []
    assert main([*words, str(run), *more, "--json"]) == 0
    assert capsys.readouterr().out.startswith("{")


def test_a_preset_for_chat_models_names_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "real", "--model", str(run), "--out", str(run.parent / "chat")]) == 2
    assert f"the champion of {run} has no chat template" in capsys.readouterr().err


def test_a_server_that_learns_begins_with_it(run: Path, folder: Path, learnt: str) -> None:
    for _ in ("begun", "gone on with"):
        with opened(folder / "served", run, threads=1) as deployed:
            assert deployed.engine(deployed.champion()).weights_hash == learnt


def test_a_run_without_weights_is_named(folder: Path) -> None:
    with RunStore.create(folder / "empty"):
        pass
    with pytest.raises(UsageError, match="holds no record yet"):
        mv.evolve("small", model=folder / "empty", out=folder / "none")
    assert not (folder / "none").exists()
