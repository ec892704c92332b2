"""A run's champion as an agent behind a model's name: its program solves a client's message as a task of the run's suite.

What the program asks goes through the scheduler that draws for everybody, in the wording and within the limits of the run.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moevolve.agents.host import ProgramHost
from moevolve.agents.plans.behaviour import Behaviour
from moevolve.config.roles import RoleSection
from moevolve.journal.lessons import MemoryStore, memory_folder
from moevolve.journal.reader import read
from moevolve.journal.store import RunStore
from moevolve.loop import resolve
from moevolve.loop.variants import genome_in
from moevolve.memory.lessons import LessonMemory
from moevolve.models.engine import Engine
from moevolve.models.engine_policy import EnginePolicy
from moevolve.models.prompts import Prompts
from moevolve.models.scheduler import completion_of
from moevolve.protocol.completion import Completion
from moevolve.protocol.policy import Policy
from moevolve.protocol.requests import Outcome, PublicTask
from moevolve.protocol.rollouts import RolloutJob
from moevolve.protocol.sampling import Event, TokenRequest
from moevolve.randomness import key
from moevolve.records import VariantAdded
from moevolve.rollouts.executors.local import LocalExecutor, Programs
from moevolve.serve.completions import sse
from moevolve.serve.driver import RequestHandle
from moevolve.serve.failures import RequestError, unsupported, wrong
from moevolve.serve.schemas import ChatRequest
from moevolve.serve.service import Deployment, Service
from moevolve.serve.tools import live
from moevolve.serve.waiting import Left, left, out_of_time

SUFFIX = "+program"
"""What a model's name ends with where its program answers."""
TOGETHER = 4
"""Requests whose programs run at one time; more wait."""
EVERY = 1 << 62
"""A cycle that comes after all whose lessons may be recalled."""
DECIDED = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "stop",
    "logit_bias",
    "ignore_eos",
    "logprobs",
    "top_logprobs",
    "tools",
    "chat_template_kwargs",
)
"""Fields that say how a model samples: the program decides that."""


class ServedProgram:
    """The champion's program of one run.

    Args:
        store: the run, open for reading.
        name: the name that clients ask for.

    Raises:
        UsageError: the run holds no record yet, or its suite is not here.
    """

    def __init__(self, store: RunStore, name: str) -> None:
        started = read(store).started
        self.name = name
        self._store = store
        self._config = resolve.on_record(started, store.path)
        self.suite = resolve.suite(self._config)
        self._tools = live(self.suite)
        self._host = ProgramHost(self._config.limits(), self._config.sandbox, self._tools, self.suite.cutters)
        self._memory = LessonMemory(
            MemoryStore(memory_folder(store.path)),
            started.run,
            self._config.memory,
            resolve.embedder(self._config),
        )
        self._reading = threading.Lock()
        self._behaviours: dict[str, Behaviour] = {}
        self._turns = asyncio.Semaphore(TOGETHER)
        self._champion: VariantAdded | None = None
        self._prompts: tuple[Engine, Prompts] | None = None
        self.waiting = 0

    @property
    def champion(self) -> VariantAdded:
        """Whose program answers now."""
        assert self._champion is not None, "a champion has been deployed"
        return self._champion

    def close(self) -> None:
        """Ends the tools' process."""
        if self._tools is not None:
            self._tools.close()

    def deploy(self, champion: VariantAdded) -> None:
        """Lets this variant's program answer from now on; its weights are deployed with it."""
        self._memory.open_cycle(EVERY)
        self._champion = champion

    def task(self, body: ChatRequest) -> PublicTask:
        """The task that a request is.

        Raises:
            RequestError: it asks for what a program does not do, or for no skill of the suite.
        """
        for field in DECIDED:
            if getattr(body, field) is not None:
                raise unsupported(field, f"the program of {self.name!r} decides how it asks; leave it out")
        if body.tool_choice not in (None, "none"):
            raise unsupported("tool_choice", "the program has the tools of its run")
        if len(body.messages) != 1 or body.messages[0]["role"] != "user":
            raise unsupported("messages", "the program solves one task: send one message of the role `user`")
        prompt = body.messages[0].get("content")
        if isinstance(prompt, list):
            prompt = "\n".join(part["text"] for part in prompt)
        if not prompt:
            raise wrong("messages", "the task is empty")
        return PublicTask(prompt=prompt, skill=self._skill(body, prompt))

    def _skill(self, body: ChatRequest, prompt: str) -> str:
        skills = self.suite.skills
        named = (body.metadata or {}).get("skill")
        if named is not None:
            if named not in skills:
                raise wrong("metadata.skill", f"suite {self.suite.name} has {', '.join(skills)}")
            return str(named)
        verb, colon, _ = prompt.partition(":")
        found = [path for path, leaf in skills.items() if colon and leaf.verb == verb] or list(skills)
        if len(found) != 1:
            raise wrong(
                "messages",
                f"it does not begin as a task of suite {self.suite.name} does: name its skill as metadata.skill, "
                f"one of {', '.join(skills)}",
            )
        return found[0]

    def limits(self, body: ChatRequest) -> RoleSection:
        """What an attempt may spend: the run's limits of its solver, and no more tokens than the client grants."""
        limits = self._host.roles.solver
        most = limits.tokens if body.limit is None else min(limits.tokens, body.limit)
        return msgspec.structs.replace(limits, tokens=most)

    def solve(
        self,
        champion: VariantAdded,
        task: PublicTask,
        keys: Sequence[int],
        limits: RoleSection,
        policy: Policy,
    ) -> list[Outcome]:
        """One attempt of a variant's program a key; blocks the caller's thread.

        Raises:
            Left: nobody waits for it any more.
        """
        programs = Programs(
            self._host,
            self.suite,
            lambda program: genome_in(self._store, program),
            lambda program: self._behaviour(champion),
        )
        recall = self._memory.recall if self._memory.on else None
        executor = LocalExecutor(lambda weights: dict.fromkeys(weights, policy), programs, recall)
        job = RolloutJob(
            weights=champion.weights,
            program=champion.program,
            tasks=(task,) * len(keys),
            keys=tuple(keys),
            limits=limits,
        )
        [result] = executor.submit([job]).results()
        return result.outcomes

    def policy(self, deployment: Deployment) -> DrivenPolicy:
        """The champion's weights as the run's programs ask them."""
        if self._prompts is None or self._prompts[0] is not deployment.engine:
            self._prompts = deployment.engine, resolve.prompts(self._config, deployment.engine)
        return DrivenPolicy(deployment, self._prompts[1])

    async def turn(self) -> None:
        """Waits until a program may run; `over` says when it has ended."""
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1

    def over(self, run: asyncio.Task[list[Outcome]]) -> None:
        """Lets the next program run. Nobody may be there any more who would hear how this one ended."""
        self._turns.release()
        if not run.cancelled():
            run.exception()

    def _behaviour(self, champion: VariantAdded) -> Behaviour:
        with self._reading:
            found = self._behaviours.get(champion.program)
            if found is None:
                if champion.behaviour is not None:
                    found = Behaviour.decoded(self._store.blob(champion.behaviour))
                else:
                    verbs = {path: leaf.verb for path, leaf in self.suite.skills.items()}
                    genome = genome_in(self._store, champion.program)
                    found = self._host.behaviour(genome, verbs, key("behaviour", champion.program))
                self._behaviours = {champion.program: found}
            return found


