"""A run's champion as an agent behind a model's name: its program solves a client's message as a task of the run's suite.

What the program asks goes through the scheduler that draws for everybody, or to the server of the run, in the wording and
within the limits of the run.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moevolve.errors import EndpointError, MoevolveError, SpendingLimitError
from moevolve.journal.store import RunStore
from moevolve.loop import resolve
from moevolve.loop.champion_agent import ChampionAgent, UnfitTask
from moevolve.loop.champion_server import ChampionServer
from moevolve.models.engine import Engine
from moevolve.models.prompts import Prompts
from moevolve.protocol.messages import Message
from moevolve.protocol.policy import Policy
from moevolve.protocol.requests import INFRASTRUCTURE, POLICY, Outcome
from moevolve.randomness import key
from moevolve.records import VariantAdded
from moevolve.serve.completions import sse
from moevolve.serve.driven import DrivenPolicy
from moevolve.serve.failures import RequestError, ending, unsupported, wrong
from moevolve.serve.messages import text_of
from moevolve.serve.schemas import ChatRequest
from moevolve.serve.service import Deployment, Service
from moevolve.serve.waiting import left, out_of_time
from moevolve.tasks.task import Task

SUFFIX = "+program"
"""What a model's name ends with where its program answers."""
TOGETHER = 4
"""Requests whose programs run at one time; more wait."""
HEEDED = frozenset(
    {
        "model", "messages", "n", "seed", "stream", "stream_options", "max_tokens", "max_completion_tokens", "metadata",
        "user",
    }
)  # fmt: skip
"""Fields that a program's answer goes by; whatever else a chat may say is the program's to decide."""
FIELDS = {"messages": "messages", "unnamed": "messages", "skill": "metadata.skill", "task": "metadata.task"}
"""The field that says a part of a task."""


class Asked(Policy, Protocol):
    """Whom the program asks, for one client."""

    @property
    def read(self) -> int:
        """Tokens of prompts."""
        ...

    def end(self) -> None:
        """Nobody waits for it any more."""
        ...

    def close(self) -> None:
        """The program has ended."""
        ...


