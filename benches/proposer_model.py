"""A language model of one's own writes edits from end to end: served by `moevolve serve`, on record, replayed without it.

    python benches/proposer_model.py MODEL [--candidates 2] [--cycles 1]

MODEL is a GGUF file or a checkpoint's folder with a chat template. The run is the smallest preset with arm program; the
table shows what became of the answers, that the bill equals the server's own count, and that a replay after its end
comes to the same head.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from moevolve.config import Config
from moevolve.journal.store import RunStore
from moevolve.loop.run import replay, start
from moevolve.records import Metered, ProposerAsked


@contextmanager
def served(model: str) -> Iterator[str]:
    """A server of this model, as a process of its own; its address."""
    command = [sys.executable, "-m", "moevolve.cli.main", "serve", model, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if (at := line.find("http://")) >= 0:
                yield line[at:].split()[0].rstrip("/,;").removesuffix("/v1")
                return
        raise SystemExit("the server did not start")
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--candidates", type=int, default=2)
    parser.add_argument("--cycles", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        with served(arguments.model) as url:
            name = httpx2.get(f"{url}/v1/models").json()["data"][0]["id"]
            settings = {
                "evolve.proposers": ["model"],
                "evolve.candidates": arguments.candidates,
                "proposer.endpoint": f"{url}/v1",
                "proposer.model": name,
                "proposer.server.timeout": 600.0,
                "roles.proposer.max_tokens": 256,
                "roles.proposer.prompt_chars": 3000,
                "cycles": arguments.cycles,
            }
            start(Config.load("small", settings).override(arm="program", cycles=arguments.cycles), out)
            usage = httpx2.get(f"{url}/v1/usage").json()
        with RunStore.open(out) as store:
            records = [entry.record for entry in store.entries()]
        for record in records:
            if isinstance(record, ProposerAsked):
                print(
                    f"cycle {record.cycle}: {record.made} of {record.asked} candidates, {record.repeats} repeated"
                )
                for reason in record.broken:
                    print(f"  broken: {reason}")
        bills = [record for record in records if isinstance(record, Metered)]
        print(
            f"billed: {sum(each.requests for each in bills)} requests, "
            f"{sum(each.prompt_tokens for each in bills)} tokens read, "
            f"{sum(each.completion_tokens for each in bills)} drawn"
        )
        print(f"the server counts: {usage}")
        recorded, again = replay(out, Path(folder) / "again")
        print(f"replay without it: {'the same head' if recorded == again else 'ANOTHER HEAD'}, {again[:16]}")
        if recorded != again:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
