"""A run on a foreign agent: metered, replayed without a model, and its prompt evolved like any program's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from adding_endpoint import BAD, GOOD, AddingEndpoint, adding, improver, suite_files  # noqa: E402
from boxed import ASK, boxes  # noqa: E402

from moevolve.agents.box.records import FILE, Repeats  # noqa: E402
from moevolve.config import Config  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.loop.run import replay, start  # noqa: E402
from moevolve.records import Gated, Metered  # noqa: E402

pytestmark = boxes

AGENT = f"""{ASK}
import pathlib
system = pathlib.Path(__file__).with_name("prompts").joinpath("system.md").read_text()
messages = [{{"role": "system", "content": system}}, {{"role": "user", "content": sys.stdin.read()}}]
print(ask("", messages=messages, temperature=0)[1]["choices"][0]["message"]["content"])
"""
NOW = "import time\nmessages = [{'role': 'system', 'content': str(time.time_ns())}, "
TOML = (
    'kind = "command"\nargv = ["python", "agent.py"]\nimport = ["http.client", "json", "pathlib"]\n'
    'edit = ["prompts/*.md"]\n'
)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def configured(
    tmp_path: Path, server: AddingEndpoint, prompt: str, proposed: str, agent: str = AGENT
) -> Config:
    files = {
        "agent.toml": TOML,
        "agent.py": agent,
        "prompts/system.md": prompt,
        "improve.py": improver(proposed),
    }
    write(tmp_path / "mine", files)
    write(tmp_path / "adding", suite_files())
    return Config.load(
        "small",
        {
            "policy.endpoint": server.url,
            "policy.model": "adder",
            "policy.max_tokens": 256,
            "suite.path": str(tmp_path / "adding"),
            "agent.path": str(tmp_path / "mine"),
            "evolve.proposers": ["improver"],
            "evolve.candidates": 1,
        },
    ).override(seed=3, cycles=1)


def decisions(run: Path) -> list[str]:
    return [record.decision for record in records(run) if isinstance(record, Gated)]


def records(run: Path) -> list[object]:
    with RunStore.open(run) as store:
        return [entry.record for entry in store.entries()]


@pytest.mark.parametrize(
    ("prompt", "proposed", "promoted"), [(BAD, GOOD, True), (GOOD, BAD, False)], ids=["better", "worse"]
)
def test_a_better_prompt_is_promoted_and_a_worse_one_is_not(
    prompt: str, proposed: str, promoted: bool, tmp_path: Path
) -> None:
    with adding() as server:
        run = start(configured(tmp_path, server, prompt, proposed), tmp_path / "run")
        metered = [record for record in records(run) if isinstance(record, Metered)]
        assert sum(record.completion_tokens for record in metered) == server.charged["completion"]
        assert sum(record.prompt_tokens for record in metered) == server.charged["prompt"]
        assert sum(record.requests for record in metered) == server.calls
    assert ("promote" in decisions(run)) is promoted
    assert (run / "program/prompts/system.md").read_text() == GOOD
    for execute in (True, False):
        repeats = Repeats(execute=execute)
        recorded, again = replay(run, tmp_path / f"again-{execute}", repeats=repeats)
        assert recorded == again
        assert (repeats.executed > 0, repeats.graded > 0, repeats.drift) == (execute, not execute, 0)


def test_an_agent_that_reads_a_clock_is_graded_again_and_its_drift_is_counted(tmp_path: Path) -> None:
    drifting = AGENT.replace("messages = [", NOW)
    with adding() as server:
        run = start(configured(tmp_path, server, GOOD, BAD, drifting), tmp_path / "run")
    repeats = Repeats()
    recorded, again = replay(run, tmp_path / "again", repeats=repeats)
    assert recorded == again
    assert repeats.executed == 0 and repeats.drift >= repeats.graded > 0
    assert repeats.reasons == {"it asked something else": repeats.graded}
    assert (run / FILE).is_file()
