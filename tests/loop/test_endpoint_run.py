"""The loop on a server that drops, delays, repeats 429 and returns garbage: it ends, and everything is on record.

One file above 400 lines: most tests read the one run that the module makes on a server that misbehaves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from scripted_endpoint import (  # noqa: E402
    KEY,
    MODEL,
    FakeTime,
    ScriptedEndpoint,
    badly,
    kindly,
    prompt_of,
    serving,
)

from moevolve.config import Config  # noqa: E402
from moevolve.errors import DivergedError, EndpointError, UsageError  # noqa: E402
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.journal.view import describe  # noqa: E402
from moevolve.loop import endpoint  # noqa: E402
from moevolve.loop.run import replay, resume, start  # noqa: E402
from moevolve.models.endpoint.client import Client  # noqa: E402
from moevolve.models.endpoint.exchange import Exchange  # noqa: E402
from moevolve.models.endpoint.pacing import Pace  # noqa: E402
from moevolve.models.endpoint.secret import Secret  # noqa: E402
from moevolve.models.endpoint.tape import Tape  # noqa: E402
from moevolve.records import (  # noqa: E402
    Attempted,
    Entry,
    Evaluated,
    Gated,
    Guarded,
    Metered,
    RunFinished,
    RunStarted,
    Trained,
)
from moevolve.report.summary import summary_of  # noqa: E402

VARIABLE = "SCRIPTED_ENDPOINT_KEY"


@pytest.fixture(autouse=True)
def clockless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key in the environment, and a clock that nobody waits for."""
    monkeypatch.setenv(VARIABLE, KEY)
    _without_waiting(monkeypatch)


def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    still = FakeTime()

    def client(config: Config) -> Client:
        pace = Pace(config.endpoint.per_minute, still.clock, still.wait)
        return Client(config, Secret.read(config.policy.key_env), endpoint.speech(config), pace)

    monkeypatch.setattr(endpoint, "client", client)


def configured(server: ScriptedEndpoint, arm: str | None = None, **settings: object) -> Config:
    given = {
        "policy.endpoint": server.url,
        "policy.model": MODEL,
        "policy.key_env": VARIABLE,
        "endpoint.price_input": 0.15,
        "endpoint.price_cached": 0.075,
        "endpoint.price_output": 0.6,
        "endpoint.retries": 2,
        "wording.style": "bare",
    }
    given |= {f"endpoint.{name}": value for name, value in settings.items()}
    return Config.load("small", given).override(seed=3, arm=arm)


def journal(path: Path) -> tuple[str, list]:
    with RunStore.open(path) as store:
        return store.head(), [entry.record for entry in store.entries()]


def bills(records: list) -> list[Metered]:
    return [record for record in records if isinstance(record, Metered)]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ScriptedEndpoint]]:
    """A run that has ended on a server that misbehaves, and is gone since."""
    with pytest.MonkeyPatch.context() as patch, serving(badly) as server:
        patch.setenv(VARIABLE, KEY)
        _without_waiting(patch)
        path = start(configured(server), tmp_path_factory.mktemp("bad") / "run")
    yield path, server


def test_the_loop_ends_whatever_the_server_does(bad: tuple[Path, ScriptedEndpoint]) -> None:
    path, server = bad
    _, records = journal(path)
    assert isinstance(records[-1], RunFinished) and records[-1].cycles == 2
    assert {"rate_limited", "server_error", "drop", "cut", "garbage", "html", "empty", "slow"} <= set(
        server.did
    )


def test_every_failed_call_is_typed_and_counted(bad: tuple[Path, ScriptedEndpoint]) -> None:
    path, server = bad
    faults: dict[str, int] = {}
    for bill in bills(journal(path)[1]):
        for kind, count in bill.faults.items():
            faults[kind] = faults.get(kind, 0) + count
    did = server.did
    assert faults == {
        "rate_limited": did["rate_limited"] + did["rate_limited_after"],
        "server_error": did["server_error"] + did["echo"],
        "timeout": did["slow"],
        "dropped": did["drop"],
        "truncated": did["cut"],
        "malformed": did["garbage"] + did["html"] + did["empty"],
    }
    assert sum(bill.calls for bill in bills(journal(path)[1])) == len(server.seen)


