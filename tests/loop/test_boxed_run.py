"""A run on an agent in boxes: metered, replayed without a model, and its prompt evolved like any program's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from adding_endpoint import GOOD, adding  # noqa: E402
from boxed import ASK, boxes  # noqa: E402
from boxed_run import FOREIGN, PROMPT, charged, configured, foreign, metered, promoted, records  # noqa: E402

from moevolve.agents.box.records import FILE, Repeats  # noqa: E402
from moevolve.loop.run import replay, start  # noqa: E402
from moevolve.records import Guarded  # noqa: E402

pytestmark = boxes

OTHER = os.environ.get("MOEVOLVE_AGENTS_PYTHON")
"""An interpreter, or a virtual environment, that has the six agents' libraries."""
LIBRARIES = {
    "openai_script": "openai",
    "langgraph_agent": "langgraph",
    "smolagents_agent": "smolagents",
    "pydantic_agent": "pydantic_ai",
    "openai_agents": "agents",
    "mini_swe": "minisweagent",
}

SCRIPT = f"""{ASK}
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
AGENT = {"agent.toml": TOML, "agent.py": SCRIPT}


@pytest.mark.long
@pytest.mark.parametrize("better", [True, False], ids=["better", "worse"])
def test_a_better_prompt_is_promoted_and_a_worse_one_is_not(better: bool, tmp_path: Path) -> None:
    with adding() as server:
        run = start(configured(tmp_path, server, AGENT, better=better), tmp_path / "run")
        assert metered(run) == charged(server)
    assert promoted(run) is better
    assert (run / "program" / PROMPT).read_text() == GOOD
    for execute in (True, False):
        repeats = Repeats(execute=execute)
        recorded, again = replay(run, tmp_path / f"again-{execute}", repeats=repeats)
        assert recorded == again
        assert (repeats.executed > 0, repeats.graded > 0, repeats.drift) == (execute, not execute, 0)


@pytest.mark.long
def test_the_words_for_another_attempt_are_no_attempt_of_the_record(tmp_path: Path) -> None:
    with adding() as server:
        run = start(configured(tmp_path, server, AGENT), tmp_path / "run")
    [found] = [
        record for record in records(run) if isinstance(record, Guarded) and record.guard == "knock-out"
    ]
    other, own = found.detail.split(",")
    assert own.strip().startswith("1.000") and not other.strip().startswith("1.000")


@pytest.mark.long
def test_an_agent_that_reads_a_clock_is_graded_again_and_its_drift_is_counted(tmp_path: Path) -> None:
    drifting = {**AGENT, "agent.py": SCRIPT.replace("messages = [", NOW)}
    with adding() as server:
        run = start(configured(tmp_path, server, drifting), tmp_path / "run")
    repeats = Repeats()
    recorded, again = replay(run, tmp_path / "again", repeats=repeats)
    assert recorded == again
    assert repeats.executed == 0 and repeats.drift >= repeats.graded > 0
    assert repeats.reasons == {"it asked something else": repeats.graded}
    assert (run / FILE).is_file()


@pytest.mark.long
@pytest.mark.parametrize("better", [True, False], ids=["better", "worse"])
@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_an_agent_of_a_library_runs_unchanged_and_replays_without_its_model(
    name: str, better: bool, tmp_path: Path
) -> None:
    python = sys.executable if OTHER is None else OTHER
    program = Path(python) / "bin/python" if Path(python).is_dir() else Path(python)
    found = subprocess.run([program, "-c", f"import {LIBRARIES[name]}"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(
            f"{LIBRARIES[name]} is not there: MOEVOLVE_AGENTS_PYTHON names an interpreter that has it"
        )
    with adding() as server:
        agent = foreign(name, OTHER)
        run = start(configured(tmp_path, server, agent, better=better), tmp_path / "run")
        assert metered(run) == charged(server)
    assert promoted(run) is better and (run / "program" / PROMPT).read_text() == GOOD
    repeats = Repeats()
    recorded, again = replay(run, tmp_path / "again", repeats=repeats)
    assert recorded == again and repeats.executed > 0 and (repeats.graded, repeats.drift) == (0, 0), repeats


def test_every_library_has_its_agent() -> None:
    assert {folder.name for folder in FOREIGN.iterdir()} == set(LIBRARIES)
