"""A language model and a command as proposers: what they write is on record, costs what it took, and harms nobody else."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from scripted_endpoint import ScriptedEndpoint, running  # noqa: E402

from moevolve.auditor import audit  # noqa: E402
from moevolve.config import Config  # noqa: E402
from moevolve.errors import ConfigError  # noqa: E402
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.loop.run import replay, start  # noqa: E402
from moevolve.records import (  # noqa: E402
    Metered,
    Proposed,
    ProposerAsked,
    Record,
    RunFinished,
    Screened,
    VariantAdded,
)

BETTER = '''"""Splits what can be split."""

from plan import ask


def solve(task):
    if task.verb in ("rev", "cae"):
        parts = task.payload.cut(3, above=4).each(lambda part: ask(f"{task.verb}:{part}="))
        return (parts.backwards() if task.verb == "rev" else parts).join()
    return ask(task.prompt)
'''


def fenced(text: str) -> str:
    return f"Summary: split long payloads\n\n```python\n{text}```\n"


def flatterer(body: dict[str, Any]) -> str:
    return "What a wonderful program. It is perfect as it is, and so are you."


def repeater(body: dict[str, Any]) -> str:
    """Says the file over again."""
    return fenced(source_in(body))


def speller(body: dict[str, Any]) -> str:
    """Writes what is no Python."""
    return fenced("def solve(task:\n    return task\n")


def idler(body: dict[str, Any]) -> str:
    """Writes Python that imports nothing there is."""
    return fenced("import solutions\n\ndef solve(task):\n    return solutions.all()\n")


def expert(body: dict[str, Any]) -> str:
    """Writes a better solve.py, as a file or as an edit, and breaks other files."""
    prompt = body["messages"][-1]["content"]
    if "SEARCH" in prompt:
        return (
            "Summary: ask and vote\n<<<<<<< SEARCH\n    return dispatch(task)\n=======\n"
            "    return plan.vote(task.prompt, samples=3)\n>>>>>>> REPLACE\n"
        )
    return fenced(BETTER) if "solve.py now" in prompt or "The file solve.py" in prompt else flatterer(body)


def source_in(body: dict[str, Any]) -> str:
    found = re.findall(r"^(`{4,})\w+\n(.*?)^\1$", body["messages"][-1]["content"], re.M | re.S)
    return found[0][1]


class Writer(ScriptedEndpoint):
    """A server whose model writes by a script."""

    def __init__(self, writes: Callable[[dict[str, Any]], str]) -> None:
        super().__init__()
        self.writes = writes

    def reply(self, body: dict[str, Any]) -> str:
        return self.writes(body)


def configured(url: str | None, **settings: Any) -> Config:
    chosen = {
        "suite.levels": [1, 6],
        "attempts.tasks": 24,
        "evolve.candidates": 4,
        "evolve.proposers": ["model"],
        "cycles": 1,
        **settings,
    }
    if url is not None:
        chosen |= {
            "proposer.endpoint": url,
            "proposer.model": "writer-1",
            "proposer.server.price_input": 3.0,
            "proposer.server.price_output": 15.0,
        }
    return Config.load("small", chosen).override(seed=6, arm="program", cycles=chosen["cycles"])


def records_of(out: Path) -> list[Record]:
    with RunStore.open(out) as store:
        return [entry.record for entry in store.entries()]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[..., tuple[Path, Writer, list[Record]]]]:
    def run(writes: Callable[[dict[str, Any]], str], **settings: Any) -> tuple[Path, Writer, list[Record]]:
        with running(Writer(writes)) as server:
            out = start(configured(server.url, **settings), tmp_path / "run")
        return out, server, records_of(out)

    yield run


@pytest.mark.parametrize(
    ("writes", "reason"),
    [
        (flatterer, "no fenced block|no block of SEARCH"),
        (repeater, "the file is as it was|no block of SEARCH"),
        (speller, "solve.py: |improve.py: |no block of SEARCH"),
        (idler, "No module named 'solutions'|no block of SEARCH"),
    ],
)
def test_a_model_that_is_no_help_costs_its_budget_and_nothing_else(
    writes: Callable[[dict[str, Any]], str], reason: str, written, tmp_path: Path
) -> None:
    """No candidate, no variant, no blame: each answer is a verdict on itself, and what it cost is exact."""
    out, server, records = written(writes)
    [asked] = [record for record in records if isinstance(record, ProposerAsked)]
    assert (asked.proposer, asked.asked, asked.made) == ("model", 4, 0)
    assert len(asked.broken) + asked.repeats == 4
    assert all(re.search(reason, each) for each in asked.broken), asked.broken
    assert [record.variant for record in records if isinstance(record, VariantAdded)] == ["v0000"]
    assert not any(isinstance(record, Screened) for record in records)
    assert isinstance(records[-1], RunFinished)
    assert records[-1].champion == "v0000"
    exact(server, records)
    # The limit of the role holds: one question a candidate, and one try to mend what was written.
    assert len(server.seen) == asked.requests <= 8
    assert replay(out, tmp_path / "again")[0] == replay(out, tmp_path / "once more")[1]


def exact(server: Writer, records: list[Record]) -> None:
    """The bill is what the server says that it charged."""
    bills = [record for record in records if isinstance(record, Metered)]
    assert bills
    assert all(bill.stage.startswith("proposer ") for bill in bills)
    assert sum(bill.prompt_tokens for bill in bills) == server.charged["prompt"]
    assert sum(bill.completion_tokens for bill in bills) == server.charged["completion"]
    cost = Decimal(3 * server.charged["prompt"] + 15 * server.charged["completion"]) / 10**6
    assert sum(Decimal(bill.cost or 0) for bill in bills) == cost


def test_a_model_that_helps_is_screened_and_replayed_without_it(written, tmp_path: Path) -> None:
    out, server, records = written(expert, cycles=2, **{"suite.levels": [4, 10], "evolve.screen": 192})
    made = [record for record in records if isinstance(record, Proposed)]
    assert made
    assert {record.proposer for record in made} == {"model"}
    assert {record.operator for record in made} <= {"rewrite", "edit", "reflect", "cross", "mend"}
    assert any(record.passed for record in records if isinstance(record, Screened))
    exact(server, records)
    # The server is gone: a replay asks nobody, and comes to the same head.
    recorded, again = replay(out, tmp_path / "again")
    assert recorded == again
    assert audit(out).ok


def test_the_brief_says_what_there_is_to_know(written) -> None:
    _, server, _ = written(expert, cycles=2)
    told = "\n".join(body["messages"][-1]["content"] for body in server.seen)
    for words in (
        "The score to raise: mean success",
        "It failed on:",
        "It was right on:",
        "How the program came about:",
        "Tried before:",
        "Left: 1 cycles after this one",
    ):
        assert words in told
    assert all(message["role"] != "system" or message["content"] for message in server.seen[0]["messages"])


def test_a_programs_own_prompts_are_used(tmp_path: Path) -> None:
    """Prompts are files that a user, or the program itself, can edit."""
    agent = tmp_path / "agent"
    (agent / "proposer").mkdir(parents=True)
    (agent / "solve.py").write_text(
        'async def solve(task, agent):\n    return (await agent.generate("Say it", temperature=0)).text\n'
    )
    for kind in ("rewrite", "edit", "reflect"):
        (agent / "proposer" / f"{kind}.md").write_text("You are terse.\n---\nMend $path: $source")
    with running(Writer(flatterer)) as server:
        start(configured(server.url, **{"agent.path": str(agent)}), tmp_path / "run")
    assert server.seen
    for body in server.seen:
        assert body["messages"][0]["content"] == "You are terse."
        assert body["messages"][1]["content"].startswith("Mend ")


def test_the_runs_own_policy_writes_where_no_other_is_named(tmp_path: Path) -> None:
    with running(Writer(expert)) as server:
        out = start(
            configured(None, **{"policy.endpoint": server.url, "policy.model": "m"}),
            tmp_path / "run",
        )
    records = records_of(out)
    [asked] = [record for record in records if isinstance(record, ProposerAsked)]
    assert asked.requests >= 4
    bills = [record for record in records if isinstance(record, Metered)]
    assert [bill.requests for bill in bills if bill.stage == "improve 0"] == [asked.requests]
    recorded, again = replay(out, tmp_path / "again")
    assert recorded == again


def command(folder: Path, body: str) -> list[str]:
    script = folder / "writer.py"
    script.write_text(f"import json, sys, time\ntold = json.load(sys.stdin)\n{body}\n")
    return [sys.executable, str(script)]


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("sys.exit(3)", "crash"),
        ("time.sleep(60)", "timeout"),
        ("print('not json')", "malformed"),
        ("print(json.dumps([[{'path': '../x', 'text': 'x'}]]))", None),
        ("print(json.dumps([[{'path': 'solve.py', 'text': 'def solve(:'}]]))", None),
    ],
)
def test_a_command_that_fails_proposes_nothing(body: str, failure: str | None, tmp_path: Path) -> None:
    settings = {"evolve.proposers": ["command"], "proposer.command": command(tmp_path, body)}
    out = start(configured(None, **settings, **{"proposer.seconds": 1.0}), tmp_path / "run")
    [asked] = [record for record in records_of(out) if isinstance(record, ProposerAsked)]
    assert (asked.made, asked.failure) == (0, failure)
    assert len(asked.broken) == (failure is None)


def test_a_commands_candidates_are_screened_and_a_replay_runs_nothing(tmp_path: Path) -> None:
    log = tmp_path / "ran"
    body = (
        f"open({str(log)!r}, 'a').write('x')\n"
        f"edit = {{'path': 'solve.py', 'text': {BETTER!r}, 'operator': 'mine', 'summary': 'split'}}\n"
        "print(json.dumps([[edit]]))"
    )
    settings = {"evolve.proposers": ["command"], "proposer.command": command(tmp_path, body)}
    out = start(configured(None, **settings), tmp_path / "run")
    [made] = [record for record in records_of(out) if isinstance(record, Proposed)]
    assert (made.proposer, made.operator) == ("command", "mine")
    recorded, again = replay(out, tmp_path / "again")
    assert recorded == again
    assert log.read_text() == "x"


def test_a_program_with_another_comment_comes_once_in_a_run(tmp_path: Path) -> None:
    body = (
        "text = told['brief']['source']['learn.py'] + f'MORE = 1  # {told[\"key\"]}\\n'\n"
        "print(json.dumps([[{'path': 'learn.py', 'text': text}]]))"
    )
    settings = {"evolve.proposers": ["command"], "proposer.command": command(tmp_path, body), "cycles": 3}
    out = start(configured(None, **settings), tmp_path / "run")
    made = [(each.made, each.repeats) for each in records_of(out) if isinstance(each, ProposerAsked)]
    assert made == [(1, 0), (0, 1), (0, 1)]
    recorded, again = replay(out, tmp_path / "again")
    assert recorded == again
    assert audit(out).ok


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"evolve.proposers": ["command"]}, "needs proposer.command"),
        ({"evolve.proposers": ["improver"], "proposer.command": ["x"]}, "evolve.proposers names `command`"),
        ({"proposer.model": "m"}, "belong to an endpoint"),
        ({"proposer.endpoint": "http://127.0.0.1:1/v1"}, "needs `model`"),
    ],
)
def test_a_setting_that_nobody_reads_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config.load("small", {"evolve.proposers": ["model"], **settings})