class DrivenPolicy(EnginePolicy):
    """A deployment's weights as a policy for one request, drawn by the deployment's own driver.

    Args:
        deployment: what draws; somebody holds a lease on it.
        prompts: how the run's texts become tokens.
    """

    def __init__(self, deployment: Deployment, prompts: Prompts) -> None:
        super().__init__(deployment.engine, deployment.weights, prompts, complete=self._complete)
        self._driver = deployment.driver
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._drawing: Future[list[Sequence[Completion]]] | None = None
        self.read = 0
        """Tokens of prompts."""

    def end(self) -> None:
        """Cancels what is drawn, and lets the program's next request fail, since nobody waits for it."""
        self._over = True
        if self._drawing is not None:
            self._drawing.cancel()

    def _complete(self, requests: Sequence[TokenRequest]) -> list[Sequence[Completion]]:
        self._drawing = asyncio.run_coroutine_threadsafe(self._draw(requests), self._loop)
        if self._over:
            self._drawing.cancel()
        try:
            return self._drawing.result()
        except CancelledError:
            raise Left from None

    async def _draw(self, requests: Sequence[TokenRequest]) -> list[Sequence[Completion]]:
        handles: list[RequestHandle] = []
        try:
            for request in requests:
                handles.append(self._driver.submit(request))
            self.read += sum(len(request.prompt) for request in requests)
            return [
                await self._samples(handle, request)
                for handle, request in zip(handles, requests, strict=True)
            ]
        finally:
            for handle in handles:
                self._driver.release(handle)

    async def _samples(self, handle: RequestHandle, request: TokenRequest) -> list[Completion]:
        parts: list[list[Event]] = [[] for _ in request.keys]
        async for events in handle.events():
            for event in events:
                parts[event.sample].append(event)
        return [completion_of(self.engine, sample, request) for sample in parts]


async def solved(service: Service, program: ServedProgram, request: Request, body: ChatRequest) -> Response:
    """Answers a chat by the champion's program.

    Raises:
        RequestError: the answer is a status; 422 where the program gave none.
    """
    task, limits = program.task(body), program.limits(body)
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
    leaving = asyncio.create_task(left(request.receive))
    outcomes: list[Outcome] | None = None
    policy: DrivenPolicy | None = None
    try:
        async with asyncio.timeout(service.limits.request_seconds):
            await program.turn()
            # What is deployed together is taken together.
            with service.lease() as deployment:
                policy = program.policy(deployment)
                champion = program.champion
                solving = asyncio.create_task(
                    asyncio.to_thread(program.solve, champion, task, keys, limits, policy)
                )
                solving.add_done_callback(program.over)
                await asyncio.wait((solving, leaving), return_when=asyncio.FIRST_COMPLETED)
                if not solving.done():
                    policy.end()
                    return Response(status_code=499)  # nobody is there to read it
                outcomes = solving.result()
    except TimeoutError as error:
        raise out_of_time(service.limits.request_seconds) from error
    finally:
        leaving.cancel()
        if policy is not None:
            policy.end()
            service.counts.prompt_tokens += policy.read
            service.counts.completion_tokens += policy.generated
        if outcomes is None:
            service.counts.cancelled += 1
        else:
            service.counts.finished += 1
    return _response(service, champion, task, body, outcomes, policy)


def _response(
    service: Service,
    champion: VariantAdded,
    task: PublicTask,
    body: ChatRequest,
    outcomes: Sequence[Outcome],
    policy: DrivenPolicy,
) -> Response:
    for outcome in outcomes:
        if outcome.answer is None:
            raise RequestError(
                422,
                f"the program of {champion.variant} gave no answer to this task of {task.skill}: {outcome.failure}"
                + (f", {outcome.detail}" if outcome.detail else ""),
                code=f"program_{outcome.failure}",
            )
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
