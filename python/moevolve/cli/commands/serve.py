"""Serves a model, or a run's champion, to OpenAI's clients: completions, chats, streams, tools, log-probabilities. Only this
machine is listened to unless --host says otherwise, which needs a token."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from moevolve.cli import output
from moevolve.errors import SafetyError, UsageError

INTERRUPTED = 130
MEBIBYTE = 1 << 20
SHORTEST = 8
"""Characters of a token."""
_NAMED = re.compile(r"[A-Za-z0-9._@-]{1,64}=[^=]")
"""How an entry with a client's name begins."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        type=Path,
        metavar="MODEL|RUN",
        help="folder of a checkpoint, a .gguf file, or a run, whose champion's weights are served, or its program where "
        "the run's policy is a server's (default: the shipped seed)",
    )
    parser.add_argument("--name", help="the model's name for clients (default: the file's or folder's)")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go over to a run's new champions as they come; no stream breaks",
    )
    parser.add_argument(
        "--program",
        action="store_true",
        help="let a run's champion's program answer too: chats with the model NAME+program are tasks that it solves; "
        "where the run's policy is a server's that is all that answers",
    )
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    where.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: 8000)")
    where.add_argument(
        "--token-env",
        metavar="VAR",
        help="environment variable with the token that clients must send, or with several, NAME=TOKEN separated by "
        "spaces; needed unless the host is this machine only",
    )
    learning = parser.add_argument_group("learning")
    learning.add_argument(
        "--learn",
        type=Path,
        metavar="RUN|FOLDER",
        help="keep interactions and feedback there and learn from them; a run's champion is served (default: keep nothing)",
    )
    learning.add_argument(
        "--learn-every",
        type=float,
        metavar="MIN",
        help="minutes between learning cycles (default: on POST /v1/learning only)",
    )
    learning.add_argument(
        "--keep", type=int, default=10_000, metavar="N", help="interactions that are kept (default: 10000)"
    )
    engine = parser.add_argument_group("engine")
    engine.add_argument("--slots", type=int, default=64, help="samples drawn at once (default: 64)")
    engine.add_argument(
        "--memory",
        type=int,
        metavar="MIB",
        help="memory for keys and values (default: what the slots need, at most half of what is free)",
    )
    engine.add_argument("--device", default="cpu", help="cpu, cuda:N for a card, or auto (default: cpu)")
    engine.add_argument("--threads", type=int, default=0, help="threads of the engine (default: every core)")
    engine.add_argument(
        "--speculate",
        type=int,
        default=0,
        metavar="N",
        help="most tokens guessed from the prompt a step (default: 0)",
    )
    engine.add_argument(
        "--seed", type=int, help="what samples without a seed are drawn from (default: another each time)"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body", type=int, default=4, metavar="MIB", help="a request's body (default: 4)"
    )
    limits.add_argument(
        "--max-queue",
        type=int,
        default=256,
        metavar="N",
        help="samples that may wait (default: 256); then 429",
    )
    limits.add_argument(
        "--max-connections", type=int, default=512, metavar="N", help="open connections (default: 512)"
    )
    limits.add_argument(
        "--timeout", type=float, default=600, metavar="S", help="seconds for an answer (default: 600)"
    )
    limits.add_argument(
        "--grace",
        type=float,
        default=10,
        metavar="S",
        help="seconds that answers under way may take after Ctrl-C (default: 10)",
    )
    parser.add_argument(
        "--ignore-unknown",
        action="store_true",
        help="leave fields of a request alone that the server does not know (default: refuse them by name)",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON once clients can connect")


def execute(options: argparse.Namespace) -> int:
    tokens = _tokens(options)
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"serving needs {error.name}: pip install 'moevolve[serve]'") from error

    from moevolve.serve.limits import Limits
    from moevolve.serve.running import Options, run

    for name in ("slots", "max_body", "max_queue", "max_connections", "keep"):
        if getattr(options, name) < (0 if name == "max_queue" else 1):
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: too small")
    if options.learn is None and options.learn_every is not None:
        raise UsageError("--learn-every belongs to --learn: name the folder that is learned in")
    if options.learn is not None and options.follow:
        raise UsageError("--follow and --learn exclude each other: both decide what is served next")
    if options.learn is not None and options.program:
        raise UsageError(
            "--program and --learn exclude each other: what is learned are weights without a program"
        )
    limits = Limits(
        body=options.max_body * MEBIBYTE,
        queue=options.max_queue,
        connections=options.max_connections,
        request_seconds=options.timeout,
        grace_seconds=options.grace,
    )
    asked = Options(
        model=options.model,
        name=options.name,
        follow=options.follow,
        program=options.program,
        host=options.host,
        port=options.port,
        tokens=tokens,
        learn=options.learn,
        ignore_unknown=options.ignore_unknown,
        learn_every=None if options.learn_every is None else options.learn_every * 60,
        keep=options.keep,
        hidden=frozenset({options.token_env} if options.token_env else ()),
        slots=options.slots,
        memory=None if options.memory is None else options.memory * MEBIBYTE,
        device=options.device,
        threads=options.threads,
        speculate=options.speculate,
        seed=options.seed,
        limits=limits,
    )
    interrupted = run(asked, output.say, output.line if options.json else lambda _: None)
    return INTERRUPTED if interrupted else 0


def _tokens(options: argparse.Namespace) -> dict[str, str | None] | None:
    """The tokens in force; checked first, as everything else takes time.

    Raises:
        SafetyError: others could connect, and there is no token.
        UsageError: the variable holds no token that will do.
    """
    import ipaddress

    if options.token_env is not None:
        tokens: dict[str, str | None] = {}
        for entry in os.environ.get(options.token_env, "").split():
            name, named, token = entry.partition("=") if _NAMED.match(entry) else ("", "", entry)
            tokens[token] = name if named else None
        if not tokens or any(len(token) < SHORTEST or not token.isascii() for token in tokens):
            raise UsageError(
                f"--token-env {options.token_env}: the variable must hold a token of at least {SHORTEST} ASCII "
                "characters, or several as NAME=TOKEN"
            )
        return tokens
    try:
        alone = options.host == "localhost" or ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        alone = False
    if not alone:
        raise SafetyError(
            f"--host {options.host} lets other machines in: put a token into an environment variable and name it "
            "with --token-env"
        )
    return None
