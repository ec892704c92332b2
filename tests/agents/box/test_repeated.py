"""A second run that asks the same and ends in another way: the record stands, and says what the difference is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from boxed import ASK, Model, boxes, command, host, tasks  # noqa: E402

from moevolve.agents.box.host import BoxHost  # noqa: E402
from moevolve.agents.box.records import Records, Repeats  # noqa: E402
from moevolve.protocol.completion import Completion  # noqa: E402
from moevolve.protocol.requests import GenerateRequest, Outcome  # noqa: E402

pytestmark = boxes

AGENT = command(f"{ASK}\nsaid = say(sys.stdin.read())\nprint(said) if said.isdecimal() else sys.exit(said)\n")


class Fixed(Model):
    """A policy with one answer."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def completion(self, request: GenerateRequest) -> Completion:
        return Completion(self.text, [1], [-0.5, -0.5], "stop")


def solved(records: Records, said: str) -> Outcome:
    made = host()
    made.boxes = BoxHost(records)
    [outcome] = made.solve(AGENT, tasks(1), Fixed(said), None, [1])
    made.boxes.close()
    return outcome


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("1", "1", None),
        ("1", "2", "it ended otherwise: with another answer"),
        ("1", "no number", "it ended otherwise: error after an answer"),
        ("no number", "1", "it ended otherwise: an answer after error"),
    ],
)
def test_the_record_stands_and_the_difference_is_told(
    first: str, second: str, reason: str | None, tmp_path: Path
) -> None:
    former = solved(Records(tmp_path / "run"), first)
    repeats = Repeats()
    again = solved(Records(tmp_path / "again", tmp_path / "run", repeats), second)
    assert (again.answer, again.failure, again.detail) == (former.answer, former.failure, former.detail)
    assert (repeats.executed, repeats.drift) == (reason is None, 0)
    assert repeats.reasons == ({} if reason is None else {reason: 1})
