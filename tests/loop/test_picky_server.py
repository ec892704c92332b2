"""A server that is right only if it is asked as it wants, and reasons before it answers; runs are killed beside it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from command_line import call  # noqa: E402

from moevolve.journal.store import RunStore  # noqa: E402
from moevolve.records import Metered  # noqa: E402

ROOM = 512
SETTINGS = [
    "small",
    "--suite=sums",
    "--model=m",
    "--cycles=1",
    "--out=run",
    "--display=none",
    f"--set=policy.max_tokens={ROOM}",
    "--set=endpoint.concurrency=1",
    "--set=attempts.tasks=8",
    "--set=gate.min_n=8",
    "--set=gate.max_n=16",
    "--set=gate.batch=8",
    "--set=evolve.candidates=1",
    "--set=evolve.screen=8",
]


class Picky:
    """Adds the first two numbers of a question; refuses `seed` and `max_tokens`, and needs `ROOM` tokens."""

    def __init__(self) -> None:
        self.answered = 0
        self.deadly: set[int] = set()
        """Answers before which the run is killed."""
        self.process: subprocess.Popen[bytes] | None = None

    def said(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        for field, message in (
            ("seed", "Unrecognized request argument supplied: seed"),
            (
                "max_tokens",
                "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            ),
        ):
            if field in body:
                return 400, {"error": {"message": message, "param": field, "code": "unsupported_parameter"}}
        self.answered += 1
        if self.answered in self.deadly and self.process is not None:
            self.process.kill()
            self.process.wait()
        first, second = map(int, re.findall(r"\d+", body["messages"][-1]["content"])[:2])
        text, finish = f"Let me think.\nI add {first} and {second}.\n\n{first + second}", "stop"
        if body.get("max_completion_tokens", 0) < ROOM:
            text, finish = "Let me think.", "length"
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
        count = body.get("n", 1)
        usage = {"prompt_tokens": 10, "completion_tokens": 20 * count, "total_tokens": 10 + 20 * count}
        return 200, {"choices": [{"index": each, **choice} for each in range(count)], "usage": usage}


@contextmanager
def listening(picky: Picky) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, said = picky.said(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    (tmp_path / "sums").mkdir()
    rows = [
        {
            "id": f"t{n}",
            "skill": "sum/two",
            "prompt": f"What is {n} plus {3 * n}? Reason first.",
            "answer": f"{4 * n}",
        }
        for n in range(1, 61)
    ]
    (tmp_path / "sums" / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def calls(run: Path) -> int:
    with RunStore.open(run) as store:
        return sum(record.calls for _, record, _ in store.records() if isinstance(record, Metered))


def test_it_is_asked_as_it_wants_and_is_right_every_time(sums: Path) -> None:
    picky = Picky()
    with listening(picky) as url:
        done = call(sums, "run", *SETTINGS, f"--endpoint={url}")
    assert done.returncode == 0, done.stderr
    shown = json.loads(call(sums, "show", "run", "--json").stdout)
    assert (shown["score"]["initial"], shown["score"]["final"]) == (1.0, 1.0)
    assert done.stderr.count("does not take seed") == 1 and done.stderr.count("does not take max_tokens") == 1
    # The two calls that were refused are calls as well.
    assert calls(sums / "run") == picky.answered + 2


@pytest.mark.long
def test_ten_kills_bill_every_call_that_was_answered_once(sums: Path) -> None:
    whole = Picky()
    with listening(whole) as url:
        assert call(sums, "run", *SETTINGS, f"--endpoint={url}").returncode == 0
        head = json.loads(call(sums, "show", "run", "--json").stdout)["score"]
        (sums / "run").rename(sums / "whole")
        picky = Picky()
    step = whole.answered // 11
    picky.deadly = {step * each for each in range(1, 11)}
    with listening(picky) as url:
        command = ["run", *SETTINGS, f"--endpoint={url}"]
        while True:
            picky.process = subprocess.Popen(
                [sys.executable, "-m", "moevolve.cli.main", *command],
                cwd=sums,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if (code := picky.process.wait()) != -signal.SIGKILL:
                break
            command = ["resume", "run", "--display=none"]
    assert code == 0
    assert picky.answered == whole.answered + 10
    refused = calls(sums / "run") - picky.answered
    assert refused == 2, f"{refused} calls are on record that were neither answered nor refused"
    assert json.loads(call(sums, "show", "run", "--json").stdout)["score"] == head
