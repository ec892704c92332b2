"""`generate` by a run's champion's program: each prompt is a task of the run's suite."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from moevolve.cli import output
from moevolve.cli.prompts import Request
from moevolve.errors import UsageError

if TYPE_CHECKING:
    from moevolve.journal.store import RunStore
    from moevolve.loop.champion_agent import ChampionAgent
    from moevolve.models.champions import Champions
    from moevolve.models.engine import Engine
    from moevolve.protocol.policy import Policy
    from moevolve.protocol.requests import Outcome

DECIDED = {
    "temperature": None,
    "top_p": 1.0,
    "schema": None,
    "regex": None,
    "choice": None,
    "grammar": None,
    "tools": None,
    "raw": False,
    "stream": None,
}
"""Options that say how a model samples, with what they are where nobody names them: the program decides that."""


def wanted(options: argparse.Namespace) -> bool:
    """Whether a program is to answer: it was said, or there is a run whose model is a server's.

    Raises:
        UsageError: there is no run.
    """
    from moevolve import _native

    run = options.model is not None and _native.RunStore.is_run(options.model)
    if options.program and not run:
        raise UsageError("--program is for a run, whose champion has one: name its folder with --model")
    if options.program:
        return True
    if options.skill is not None:
        raise UsageError("--skill belongs to --program")
    if not run:
        return False
    from moevolve.journal.store import RunStore
    from moevolve.models.champions import Champions
    from moevolve.models.engine import Engine

    with RunStore.open(options.model) as store:
        return Champions(store, Engine).config.policy.endpoint is not None


def execute(options: argparse.Namespace, requests: Sequence[Request], *, talks: bool) -> int:
    """Solves tasks and prints their answers; 1 where one has none.

    Raises:
        UsageError: options that a program does not go by, or a task that it cannot be given.
    """
    named = [name for name, default in DECIDED.items() if getattr(options, name) != default]
    if named:
        raise UsageError(
            f"--{named[0].replace('_', '-')}: the champion's program decides how it asks; leave it out"
        )
    if talks:
        raise UsageError("the champion's program solves tasks: give one as a prompt, or one a line on stdin")
    from moevolve.journal.store import RunStore
    from moevolve.loop.champion_agent import ChampionAgent
    from moevolve.models.champions import Champions
    from moevolve.models.engine import Engine

    with ExitStack() as stack:
        store = stack.enter_context(RunStore.open(options.model))
        champions = Champions(store, Engine)
        agent = ChampionAgent(store)
        stack.callback(agent.close)
        champion = champions.newest()
        agent.deploy(champions.record(champion))
        tasks = [_task(agent, request, options) for request in requests]
        policy = _policy(options, store, champions, agent, stack)
        silent = 0
        told: list[dict[str, Any]] = []
        for index, (request, outcomes) in enumerate(
            zip(requests, _solved(agent, tasks, options, policy), strict=True)
        ):
            asked = (
                {"prompt": request.prompt} if request.prompt is not None else {"messages": request.messages}
            )
            silent += sum(outcome.answer is None for outcome in outcomes)
            rows = [_row(outcome) for outcome in outcomes]
            if options.jsonl:
                for sample, row in enumerate(rows):
                    output.line({"index": index, "sample": sample, **asked, **row})
            elif options.json:
                told.append({**asked, "completions": rows})
            else:
                _show(outcomes, index)
        if options.json:
            output.data(told)
    return 1 if silent else 0


def _task(agent: ChampionAgent, request: Request, options: argparse.Namespace) -> Any:
    from moevolve.loop.champion_agent import UnfitTask
    from moevolve.protocol.messages import Message

    if request.tools is not None:
        raise UsageError("a program has the tools of its run: leave `tools` out")
    messages = []
    for each in request.conversation(options.system):
        if each.get("role") not in ("system", "user", "assistant") or not isinstance(
            each.get("content"), str
        ):
            raise UsageError(
                "messages of a task are texts of the roles system, user and assistant: a program calls its own tools"
            )
        messages.append(Message(each["role"], each["content"]))
    try:
        return agent.task(messages, request.skill or options.skill, request.task)
    except UnfitTask as error:
        raise UsageError(f"{error}, with --skill" if error.part == "unnamed" else str(error)) from None


def _policy(
    options: argparse.Namespace,
    store: RunStore,
    champions: Champions[Engine],
    agent: ChampionAgent,
    stack: ExitStack,
) -> Policy:
    """What the program asks: the champion's weights, or the run's server."""
    if agent.config.policy.endpoint is not None:
        from moevolve.loop.champion_server import ChampionServer

        server = ChampionServer(agent.config, 1, lambda text: output.say(f"moevolve: {text}"))
        stack.callback(server.close)
        return server.policy()
    from moevolve.loop import resolve
    from moevolve.models.engine_policy import EnginePolicy

    engine = champions.base(options.threads, options.device)
    champions.read(engine, champions.newest())
    for note in engine.notes:
        output.say(f"moevolve: {note}")
    return EnginePolicy(engine, agent.champion.weights, resolve.prompts(agent.config, engine))


def _solved(
    agent: ChampionAgent, tasks: Sequence[Any], options: argparse.Namespace, policy: Policy
) -> Iterator[list[Outcome]]:
    from moevolve.randomness import key

    keys = [key(options.seed, "program", sample) for sample in range(options.n)]
    for task in tasks:
        yield agent.solve(agent.champion, task, keys, agent.limits(options.max_tokens), policy)


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "text": outcome.answer,
        "failure": outcome.failure,
        "detail": outcome.detail,
        "tokens": outcome.tokens,
        "requests": outcome.requests,
    }


def _show(outcomes: Sequence[Outcome], index: int) -> None:
    from moevolve.cli.telling import Teller

    for outcome in outcomes:
        if outcome.answer is None:
            detail = f": {outcome.detail}" if outcome.detail else ""
            output.say(f"moevolve: prompt {index + 1} has no answer, {outcome.failure}{detail}")
        else:
            Teller().text(iter([outcome.answer]))
