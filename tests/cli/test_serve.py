"""`moevolve serve` and `moevolve learned` as processes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Command
from promotion import gated, variant
from seed_run import run_of_the_seed
from served_command import PATIENCE, Served

from moevolve.journal.store import RunStore
from moevolve.models.checkpoint import seed_checkpoint
from moevolve.models.engine import Engine
from moevolve.protocol.training import Example
from moevolve.records import Timing


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*words: str | Path, **environment: str) -> Served:
        started.append(Served(tmp_path, *words, **environment))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_cleanly(served: Callable[..., Served], number: int, code: int) -> None:
    server = served()
    assert server.told["model"] == "seed" and server.told["slots"] == 64
    text = server.ask()["choices"][0]["text"]
    assert text == Engine.load(seed_checkpoint(), threads=1).generate(["rev:abc="], max_tokens=8)[0].text
    ended, said = server.end(number)
    assert ended == code
    assert "serving the shipped seed as 'seed'" in said and "64 slots, at most" in said
    assert server.told["url"] in said and "Traceback" not in said


def test_an_answer_under_way_ends_properly(served: Callable[..., Served]) -> None:
    server = served("--grace", "0.2")
    asked = {"prompt": "x", "max_tokens": 400, "stream": True, "n": 64, "logit_bias": {"1": -100}}
    with server.client.stream("POST", "/v1/completions", json=asked) as stream:
        server.process.send_signal(signal.SIGTERM)
        text = stream.read().decode()
    assert text.endswith("data: [DONE]\n\n")
    assert server.process.wait(PATIENCE) == 0


def test_other_machines_are_let_in_with_a_token_only(moevolve: Command) -> None:
    refused = moevolve("serve", "--host", "0.0.0.0")
    assert refused.returncode == 3 and "--token-env" in refused.stderr
    empty = moevolve("serve", "--host", "0.0.0.0", "--token-env", "NO_SUCH_VARIABLE")
    assert empty.returncode == 2 and "NO_SUCH_VARIABLE" in empty.stderr


def test_a_token_comes_from_the_environment(served: Callable[..., Served]) -> None:
    server = served("--token-env", "TOKENS", TOKENS="ann=first-token second-token==")
    codes = [
        server.client.get("/v1/models", headers={"authorization": f"Bearer {token}"}).status_code
        for token in ("first-token", "second-token==", "ann=first-token", "none")
    ]
    assert codes == [200, 200, 401, 401]


def test_a_taken_port_is_said(moevolve: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = moevolve("serve", "--port", str(taken.getsockname()[1]))
    assert refused.returncode == 2 and "cannot listen on 127.0.0.1" in refused.stderr


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    program = "import sys; sys.modules['starlette'] = None; from moevolve.cli.main import main; sys.exit(main(['serve']))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 2 and "pip install 'moevolve[serve]'" in run.stderr


def test_a_run_is_followed(served: Callable[..., Served], tmp_path: Path) -> None:
    run_of_the_seed(tmp_path / "run")
    engine = Engine.load(seed_checkpoint(), threads=1)
    ids = engine.encode("rev:abc=cba")
    engine.reset_optimizer()
    engine.train([Example(tokens=ids, start=8)], 1e-3)
    weights = engine.weights_hash
    server = served(tmp_path / "run", "--follow")
    assert server.told["model"] == "run"
    before = server.ask()["system_fingerprint"]
    engine.write_weights(tmp_path / "run" / "weights" / f"{weights}.safetensors")
    with RunStore.open(tmp_path / "run", write=True) as store:
        store.append([variant("v0001", weights), gated("v0001")], Timing(at=1.0))
    while (now := server.ask()["system_fingerprint"]) == before:
        pass
    assert now == weights[:16]
    assert server.client.get("/v1/usage").json()["swaps"] == 1


def test_what_was_kept_is_listed_and_erased(
    served: Callable[..., Served], moevolve: Command, tmp_path: Path
) -> None:
    server = served("--learn", "kept", "--name", "mine")
    ids = [server.ask(user="ann")["id"] for _ in range(3)]
    server.client.post("/v1/feedback", json={"id": ids[0], "score": 1, "user": "bob"})
    busy = moevolve("learned", "kept", "--erase", ids[0])
    assert busy.returncode == 2 and "is being written" in busy.stderr
    code, said = server.end(signal.SIGTERM)
    assert code == 0 and "interactions are kept there until they are erased" in said
    listed = [json.loads(line) for line in moevolve("learned", "kept", "--interactions").stdout.splitlines()]
    assert [row["id"] for row in listed] == ids and listed[0]["feedback"][0]["client"] == "bob"
    assert json.loads(moevolve("learned", "kept", "--erase", ids[0]).stdout)["interactions"] == 2
    left = json.loads(moevolve("learned", "kept", "--erase-all", "--client", "ann").stdout)
    assert (left["interactions"], left["feedback"], left["champion"]) == (0, 0, "v0000")
    rolled = moevolve("learned", "kept", "--rollback")
    assert rolled.returncode == 2 and "first champion" in rolled.stderr


def test_the_learned_is_where_something_was_learned(moevolve: Command) -> None:
    refused = moevolve("learned", "nowhere")
    assert refused.returncode == 2 and "serve --learn nowhere" in refused.stderr
