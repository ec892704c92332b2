"""Growth on a server: what it takes is billed, a replay asks nobody, and a spending limit ends the run in order."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from growing import SETTINGS  # noqa: E402
from scripted_endpoint import KEY, MODEL, ScriptedEndpoint, serving  # noqa: E402

from moevolve.config import Config  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.loop.run import replay, start  # noqa: E402
from moevolve.records import Evaluated, Grown, GrowthScored, Metered, Record, RunFinished  # noqa: E402

VARIABLE = "SCRIPTED_ENDPOINT_KEY"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


def configured(server: ScriptedEndpoint, **settings: object) -> Config:
    given = SETTINGS | {
        "policy.endpoint": server.url,
        "policy.model": MODEL,
        "policy.key_env": VARIABLE,
        "wording.style": "bare",
        "suite.levels": [1, 2],
        "evolve.nulls": "off",
    }
    return Config.load("small", given | settings).override(seed=3, cycles=2)


def records(path: Path) -> list[Record]:
    with RunStore.open(path) as store:
        return [entry.record for entry in store.entries()]


def test_a_run_on_a_server_grows_and_a_replay_asks_nobody(tmp_path: Path) -> None:
    with serving() as server:
        path = start(configured(server), tmp_path / "run")
    found = records(path)
    grown = [record for record in found if isinstance(record, Grown)]
    assert any(each.decision == "added" for each in grown)
    assert sum(isinstance(record, GrowthScored) for record in found) == 1
    billed = {record.stage for record in found if isinstance(record, Metered)}
    assert {f"growth {each.growth}" for each in grown} <= billed and "grown sealed" in billed
    on_file, again = replay(path, tmp_path / "scratch")
    assert on_file == again


@pytest.mark.long
def test_a_spending_limit_leaves_one_last_score_and_no_half_column(tmp_path: Path) -> None:
    with serving() as server:
        whole = start(configured(server), tmp_path / "whole")
    spent = sum(r.prompt_tokens + r.completion_tokens for r in records(whole) if isinstance(r, Metered))
    for share in (0.5, 0.75, 0.98):
        with serving() as server:
            limit = {"endpoint.most_tokens": int(spent * share)}
            path = start(configured(server, **limit), tmp_path / f"limited{share}")
        found = records(path)
        last = [r for r in found if isinstance(r, Evaluated) and r.when == "final"]
        assert len(last) == 1 and isinstance(found[-1], RunFinished)
        taken = sum(r.prompt_tokens + r.completion_tokens for r in found if isinstance(r, Metered))
        assert taken <= int(spent * share)
        on_file, again = replay(path, tmp_path / f"again{share}")
        assert on_file == again