def test_costs_are_exact_to_the_token(bad: tuple[Path, ScriptedEndpoint]) -> None:
    path, server = bad
    with RunStore.open(path) as store:
        summary = summary_of(store)
    assert summary is not None and summary.cost is not None
    cost, charged = summary.cost, server.charged
    assert (cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens) == (
        charged["prompt"],
        charged["cached"],
        charged["completion"],
    )
    assert cost.unmetered == server.did["unmetered"] > 0
    money = (
        (charged["prompt"] - charged["cached"]) * Decimal("0.15")
        + charged["cached"] * Decimal("0.075")
        + charged["completion"] * Decimal("0.6")
    ) / 10**6
    assert cost.money is not None and Decimal(cost.money) == money
    assert summary.tokens.generated == charged["completion"]


def test_unanswered_attempts_are_failures_of_their_own_and_in_no_score(
    bad: tuple[Path, ScriptedEndpoint],
) -> None:
    _, records = journal(bad[0])
    tallies = [tally for record in records if isinstance(record, Attempted) for tally in record.tallies]
    asked = next(bill for bill in bills(records) if bill.stage == "sealed initial")
    initial = next(record for record in records if isinstance(record, Evaluated))
    assert sum(tally.failures.get("policy", 0) for tally in tallies) > 0
    assert initial.score.n == asked.requests - sum(asked.failures.values())


