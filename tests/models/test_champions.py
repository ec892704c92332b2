"""A run's champion as a model, read off its journal."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import write_run
from promotion import gated, variant
from seed_run import run_of_the_seed
from synthetic_journal import records

from moevolve.errors import StoreError, UsageError
from moevolve.journal.store import RunStore
from moevolve.models.champions import Champions
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import Engine
from moevolve.protocol.training import Example
from moevolve.records import Gated, Timing


def test_the_champion_is_what_the_gate_promoted_last(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", status="running")
    promoted = [
        r.candidate for r in records(finished=False) if isinstance(r, Gated) and r.decision == "promote"
    ]
    with RunStore.open(path) as reader:
        champions = Champions(reader, Engine)
        assert champions.newest().variant == promoted[-1]
        with RunStore.open(path, write=True) as writer:
            writer.append([variant("new", "w1"), gated("new", "archive")], Timing(at=0.0))
            assert champions.newest().variant == promoted[-1]
            writer.append([gated("new", "promote")], Timing(at=0.0))
            assert (champions.newest().variant, champions.newest().weights) == ("new", "w1")


def test_a_run_without_records_has_no_champion(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store, pytest.raises(UsageError, match="no record yet"):
        Champions(store, Engine)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with RunStore.open(write_run(tmp_path / "run")) as store:
        champions = Champions(store, Engine)
        with pytest.raises(StoreError, match="weights of .* are missing"):
            champions.engine(champions.base(1), champions.newest())


def test_a_runs_folder_is_loaded_as_its_champion(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run_of_the_seed(path)
    seed = Engine.load(seed_checkpoint(), threads=1)
    assert Engine.load(path, threads=1).weights_hash == seed.weights_hash
    seed.train([Example(prompt="rev:abc=", answer="cba")], 1e-2)
    with RunStore.open(path, write=True) as writer:
        seed.write_weights(writer.weights_dir / f"{seed.weights_hash}.safetensors")
        writer.append([variant("new", seed.weights_hash), gated("new", "promote")], Timing(at=0.0))
    champion = Engine.load(path, device="cpu", threads=1)
    assert champion.weights_hash == seed.weights_hash and champion.origin == str(path)
    with pytest.raises(UsageError, match="is a run: leave precision"):
        Engine.load(path, precision="bf16")
