"""What an attempt asks at one time comes to what it would have come to one by one, and to what its record comes to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from boxed import ASK, Model, boxes, command, host, tasks  # noqa: E402

from moevolve.agents.box import host as hosts  # noqa: E402
from moevolve.agents.box.host import BoxHost  # noqa: E402
from moevolve.agents.box.records import Records  # noqa: E402
from moevolve.protocol.completion import Completion  # noqa: E402
from moevolve.protocol.requests import GenerateRequest, Outcome, Unanswered  # noqa: E402

pytestmark = boxes

SCRIPT = (
    f"{ASK}\nfrom concurrent.futures import ThreadPoolExecutor\n"
    "with ThreadPoolExecutor(8) as pool:\n    print(*pool.map(lambda n: ask(str(n), max_tokens=16)[0], range(8)))\n"
)


class Choosy(Model):
    """A policy that leaves the question 3 without an answer."""

    def __call__(self, requests: list[GenerateRequest]) -> list[list[Completion] | Unanswered]:  # type: ignore[override]
        told = super().__call__(requests)
        gone = Unanswered(failure="policy", detail="gone")
        return [gone if reply[0].text == "3" else reply for reply in told]


def solved(file: Path, model: Any, **limits: int) -> Outcome:
    made = host(**limits)
    made.boxes = BoxHost(Records(file))
    [outcome] = made.solve(command(SCRIPT), tasks(1), model, None, [1])
    made.boxes.close()
    return outcome


def account(outcome: Outcome) -> tuple[object, ...]:
    return outcome.answer, outcome.failure, outcome.detail, outcome.tokens, outcome.requests


@pytest.fixture(params=[1, 8], ids=["one by one", "at once"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many requests wait before the first of them is answered."""
    wanted: int = request.param
    monkeypatch.setattr(hosts._Call, "_enough", lambda self, found: len(found) >= wanted)
    return wanted


def test_what_could_be_paid_one_by_one_is_answered(at_once: int, tmp_path: Path) -> None:
    model = Model()
    outcome = solved(tmp_path / "record", model, tokens=60, max_tokens=16)
    assert account(outcome) == ("200 200 200 200 200 200 200 200", None, "", 16, 8)
    if at_once == 8:  # What can be paid in any case goes to the policy together.
        assert [len(each) for each in model.rounds] == [3, 3, 2]


@pytest.mark.usefixtures("at_once")
def test_the_first_that_cannot_be_paid_ends_the_attempt_and_its_record_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = solved(tmp_path / "record", Model(), tokens=24, max_tokens=16)
    assert (outcome.failure, outcome.tokens, outcome.requests) == ("budget", 10, 6)
    monkeypatch.undo()
    heard = Model()
    assert account(solved(tmp_path / "record", heard, tokens=24, max_tokens=16)) == account(outcome)
    assert len(heard.asked) == 5


def test_the_record_counts_what_was_asked_beside_what_ended_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts._Call, "_enough", lambda self, found: len(found) >= 8)
    asked, heard = Choosy(), Choosy()
    outcome = solved(tmp_path / "record", asked, tokens=200, max_tokens=16)
    assert (outcome.failure, outcome.detail, outcome.tokens, outcome.requests) == ("policy", "gone", 14, 8)
    monkeypatch.undo()
    assert account(solved(tmp_path / "record", heard, tokens=200, max_tokens=16)) == account(outcome)
    assert sorted(each.key for each in heard.asked) == sorted(each.key for each in asked.asked)


@pytest.mark.usefixtures("at_once")
def test_what_sends_too_much_is_answered_up_to_there_and_its_record_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of its requests wait: none is on record that nobody answered."""
    monkeypatch.setattr("moevolve.agents.attempt.SPARE", 250)
    monkeypatch.setattr("moevolve.agents.attempt.LETTER", 0)
    outcome = solved(tmp_path / "record", Model(), tokens=200, max_tokens=16)
    assert outcome.failure == "malformed" and outcome.requests > 0
    assert outcome.tokens == 2 * outcome.requests
    monkeypatch.undo()
    heard = Model()
    assert account(solved(tmp_path / "record", heard, tokens=200, max_tokens=16)) == account(outcome)
    assert len(heard.asked) == outcome.requests
