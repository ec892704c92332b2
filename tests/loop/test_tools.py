"""Calls of tools on record: made once, the same again after a kill, and named where the record is torn."""

from __future__ import annotations

from pathlib import Path

import pytest

from moevolve.agents.kinds.tools import ToolFailure
from moevolve.errors import DivergedError, StoreError
from moevolve.journal.store import RunStore
from moevolve.loop.tools import TABLE, RecordedTools, digest
from moevolve.protocol.requests import ToolRequest
from moevolve.records import Timing
from moevolve.tasks.tools.toolbox import Tools

COUNTER = """
CALLS = [0]
def count(step: int) -> int:
    CALLS[0] += step
    return CALLS[0]
"""


def request(key: int, step: int | str = 1) -> ToolRequest:
    return ToolRequest(attempt=0, tool="count", arguments={"step": step}, key=key)


@pytest.fixture
def process(tmp_path: Path) -> Tools:
    (tmp_path / "tools.py").write_text(COUNTER)
    return Tools([tmp_path / "tools.py"])


def test_a_call_is_made_once_in_a_run_whoever_goes_on_with_it(process: Tools, tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store:
        first = RecordedTools(process, process.tools, store).call([request(1), request(2)])
        process.close()  # A run that goes on has another process, whose counter is at 0.
        again = RecordedTools(process, process.tools, store).call([request(2), request(1), request(3)])
        assert (first, again) == ([1, 2], [2, 1, 1])
    process.close()


def test_a_failure_is_on_record_too_and_a_replay_calls_nobody(process: Tools, tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store, RunStore.create(tmp_path / "again") as scratch:
        [failed] = RecordedTools(process, process.tools, store).call([request(1, "x")])
        process.close()
        replay = RecordedTools(None, (), scratch, store)
        [same] = replay.call([request(1, "x")])
        assert isinstance(failed, ToolFailure) and isinstance(same, ToolFailure) and str(failed) == str(same)
        with pytest.raises(DivergedError, match="as the run never did"):
            replay.call([request(9)])


def test_a_torn_result_is_named(process: Tools, tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run") as store:
        store.batch([], Timing(at=0.0), puts=[(TABLE, digest(request(1)), b"\xc1torn")])
        with pytest.raises(StoreError, match="result of count on record"):
            RecordedTools(process, process.tools, store).call([request(1)])
    process.close()


@pytest.mark.parametrize("step", [1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 63) - 1, 10**40])
def test_integers_of_any_size_are_called_with_returned_and_on_record(
    step: int, process: Tools, tmp_path: Path
) -> None:
    with RunStore.create(tmp_path / "run") as store, RunStore.create(tmp_path / "again") as scratch:
        assert RecordedTools(process, process.tools, store).call([request(1, step)]) == [step]
        process.close()
        assert RecordedTools(None, (), scratch, store).call([request(1, step)]) == [step]
        assert len({digest(request(1, each)) for each in (step, step + 1, -step, str(step))}) == 4
