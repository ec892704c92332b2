"""What the studies of memory and of rare skills compare: runs of one budget, of the configuration that was asked for."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from moevolve.errors import UsageError

BENCHES = Path(__file__).parents[2] / "benches"


def bench(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCHES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return bench("memory_study")


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**({"suite": "primer", "set": [], "model": None, "cycles": None} | given))


@pytest.mark.parametrize("cycles", [None, 3])
def test_arms_end_by_their_cycles_and_never_by_a_clock(study: ModuleType, cycles: int | None) -> None:
    for arm in study.ARMS:
        config = study.configured(options(cycles=cycles), arm, 0)
        assert (config.cycles, config.minutes, config.memory.mode) == (cycles or 14, None, arm)


def test_a_run_of_another_configuration_is_told_apart_by_its_keys(study: ModuleType) -> None:
    config = study.configured(options(), "on", 0)
    replace = msgspec.structs.replace
    settled = replace(config, memory=replace(config.memory, embedder="policy"))
    assert study.differences(config, settled.canonical()) == [], "a run chooses what is left open"
    for other, key in (
        (study.configured(options(set=["memory.keep=9"]), "on", 0), "memory.keep"),
        (study.configured(options(cycles=2), "on", 0), "cycles"),
        (study.configured(options(), "off", 0), "memory.mode"),
        (replace(config, minutes=9.0), "minutes"),
        (replace(config, policy=replace(config.policy, checkpoint="/another")), "policy.checkpoint"),
    ):
        assert study.differences(other, config.canonical()) == [key]
        assert study.differences(config, other.canonical()) == [key]


def test_a_run_that_is_on_file_is_read_only_for_its_own_configuration(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = study.configured(options(), "on", 0)
    other = study.configured(options(set=["memory.keep=9"]), "on", 0)

    class Store:
        def __len__(self) -> int:
            return 2

        def __enter__(self) -> Store:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def entries(self, start: int, limit: int) -> list[Any]:
            began = study.RunStarted(
                run="r",
                seed=0,
                arm="full",
                suite="primer",
                answers="policy",
                skills=[],
                config=other.canonical(),
                champion="v",
                weights="w",
                program="p",
                parameters=1,
            )
            return [argparse.Namespace(record=[began, study.RunFinished(cycles=1, champion="v")][start])]

    monkeypatch.setattr(study, "is_run", lambda path: True)
    monkeypatch.setattr(study.RunStore, "open", lambda path: Store())
    assert study.finished(tmp_path, other)
    with pytest.raises(UsageError, match=r"memory\.keep"):
        study.finished(tmp_path, config)


@pytest.mark.parametrize(("promotions", "code"), [([1, 2], 0), ([1, 0], 1), ([0, 0], 1)])
def test_a_champion_that_is_the_seed_shows_nothing(
    promotions: list[int], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each protected seed needs a promotion, or its champion has nothing to have kept."""
    rare = bench("rare_skill")

    def measured(seed: int, cycles: int, given: Any, *, protected: bool) -> tuple[list[float], float, int]:
        return [0.9, 0.9, 0.9 if protected else 0.5], 0.01, promotions[seed - 1] if protected else 1

    monkeypatch.setattr(rare, "measured", measured)
    monkeypatch.setattr(sys, "argv", ["rare_skill.py", "--seeds", "2", "--require"])
    assert rare.main() == code
    said = capsys.readouterr().out
    assert ("nothing was promoted" in said) is (code == 1)
    assert "unprotected: down by more than the margin: champion in 0, trained weights in 2 of 2 seeds" in said
    assert "protected: down by more than the margin: champion in 0, trained weights in 0 of 2 seeds" in said


def test_settings_are_read_as_json(study: ModuleType) -> None:
    config = study.configured(options(set=["memory.without=0.125", "cycles=5"]), "on", 7)
    assert (config.memory.without, config.cycles, config.seed) == (0.125, 5, 7)
    assert dict(study.flat(json.loads(config.canonical())))["memory.without"] == 0.125
