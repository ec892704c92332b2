"""Vectors of a server: each text is asked for once, a replay asks nobody, and a wrong answer is an error by name."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from remembering import configured  # noqa: E402

from moevolve.agents.transcripts import Transcripts  # noqa: E402
from moevolve.auditor import audit  # noqa: E402
from moevolve.errors import ConfigError, EndpointError, UsageError  # noqa: E402
from moevolve.journal.lessons import MemoryStore, memory_folder  # noqa: E402
from moevolve.loop.run import replay, start  # noqa: E402
from moevolve.memory.embedding import HashedNgrams  # noqa: E402
from moevolve.models.endpoint.embeddings import ServedEmbeddings  # noqa: E402
from moevolve.models.endpoint.secret import Secret  # noqa: E402

KEY = "sk-not-for-anybody"


class Server(ThreadingHTTPServer):
    """A server of embeddings that counts what it is asked; `faults` are answered first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.faults: list[tuple[int, Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.keys.append(self.headers["authorization"])
        status, told = 200, None
        if self.server.faults:
            status, told = self.server.faults.pop(0)
        elif self.path != "/v1/embeddings" or asked["model"] != "small":
            status, told = 404, {"error": "no such model"}
        else:
            self.server.asked += asked["input"]
            vectors = HashedNgrams(32).embed(asked["input"])
            data = [{"index": at, "embedding": list(vector)} for at, vector in enumerate(vectors)]
            told = {"data": data[::-1]}
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def client(server: Server, tape: Path | None = None, **more: Any) -> ServedEmbeddings:
    kept = Transcripts(tape) if tape is not None else None
    return ServedEmbeddings(server.address, "small", Secret(KEY, "KEY"), kept, wait=0.0, **more)


def test_each_text_is_asked_for_once_whoever_asks(server: Server, tmp_path: Path) -> None:
    texts = [f"text {number % 100}" for number in range(150)]
    first = client(server, tmp_path / "tape").embed(texts)
    assert [list(vector) for vector in first] == [list(vector) for vector in HashedNgrams(32).embed(texts)]
    again = client(server, tmp_path / "tape").embed(texts[:70])
    assert again == first[:70] and set(server.asked) == set(texts)
    asked = len(server.asked)
    client(server, tmp_path / "tape").embed(texts)
    assert len(server.asked) == asked
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY.encode() not in (tmp_path / "tape").read_bytes()


def test_what_passes_by_itself_is_asked_again_and_what_does_not_is_told(server: Server) -> None:
    server.faults = [(503, {}), (429, {})]
    assert len(client(server).embed(["a", "b"])) == 2
    server.faults = [(401, {"error": f"bad key {KEY}"})] * 9
    with pytest.raises(EndpointError, match="401") as caught:
        client(server).embed(["a"])
    assert KEY not in str(caught.value) and len(server.faults) == 8
    server.faults = [(500, {})] * 9
    with pytest.raises(EndpointError, match="500"):
        client(server).embed(["a"])
    assert len(server.faults) == 5


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]},
        {"data": [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": "AAAA"}]},
        "nothing",
        [[1.0], [2.0]],
    ],
)
def test_an_answer_without_a_vector_for_each_text_is_none(server: Server, told: Any) -> None:
    server.faults = [(200, told)]
    with pytest.raises(EndpointError, match="vectors"):
        client(server).embed(["a", "b"])


def test_nobody_there_is_an_error_by_name() -> None:
    with pytest.raises(EndpointError, match="no answer"):
        ServedEmbeddings("http://127.0.0.1:9/v1", "small", Secret("", ""), wait=0.0).embed(["a"])


def test_a_run_recalls_by_a_servers_vectors_and_its_replay_asks_nobody(
    server: Server, tmp_path: Path
) -> None:
    config = configured(
        tmp_path,
        memory__embedder="endpoint",
        memory__endpoint=server.address,
        memory__model="small",
        cycles=2,
    )
    run = start(config, tmp_path / "run")
    with MemoryStore(memory_folder(run)) as memory:
        told = memory.statistics()
    assert (told.embedder, told.dimensions) == ("server's small", 32) and told.vectors > 0
    asked = len(server.asked)
    assert asked == len(set(server.asked)) > 20
    recorded, again = replay(run, tmp_path / "again")
    assert recorded == again and len(server.asked) == asked
    report = audit(run)
    assert report.ok, report.findings
    tape = run / "embeddings.tape"
    tape.write_bytes(tape.read_bytes()[:-1] + b"?")
    assert not audit(run).ok, "the seal covers what the server said"


@pytest.mark.parametrize(
    "settings",
    [
        {"memory__embedder": "endpoint"},
        {"memory__embedder": "endpoint", "memory__endpoint": "http://127.0.0.1:1/v1"},
        {"memory__endpoint": "http://127.0.0.1:1/v1", "memory__model": "small"},
        {"memory__embedder": "endpoint", "memory__endpoint": "not an address", "memory__model": "small"},
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        configured(tmp_path, **settings)


def test_a_key_that_is_not_set_ends_before_anything_is_asked(server: Server, tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        memory__embedder="endpoint",
        memory__endpoint=server.address,
        memory__model="small",
        memory__key_env="NO_SUCH_KEY_HERE",
    )
    with pytest.raises(UsageError, match="NO_SUCH_KEY_HERE"):
        start(config, tmp_path / "run")
    assert server.keys == []
