"""`moevolve serve` under load: 64 clients beside one, nothing lost, order kept, memory flat.

Starts the server in a process of its own and talks to it over bare sockets, so that the clients cost little of the
processor that both share. Every request is one of a few (prompt, seed) pairs whose answers one client alone has heard
before: each answer under load must be the same text, piece by piece, with as many tokens as the server says.

    python benches/serve.py                        # about a minute
    python benches/serve.py --minutes 5            # must show: 64 clients for 5 minutes
    python benches/serve.py --requests 10000       # must show: memory after 10,000 requests
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROMPTS = (
    "rev:abcdef=",
    "sort:dcba=",
    "add:12+34=",
    "The quick brown",
    "upper:hello=",
    "x",
    "1, 2, 3,",
    "dup:ab=",
)


class Lost(Exception):
    """An answer that is not what one client alone got."""


class Client:
    """One connection, kept alive."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def complete(self, body: dict[str, Any]) -> tuple[str, int, float]:
        """A streamed completion: its text, its tokens, and the seconds to its first piece."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._where)
        reader, writer = self._streams
        data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
        began = time.perf_counter()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(data) + data
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise Lost(head.split(b"\r\n")[0].decode())
        text, tokens, first, received = [], 0, 0.0, b""
        while size := int(await reader.readline(), 16):
            received += (await reader.readexactly(size + 2))[:-2]
            first = first or time.perf_counter() - began
        await reader.readline()
        *events, done = received.decode().strip().split("\n\n")
        if done != "data: [DONE]":
            raise Lost(f"the stream ends with {done!r}")
        for event in events:
            piece = json.loads(event.removeprefix("data: "))
            if "error" in piece:
                raise Lost(str(piece))
            text += [choice["text"] for choice in piece["choices"]]
            tokens = piece["usage"]["completion_tokens"] if piece["usage"] else tokens
        return "".join(text), tokens, first

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


def resident(pid: int) -> float:
    """Memory of a process in MiB, mapped files left out."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return int(fields["RssAnon"].split()[0]) / 1024


def processor(pid: int) -> float:
    """Processor seconds of a process so far: what is measured even where others are busy, too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Load:
    """Clients that ask until there have been enough requests or enough time."""

    def __init__(self, url: str, pid: int, tokens: int, pairs: int, known: dict[int, str]) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._where = host, int(port)
        self._pid = pid
        self._tokens = tokens
        self._pairs = pairs
        self._known = known
        self.requests = self.drawn = 0
        self.cost = 0.0
        """Processor seconds of the server for each token."""
        self.first: list[float] = []
        self.memory: list[tuple[int, float]] = []

    async def run(self, clients: int, seconds: float, requests: int | None) -> float:
        """Tokens a second."""
        self._left = requests
        spent, began = processor(self._pid), time.perf_counter()
        self._until = began + seconds
        await asyncio.gather(*(self._client() for _ in range(clients)))
        self.cost = (processor(self._pid) - spent) / max(1, self.drawn)
        return self.drawn / (time.perf_counter() - began)

    async def _client(self) -> None:
        client = Client(*self._where)
        while self._more():
            number = self.requests
            self.requests += 1
            pair = number % self._pairs
            body = {
                "prompt": PROMPTS[pair % len(PROMPTS)],
                "seed": pair,
                "max_tokens": self._tokens,
                "temperature": 1.0,
                "ignore_eos": True,
            }
            text, tokens, first = await client.complete(body)
            if self._known.setdefault(pair, text) != text:
                raise Lost(f"request {number}: {text!r} instead of {self._known[pair]!r}")
            self.drawn += tokens
            self.first.append(first)
            if number % 500 == 0:
                self.memory.append((number, resident(self._pid)))
        client.close()

    def _more(self) -> bool:
        if self._left is not None:
            return self.requests < self._left
        return time.perf_counter() < self._until


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="a checkpoint (default: the shipped seed)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=0.33, help="of load by all clients")
    parser.add_argument(
        "--requests", type=int, default=None, help="requests of all clients, instead of minutes"
    )
    parser.add_argument("--tokens", type=int, default=64, help="new tokens a request")
    parser.add_argument("--pairs", type=int, default=64, help="different requests")
    options = parser.parse_args()
    command = [sys.executable, "-m", "moevolve.cli.main", "serve", "--port", "0", "--json"]
    server = subprocess.Popen([*command, *([options.model] if options.model else [])], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        told = json.loads(server.stdout.readline())
        known: dict[int, str] = {}

        def load() -> Load:
            return Load(told["url"], server.pid, options.tokens, options.pairs, known)

        asyncio.run(load().run(1, 0, options.pairs))
        one = load()
        alone = asyncio.run(one.run(1, 10, None))
        many = load()
        began = time.perf_counter()
        together = asyncio.run(many.run(options.clients, options.minutes * 60, options.requests))
        took = time.perf_counter() - began
        settled = resident(server.pid)
    finally:
        server.terminate()
        code = server.wait(30)
    first = sorted(many.first)
    print(
        f"one client        {alone:10,.0f} tokens/s  first piece {1e3 * sorted(one.first)[len(one.first) // 2]:7.1f} ms"
    )
    print(
        f"{options.clients:<3} clients       {together:10,.0f} tokens/s  first piece {1e3 * first[len(first) // 2]:7.1f} ms"
    )
    print(
        f"processor         {1e6 * one.cost:10,.0f} us a token for one client, {1e6 * many.cost:,.0f} us for all"
    )
    print(f"gain              {together / alone:10.2f} x")
    print(
        f"requests          {many.requests:10,} in {took:,.0f} s, none lost, all texts equal to one client's"
    )
    for number, memory in many.memory[:: max(1, len(many.memory) // 8)]:
        print(f"memory            {memory:10,.1f} MiB at request {number:,}")
    print(f"memory            {settled:10,.1f} MiB at the end")
    print(f"exit code         {code:10}")
    return code


if __name__ == "__main__":
    sys.exit(main())
