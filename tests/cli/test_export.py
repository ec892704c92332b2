"""`export`: what a run made, as files that stand alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from moevolve.agents.genome import Genome
from moevolve.cli.main import main
from moevolve.config import Config
from moevolve.errors import StoreError
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop.export import export_program
from moevolve.loop.run import start
from moevolve.loop.variants import genome_in
from moevolve.models.champions import champion_of
from moevolve.models.engine import Engine

PROMPTS = ["rev:abcd=", "add:12+34="]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    return start(Config.load("small").override(seed=3, cycles=1), folder)


def texts(model: Engine) -> list[str]:
    return [samples.text for samples in model.generate(PROMPTS, max_tokens=16)]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


class TestWeights:
    def test_a_folder_is_the_champion(self, run: Path, tmp_path: Path) -> None:
        assert main(["export", str(run), "--weights", str(tmp_path / "model")]) == 0
        exported, champion = Engine.load(tmp_path / "model", threads=1), champion_of(run, Engine)
        assert exported.weights_hash == champion.weights_hash and texts(exported) == texts(champion)

    def test_another_variant_and_a_gguf_file(
        self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with RunStore.open(run) as store:
            trained = next(v for v in read(store).archive() if v.level == "weights")
        words = [
            "--weights",
            str(tmp_path / "model.gguf"),
            "--variant",
            trained.id,
            "--dtype",
            "f32",
            "--json",
        ]
        assert main(["export", str(run), *words]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["variant"], told["weights"], told["files"]) == (
            trained.id,
            trained.weights,
            ["model.gguf"],
        )
        model = Engine.load(tmp_path / "model.gguf", threads=1, weights="trainable")
        assert model.weights_hash == trained.weights

    def test_replaced_weights_leave_none_of_the_old_model(self, run: Path, tmp_path: Path) -> None:
        old = tmp_path / "model"
        old.mkdir()
        for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "notes.txt"):
            (old / name).write_text("mine")
        assert main(["export", str(run), "--weights", str(old)]) == 2
        assert len(list(old.iterdir())) == 3
        assert main(["export", str(run), "--weights", str(old), "--force"]) == 0
        names = {path.name for path in old.iterdir()}
        assert {"model.safetensors", "config.json", "notes.txt"} <= names
        assert not names & {"model-00001-of-00002.safetensors", "model.safetensors.index.json"}
        assert texts(Engine.load(old, threads=1)) == texts(champion_of(run, Engine))

    def test_an_unknown_format_leaves_nothing(self, run: Path, tmp_path: Path) -> None:
        assert main(["export", str(run), "--weights", str(tmp_path / "model"), "--dtype", "int3"]) == 2
        assert list(tmp_path.iterdir()) == []


class TestProgram:
    def test_its_files_are_the_variants(self, run: Path, tmp_path: Path) -> None:
        with RunStore.open(run) as store:
            other = next(v for v in read(store).archive() if v.level == "program")
            files = genome_in(store, other.program).files
        assert main(["export", str(run), "--program", str(tmp_path / "p"), "--variant", other.id]) == 0
        assert contents(tmp_path / "p") == files

    def test_an_agent_says_where_it_comes_from(self, run: Path, tmp_path: Path) -> None:
        assert main(["export", str(run), "--agent", str(tmp_path / "a"), "--variant", "seed"]) == 0
        found = contents(tmp_path / "a")
        assert set(found) == {"agent.toml", "improve.py", "learn.py", "solve.py"}
        assert found["agent.toml"].startswith("# Variant v0000 of run small-3-")
        assert 'kind = "function"' in found["agent.toml"]

    def test_a_description_of_its_own_stays(self, run: Path, tmp_path: Path) -> None:
        own = Genome(files={"agent.toml": "# mine\r\n", "prompts/system.md": "Be brief.\n"})
        with RunStore.open(run) as store:
            export_program(store, own, tmp_path / "a", described=lambda: "ours")
        assert (tmp_path / "a/agent.toml").read_bytes() == b"# mine\r\n"
        assert (tmp_path / "a/prompts/system.md").read_text() == "Be brief.\n"

    def test_files_of_the_same_names_are_replaced_only_when_asked(self, run: Path, tmp_path: Path) -> None:
        there = tmp_path / "p"
        there.mkdir()
        (there / "solve.py").write_text("mine")
        (there / "notes.txt").write_text("mine")
        assert main(["export", str(run), "--program", str(there)]) == 2
        assert (there / "solve.py").read_text() == "mine"
        assert main(["export", str(run), "--program", str(there), "--force"]) == 0
        assert (there / "solve.py").read_text() != "mine" and (there / "notes.txt").read_text() == "mine"
        assert [path.name for path in tmp_path.iterdir()] == ["p"]

    @pytest.mark.parametrize("name", ["../out.py", "/tmp/out.py", "a/../../out.py", ""])
    def test_a_name_that_leads_out_of_the_folder_is_refused(
        self, name: str, run: Path, tmp_path: Path
    ) -> None:
        with RunStore.open(run) as store, pytest.raises(StoreError, match="outside"):
            export_program(store, Genome(files={name: "x"}), tmp_path / "p", force=True)
        assert list(tmp_path.iterdir()) == []


def test_the_skill_tree_is_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--skills"]) == 0
    told = json.loads(capsys.readouterr().out)

    def leaves(node: dict[str, Any]) -> dict[str, Any]:
        if "figures" in node:
            return {node["path"]: node["figures"]}
        return {path: figures for child in node["children"] for path, figures in leaves(child).items()}

    assert main(["show", str(run), "--json"]) == 0
    assert leaves(told["tree"]) == json.loads(capsys.readouterr().out)["skills"]


@pytest.mark.parametrize("kind", ["--weights", "--program", "--agent"])
def test_a_runs_own_folder_stays_as_it_is(kind: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(run.rglob("*"))
    for place in (run, run / "program", run / "weights" / "new"):
        assert main(["export", str(run), kind, str(place), "--force"]) == 2
        assert "run's own folder" in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--program", "p", "--variant", "v9999"], "no variant `v9999`"),
        (["--program", "p", "--dtype", "f16"], "--dtype"),
        (["--skills", "--variant", "seed"], "--variant"),
        (["--weights", "m"], "are missing"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    words: list[str],
    said: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(shutil.copytree(run, tmp_path / "run") / "weights")
    assert main(["export", "run", *words]) != 0
    assert said in capsys.readouterr().err
    shutil.rmtree(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