class ServedProgram:
    """The champion's program of one run.

    Args:
        store: the run, open for reading.
        name: the name that clients ask for.
        server: what it asks where the run's policy is a server; None for the weights that are served.
        tell: takes what went wrong that clients are not told.

    Raises:
        UsageError: the run holds no record yet, or its suite is not here.
    """

    def __init__(
        self,
        store: RunStore,
        name: str,
        server: ChampionServer | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = name
        self.agent = ChampionAgent(store)
        self.suite = self.agent.suite
        self.tell = tell
        self._server = server
        self._turns = asyncio.Semaphore(TOGETHER if server is None else server.together)
        self._prompts: tuple[Engine, Prompts] | None = None
        self.waiting = 0
        self.running = 0

    @property
    def champion(self) -> VariantAdded:
        """Whose program answers now."""
        return self.agent.champion

    def close(self) -> None:
        """Ends the processes of tools and boxes."""
        self.agent.close()

    def deploy(self, champion: VariantAdded) -> None:
        """Lets this variant's program answer from now on; its weights are deployed with it."""
        self.agent.deploy(champion)

    def task(self, body: ChatRequest) -> Task:
        """The task that a request is.

        Raises:
            RequestError: it asks for what a program does not do, or for no skill of the suite.
        """
        for field in body.__struct_fields__:
            value = getattr(body, field)
            if field in HEEDED or value is None or (field == "tool_choice" and value == "none"):
                continue
            raise unsupported(
                field, f"the program of {self.name!r} decides how it asks, and with which tools; leave it out"
            )
        told = body.metadata or {}
        fields, skill = told.get("task"), told.get("skill")
        if fields is not None and not isinstance(fields, dict):
            raise wrong("metadata.task", "an object, with the fields of the task")
        conversation = body.conversation
        for index, message in enumerate(conversation):
            if message["role"] not in ("system", "user", "assistant") or message.get("tool_calls"):
                raise unsupported(
                    f"messages[{index}]", "a program calls its own tools: send what was said, without calls"
                )
        try:
            messages = [Message(message["role"], text_of(message)) for message in conversation]
            return self.agent.task(messages, None if skill is None else str(skill), fields)
        except UnfitTask as error:
            raise _unfit(error) from None

    def policy(self, deployment: Deployment | None) -> Asked:
        """What a program asks whose turn it is: the champion's weights, or the run's server. Where there is nothing
        to ask, its turn is over."""
        try:
            return self._policy(deployment)
        except BaseException:
            self._pass()
            raise

    def _policy(self, deployment: Deployment | None) -> Asked:
        if deployment is None:
            assert self._server is not None, "where no weights are deployed a server answers"
            return self._server.policy()
        if self._prompts is None or self._prompts[0] is not deployment.engine:
            self._prompts = deployment.engine, resolve.prompts(self.agent.config, deployment.engine)
        return DrivenPolicy(deployment, self._prompts[1])

    async def turn(self) -> None:
        """Waits until a program may run; `over` says when it has ended."""
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1
        self.running += 1

    def over(self, policy: Asked, run: asyncio.Task[list[Outcome]]) -> None:
        """Lets the next program run. Nobody may be there any more who would hear how this one ended."""
        policy.close()
        self._pass()
        if not run.cancelled():
            run.exception()

    def _pass(self) -> None:
        self.running -= 1
        self._turns.release()


def _unfit(error: UnfitTask) -> RequestError:
    return wrong(FIELDS[error.part], f"{error}, as metadata.skill" if error.part == "unnamed" else str(error))


async def solved(service: Service, program: ServedProgram, request: Request, body: ChatRequest) -> Response:
    """Answers a chat by the champion's program.

    Raises:
        RequestError: the answer is a status: 422 where the program gave none, 502 where the server that it asks did not.
    """
    task, limits = program.task(body), program.agent.limits(body.limit)
    if body.samples > service.limits.samples:
        raise wrong("n", f"{body.samples} samples in one request; {service.limits.samples} at most")
    if program.waiting >= service.limits.queue:
        service.counts.refused += 1
        raise RequestError(
            429,
            f"{program.waiting} programs wait already: try again later",
            code="queue_full",
            headers={"retry-after": "1"},
        )
    service.admit(body.samples)
    service.counts.requests += 1
    seed = service.fresh_seed() if body.seed is None else body.seed
    keys = [key(seed, "program", sample) for sample in range(body.samples)]
    leaving, ended = asyncio.create_task(left(request.receive)), asyncio.create_task(service.ended.wait())
    outcomes: list[Outcome] | None = None
    policy: Asked | None = None
    try:
        async with asyncio.timeout(service.limits.request_seconds):
            await program.turn()
            # What is deployed together is taken together.
            with service.leased() as deployment:
                policy = program.policy(deployment)
                champion = program.champion
                solving = asyncio.create_task(
                    asyncio.to_thread(program.agent.solve, champion, task, keys, limits, policy)
                )
                solving.add_done_callback(partial(program.over, policy))
                await asyncio.wait((solving, leaving, ended), return_when=asyncio.FIRST_COMPLETED)
                if not solving.done() and ended.done():
                    raise ending()
                if not solving.done():
                    return Response(status_code=499)  # nobody is there to read it
                outcomes = _outcomes(program, solving)
    except TimeoutError as error:
        raise out_of_time(service.limits.request_seconds) from error
    finally:
        leaving.cancel()
        ended.cancel()
        if policy is not None:
            policy.end()
            program.agent.abandon(policy)
            service.counts.prompt_tokens += policy.read
            service.counts.completion_tokens += policy.generated
        if outcomes is None:
            service.counts.cancelled += 1
        else:
            service.counts.finished += 1
    return _response(service, champion, task, body, outcomes, policy)


def _outcomes(program: ServedProgram, solving: asyncio.Task[list[Outcome]]) -> list[Outcome]:
    """What the attempts came to.

    Raises:
        RequestError: nothing. What went wrong on this machine, or between it and the run's server, is told to whoever runs
            this; addresses, accounts and paths are no part of an answer.
    """
    try:
        return solving.result()
    except UnfitTask as error:
        raise _unfit(error) from None
    except RequestError:
        raise
    except SpendingLimitError as error:
        program.tell(f"{program.name}: {error}")
        raise RequestError(
            402, "what this server may spend on its model is spent", code="spending_limit"
        ) from None
    except EndpointError as error:
        program.tell(f"{program.name}: {error}")
        raise RequestError(
            502,
            "the server that the program asks does not answer; whoever runs this one has been told why",
            code="endpoint_failed",
        ) from None
    except MoevolveError as error:
        program.tell(f"{program.name}: {error}")
        raise RequestError(
            500,
            "the program cannot run here; whoever runs this server has been told why",
            code="program_host",
        ) from None


def _unanswered(champion: VariantAdded, task: Task, outcome: Outcome) -> RequestError:
    """Why an attempt has no answer: the program's own doing, the server's that it asks, or this machine's."""
    status = {POLICY: 502, INFRASTRUCTURE: 503}.get(outcome.failure or "", 422)
    return RequestError(
        status,
        f"the program of {champion.variant} gave no answer to this task of {task.skill}: {outcome.failure}"
        + (f", {outcome.detail}" if outcome.detail else ""),
        code=f"program_{outcome.failure}",
    )


def _response(
    service: Service,
    champion: VariantAdded,
    task: Task,
    body: ChatRequest,
    outcomes: Sequence[Outcome],
    policy: Asked,
) -> Response:
    for outcome in outcomes:
        if outcome.answer is None:
            raise _unanswered(champion, task, outcome)
    usage = {
        "prompt_tokens": policy.read,
        "completion_tokens": policy.generated,
        "total_tokens": policy.read + policy.generated,
    }
    base = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": f"{service.name}{SUFFIX}",
        "system_fingerprint": champion.weights[:16],
        "program": {
            "variant": champion.variant,
            "hash": champion.program,
            "skill": task.skill,
            "requests": sum(outcome.requests for outcome in outcomes),
        },
    }
    if not body.stream:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": outcome.answer},
                "logprobs": None,
                "finish_reason": "stop",
            }
            for index, outcome in enumerate(outcomes)
        ]
        whole = {**base, "object": "chat.completion", "choices": choices, "usage": usage}
        return Response(msgspec.json.encode(whole), media_type="application/json")
    base["object"] = "chat.completion.chunk"
    pieces = []
    for index, outcome in enumerate(outcomes):
        for delta, finish in (({"role": "assistant", "content": outcome.answer}, None), ({}, "stop")):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            pieces.append(sse({**base, "choices": [choice], "usage": None}))
    if body.tells_usage:
        pieces.append(sse({**base, "choices": [], "usage": usage}))
    return Response(
        b"".join([*pieces, b"data: [DONE]\n\n"]),
        media_type="text/event-stream",
        headers={"cache-control": "no-cache"},
    )