def test_a_replay_needs_neither_server_nor_key(
    bad: tuple[Path, ScriptedEndpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    recorded, again = replay(bad[0], tmp_path / "again")
    assert recorded == again
    # The copy holds the exchanges too: it can be done again itself.
    assert replay(tmp_path / "again", tmp_path / "twice")[1] == recorded


def test_a_replay_that_asks_something_new_says_so(
    bad: tuple[Path, ScriptedEndpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moevolve.models.endpoint.speech.FORMAT", 99)
    with pytest.raises(DivergedError, match="never asked"):
        replay(bad[0], tmp_path / "again")


def test_whatever_was_answered_before_a_crash_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(Exception):
        pass

    answered = 0
    keep = Tape.keep

    def kept(tape: Tape, exchanges: Sequence[tuple[str, Exchange]]) -> None:
        nonlocal answered
        keep(tape, exchanges)
        answered += len(exchanges)
        if answered == 41:
            raise Crash

    monkeypatch.setattr(Tape, "keep", kept)
    with serving() as server, pytest.raises(Crash):
        start(configured(server, concurrency=1), tmp_path / "run")
    with RunStore.open(tmp_path / "run") as store:
        assert len(list(store.scan("exchange"))) == len(server.seen) == 41


def test_concurrency_does_not_change_the_records(bad: tuple[Path, ScriptedEndpoint], tmp_path: Path) -> None:
    with serving(badly) as server:
        one = journal(start(configured(server, concurrency=1), tmp_path / "one"))[1]
    assert one[1:] == journal(bad[0])[1][1:]


def test_the_key_is_nowhere_in_the_run_folder(bad: tuple[Path, ScriptedEndpoint]) -> None:
    path, server = bad
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
    assert server.did["echo"] > 0
    for file in path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_the_key_is_in_no_childs_environment(tmp_path: Path, host_environment: Callable[[], str]) -> None:
    assert os.environ[VARIABLE] == KEY
    seen = host_environment()
    assert "PYTHONHASHSEED" in seen
    assert VARIABLE not in seen and KEY not in seen


@pytest.fixture
def host_environment() -> Callable[[], str]:
    """What a program's process finds in its environment, spelled out by the program itself."""
    from moevolve.agents.genome import Genome, seed_genome
    from moevolve.agents.host import ProgramHost
    from moevolve.protocol.requests import PublicTask

    source = """
import os
async def solve(task, agent):
    found = repr(dict(os.environ))
    try:
        with open("/proc/self/environ") as file:
            found += file.read()
    except OSError:
        pass
    return found
"""

    def look() -> str:
        genome = Genome(files=seed_genome().files | {"solve.py": source})
        task = PublicTask(prompt="rev:a=", skill="text/reverse")
        [outcome] = ProgramHost().solve(genome, [task], lambda asked: [], None, [1])
        assert outcome.answer is not None, outcome.detail
        return outcome.answer

    return look


@pytest.mark.long
def test_a_run_interrupted_anywhere_asks_nothing_twice_and_ends_alike(tmp_path: Path) -> None:
    with serving() as server:
        whole = start(configured(server), tmp_path / "whole")
        asked = len(server.seen)
        head, records = journal(whole)
    for share in (0.0, 0.3, 0.6, 0.97):
        last = int(share * (len(records) - 1))

        def stop(entry: Entry, last: int = last) -> None:
            if entry.seq >= last:
                raise KeyboardInterrupt

        # The same address: it is on record, and a run is a function of its configuration.
        with pytest.MonkeyPatch.context() as patch, serving() as other:
            _redirected(patch, server, other)
            path = tmp_path / f"cut-{last}"
            with pytest.raises(KeyboardInterrupt):
                start(configured(server), path, stop)
            resume(path)
            assert len(other.seen) == asked
        assert journal(path)[0] == head


def _redirected(patch: pytest.MonkeyPatch, gone: ScriptedEndpoint, other: ScriptedEndpoint) -> None:
    """Lets calls to a server that is gone reach another one."""
    made = endpoint.client

    def client(config: Config) -> Client:
        found = made(config)
        found._address = found._address.replace(gone.url, other.url)
        return found

    patch.setattr(endpoint, "client", client)


@pytest.mark.parametrize("style", ["bare", "chat"])
def test_the_program_evolves_alone(style: str, tmp_path: Path) -> None:
    """A server that is right on short texts is split for: the sealed score rises, and no weights are touched."""
    with serving(skill=6) as server:
        config = Config.load(
            "endpoint", {"policy.endpoint": server.url, "policy.model": MODEL, "wording.style": style}
        ).override(seed=5, cycles=1)
        assert config.arm == "full"
        records = journal(start(config, tmp_path / "run"))[1]
    first = records[0]
    assert isinstance(first, RunStarted)
    assert (first.arm, first.weights, first.parameters) == ("program", f"endpoint:{MODEL}", 0)
    before, after = [r.score for r in records if isinstance(r, Evaluated) and r.split == "sealed"]
    assert after.low > before.high
    assert [(r.level, r.decision) for r in records if isinstance(r, Gated)] == [("program", "promote")]
    assert not any(isinstance(record, Trained) for record in records)
    assert not list((tmp_path / "run").glob("weights/*"))


def test_a_server_that_refuses_everything_ends_the_run_in_its_own_words(tmp_path: Path) -> None:
    with serving(lambda body, tries: "refuses") as server:
        with pytest.raises(EndpointError, match="max_completion_tokens.*token_field"):
            start(configured(server), tmp_path / "run")
        server.script = kindly
        resume(tmp_path / "run")
    assert isinstance(journal(tmp_path / "run")[1][-1], RunFinished)


def test_a_server_that_refuses_some_requests_does_not_end_the_run(tmp_path: Path) -> None:
    with serving(lambda body, tries: "refuses" if len(prompt_of(body)) % 2 else "ok") as server:
        records = journal(start(configured(server), tmp_path / "run"))[1]
    assert isinstance(records[-1], RunFinished)
    assert any(bill.failures.get("rejected") for bill in bills(records))


def test_how_answers_ended_is_on_record_and_told(tmp_path: Path) -> None:
    with serving(lambda body, tries: "lengthy") as server:
        path = start(configured(server), tmp_path / "run")
    for bill in bills(journal(path)[1]):
        assert bill.endings.get("length", 0) >= bill.requests
        assert not bill.requests or "cut at max_tokens" in describe(bill)[0]
    on_file, again = replay(path, tmp_path / "scratch")
    assert on_file == again


def test_the_null_arm_runs_and_trains_nothing(tmp_path: Path) -> None:
    with serving() as server:
        records = journal(start(configured(server, arm="random-reward"), tmp_path / "run"))[1]
    assert records[0].arm == "random-reward"
    assert not any(isinstance(record, Trained) for record in records)


@pytest.mark.parametrize("arm", ["weights", "sft"])
def test_arms_that_train_are_refused(arm: str, tmp_path: Path) -> None:
    with serving() as server, pytest.raises(UsageError, match="trains weights"):
        start(configured(server, arm=arm), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_missing_key_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    with serving() as server, pytest.raises(UsageError, match=VARIABLE):
        start(configured(server), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("limit", [{"most_tokens": 6000}, {"most_cost": 0.001}])
def test_a_spending_limit_ends_a_run_cleanly_and_is_never_passed(limit: dict, tmp_path: Path) -> None:
    with serving() as server:
        path = start(configured(server, **limit), tmp_path / "run")
    head, records = journal(path)
    assert isinstance(records[-1], RunFinished)
    assert [r.when for r in records if isinstance(r, Evaluated) and r.split == "sealed"] == [
        "initial",
        "final",
    ]
    [guard] = [record for record in records if isinstance(record, Guarded) and record.guard == "budget"]
    assert guard.vetoed == 1 and "spending limit" in guard.detail
    found = bills(records)
    if "most_tokens" in limit:
        assert sum(bill.prompt_tokens + bill.completion_tokens for bill in found) <= limit["most_tokens"]
    else:
        assert sum(Decimal(bill.cost or 0) for bill in found) <= Decimal(repr(limit["most_cost"]))
    assert replay(path, tmp_path / "again")[1] == head


def test_a_server_that_goes_away_ends_the_run_and_resume_goes_on(tmp_path: Path) -> None:
    calls = iter(range(10**6))

    def dying(body: dict, tries: int) -> str:
        return "ok" if next(calls) < 200 else "server_error"

    with serving(dying) as server:
        config = configured(server, give_up=8, retries=1)
        with pytest.raises(EndpointError, match="seems to be gone"):
            start(config, tmp_path / "run")
        # Eight that failed in a row and whatever was under way with them, not the rest of the round.
        assert len(server.seen) <= 200 + 2 * (8 + config.endpoint.concurrency)
    with RunStore.open(tmp_path / "run") as store:
        assert read(store).status == "failed"
    with pytest.MonkeyPatch.context() as patch, serving(kindly) as other:
        _redirected(patch, server, other)
        resume(tmp_path / "run")
        assert len(other.seen) > 0
    records = journal(tmp_path / "run")[1]
    assert isinstance(records[-1], RunFinished)
    assert not any(bill.failures for bill in bills(records))


def test_a_wrong_key_ends_the_run_with_advice(tmp_path: Path) -> None:
    with (
        serving(lambda body, tries: "unauthorised") as server,
        pytest.raises(EndpointError, match="key_env") as error,
    ):
        start(configured(server), tmp_path / "run")
    assert KEY not in str(error.value)


def test_the_command_runs_shows_and_replays(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'[models."{MODEL}"]\ninput = 0.15\noutput = 0.6\n')

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "moevolve.cli.main", *words], capture_output=True, text=True, cwd=tmp_path
        )

    with serving() as server:
        ran = command(
            *("run", "small", "--out", "out", "--seed", "3", "--cycles", "1", "--display", "none"),
            *("--endpoint", server.url, "--model", MODEL, "--key-env", VARIABLE, "--price", "prices.toml"),
        )
    assert ran.returncode == 0, ran.stderr
    assert "arm full is arm program" in ran.stderr and "USD" in ran.stderr and "requests" in ran.stderr
    assert "Asked of the server" in ran.stdout
    shown = command("show", "out", "--json")
    assert '"money": "' in shown.stdout and '"prompt_tokens"' in shown.stdout
    assert "the same head" in command("replay", "out", "--display", "none").stdout
    assert KEY not in ran.stdout + ran.stderr + shown.stdout
    assert "prices = " not in (tmp_path / "out" / "run.toml").read_text()


def test_ctrl_c_does_not_wait_for_the_server(tmp_path: Path) -> None:
    asked = threading.Event()

    def silent(body: dict, tries: int) -> str:
        asked.set()
        return "hang"

    with serving(silent) as server:
        run = subprocess.Popen(
            [
                *(sys.executable, "-c"),
                # Whatever started the tests may have Ctrl-C ignored.
                "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
                "from moevolve.cli.main import main; sys.exit(main())",
                *("run", "small", "--out", "out", "--display", "none"),
                *("--endpoint", server.url, "--model", MODEL),
            ],
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
        assert asked.wait(60)
        run.send_signal(signal.SIGINT)
        told = run.communicate(timeout=60)[1].decode()
    assert run.returncode == 130
    assert "moevolve resume out" in told
