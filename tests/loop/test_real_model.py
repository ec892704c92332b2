"""The loop on a chat model that is not the shipped seed: asked in conversations, trained by an adapter.

The model is a random one of a few thousand parameters, so nothing is learnt; coins confirm answers instead of the
grader, and every stage is gone through all the same.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from moevolve import _native
from moevolve.cli.commands import show
from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.journal.store import RunStore
from moevolve.loop.estimate import engine as estimates
from moevolve.loop.estimate.engine import Estimate
from moevolve.loop.run import replay, start
from moevolve.models.tokenizer import BOS, EOS, VOCABULARY, character_tokenizer
from moevolve.records import Attempted, Evaluated, Learned, Record, RunFinished, RunStarted, Trained

SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": True,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant: "
)
SETTINGS = {
    "cycles": 1,
    "arm": "random-reward",
    "minutes": 30.0,
    "suite.levels": [1, 2],
    "suite.sealed_per_cell": 1,
    "suite.dev_per_cell": 1,
    "attempts.tasks": 12,
    "attempts.samples": 2,
    "learn.method": "lora",
    "learn.steps": 2,
    "learn.batch": 8,
    "learn.rank": 2,
    "gate.min_n": 6,
    "gate.max_n": 12,
    "gate.batch": 6,
    "evolve.candidates": 1,
    "evolve.screen": 6,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    _native.Engine.create(json.dumps(SHAPE), character_tokenizer(), 3, 1).save(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return folder


def real(model: Path, **settings: object) -> Config:
    return Config.load("real", SETTINGS | {"policy.checkpoint": str(model)} | settings)


@pytest.fixture(scope="module")
def told() -> list[Estimate]:
    return []


@pytest.fixture(scope="module")
def run(model: Path, told: list[Estimate], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield start(real(model), tmp_path_factory.mktemp("real") / "run", on_estimate=told.append)


def journal(path: Path) -> tuple[str, list[Record]]:
    with RunStore.open(path) as store:
        return store.head(), [entry.record for entry in store.entries()]


def of(records: list[Record], kind: type[Record]) -> list[Record]:
    return [record for record in records if isinstance(record, kind)]


def test_a_cycle_goes_through_every_stage(run: Path) -> None:
    _, records = journal(run)
    for kind in (Attempted, Learned, Trained, Evaluated):
        assert of(records, kind)
    assert isinstance(records[-1], RunFinished)


def test_what_auto_came_to_is_on_record(run: Path) -> None:
    first = journal(run)[1][0]
    assert isinstance(first, RunStarted)
    config = Config.from_canonical(first.config)
    assert (config.wording.style, config.learn.method, config.learn.positions) == ("chat", "lora", "plain")
    assert {skill.path for skill in first.skills} == set(config.suite.skills)


def test_the_shelf_holds_adapters_alone(run: Path) -> None:
    files = sorted((run / "weights").glob("*.safetensors"))
    assert len(files) == 2
    for file in files:
        data = file.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        names = [name for name in header if name != "__metadata__"]
        assert names
        assert all("lora_" in name for name in names)


def test_a_recipe_stays_in_its_bounds(run: Path) -> None:
    (learned,) = of(journal(run)[1], Learned)
    assert isinstance(learned, Learned) and learned.recipe is not None
    assert (learned.recipe.steps, learned.recipe.batch) == (2, 8)
    assert 1e-4 <= learned.recipe.learning_rate <= 1e-3


def test_replay_gives_the_same_head(run: Path, tmp_path: Path) -> None:
    before, after = replay(run, tmp_path / "again")
    assert before == after


def test_an_estimate_is_told_before_the_start_and_kept(run: Path, told: list[Estimate]) -> None:
    (expected,) = told
    assert estimates.load(run) == expected
    assert expected.cycles == 1
    assert 0 < expected.minutes[0] <= expected.minutes[1]
    assert expected.bytes > 0


def test_show_tells_the_estimate_beside_what_it_took(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show.execute(argparse.Namespace(run=run, json=False))
    assert "Estimated: 1 cycle in" in (said := capsys.readouterr().out)
    assert "; took " in said


def test_a_run_without_room_in_time_is_refused_before_it_starts(model: Path, tmp_path: Path) -> None:
    config = real(model, minutes=1e-6)
    with pytest.raises(UsageError, match=r"not one cycle fits in 1e-06 minutes.*lower `attempts.tasks`"):
        start(config, tmp_path / "run", on_estimate=lambda expected: None)
    assert not (tmp_path / "run").exists()


def test_a_run_without_room_in_memory_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "available", lambda: 1 << 20)
    with pytest.raises(UsageError, match=r"needs about .* GiB of memory and this machine has 0.0 GiB free"):
        start(real(model), tmp_path / "run", on_estimate=lambda expected: None)


def test_a_model_without_a_template_is_asked_with_bare_texts(model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model.iterdir():
        if file.name != "tokenizer_config.json":
            (bare / file.name).write_bytes(file.read_bytes())
    config = real(bare, **{"wording.style": "auto", "cycles": 0})
    _, records = journal(start(config, tmp_path / "run"))
    first = records[0]
    assert isinstance(first, RunStarted)
    assert Config.from_canonical(first.config).wording.style == "bare"
    with pytest.raises(UsageError, match=r"has no chat template.*--model PATH"):
        start(real(bare), tmp_path / "chat")


def test_a_stage_may_train_by_a_policys_loss(model: Path, tmp_path: Path) -> None:
    _, records = journal(start(real(model, **{"learn.loss": "cispo"}), tmp_path / "run"))
    trained = of(records, Trained)
    assert trained
    assert all(isinstance(record, Trained) and record.policy["ratio"] > 0 for record in trained)


def test_an_unknown_skill_is_named(model: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        real(model),
        suite=msgspec.structs.replace(real(model).suite, skills=("text/revers",)),
    )
    with pytest.raises(UsageError, match="did you mean 'text/reverse'"):
        start(config, tmp_path / "run")
