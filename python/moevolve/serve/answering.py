"""From a checked request to its answer, whole or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from moevolve.errors import MoevolveError, UsageError
from moevolve.models.chat import MAX_TOKENS, conversation
from moevolve.protocol.sampling import Event, TokenRequest
from moevolve.serve.bodies import Asked, ChatAsked, CompletionAsked
from moevolve.serve.choices import ChatChoice, Choice, TextChoice
from moevolve.serve.driver import Ticket
from moevolve.serve.failures import RequestError, error_body, wrong
from moevolve.serve.interactions import Interaction
from moevolve.serve.reading import client_of
from moevolve.serve.samples import SampleReader, joined
from moevolve.serve.service import Deployment, Keep, Service

COMPLETION_TOKENS = 16
"""New tokens of a completion where the client names no number, as OpenAI has it."""

SLOWEST = 30.0
"""Seconds that a client may take to read what is left once the answer's time is over."""


class Job(msgspec.Struct, frozen=True):
    """A request that is ready to be drawn; choices stand prompt by prompt, sample by sample."""

    draws: list[TokenRequest]
    choices: list[Choice]
    kind: str
    """`object` of a whole answer."""
    piece: str
    """`object` of a stream's piece."""
    name: str
    """The answer's id."""

    @property
    def prompt_tokens(self) -> int:
        return sum(len(draw.prompt) for draw in self.draws)

    @property
    def over(self) -> bool:
        """Whether every choice has ended."""
        return all(choice.reader.finish is not None for choice in self.choices)

    @property
    def usage(self) -> dict[str, int]:
        drawn = sum(choice.reader.drawn for choice in self.choices)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": drawn,
            "total_tokens": self.prompt_tokens + drawn,
        }


def completion_job(asked: CompletionAsked, service: Service, deployment: Deployment, seed: int) -> Job:
    """Reads the prompts of a completion."""
    engine = deployment.engine
    draws: list[TokenRequest] = []
    choices: list[Choice] = []
    for place, prompt in enumerate(asked.prompts):
        ids = engine.encode(prompt)
        if not ids or any(not 0 <= token < engine.vocab_size for token in ids):
            raise wrong("prompt", f"at least one token, each below {engine.vocab_size}")
        most = _room(deployment, len(ids), asked.limit, COMPLETION_TOKENS)
        sampling = asked.sampling(
            most,
            engine.vocab_size,
            top_logprobs=asked.logprobs or 0,
            speculate=service.speculate,
        )
        draws.append(TokenRequest(ids, sampling, asked.keys(place, seed)))
        echo = (prompt if isinstance(prompt, str) else engine.text(prompt)) if asked.echo else ""
        choices += [
            TextChoice(
                place * asked.samples + sample,
                engine,
                SampleReader(engine),
                asked.logprobs,
                echo,
            )
            for sample in range(asked.samples)
        ]
    name = f"cmpl-{secrets.token_hex(12)}"
    return Job(draws=draws, choices=choices, kind="text_completion", piece="text_completion", name=name)


def chat_job(asked: ChatAsked, service: Service, deployment: Deployment, seed: int) -> Job:
    """Renders a conversation."""
    engine = deployment.engine
    talk = conversation(asked.told, asked.offered)
    prompt = engine.chats.prompt(talk, **asked.variables)
    ids = engine.encode(prompt, whole=False)
    if not ids:
        raise wrong("messages", "the chat template makes no text of this conversation")
    most = _room(deployment, len(ids), asked.limit, MAX_TOKENS)
    alternatives = (asked.top_logprobs or 0) if asked.logprobs else None
    sampling = asked.sampling(
        most, engine.vocab_size, top_logprobs=alternatives or 0, speculate=service.speculate
    )
    number = secrets.token_hex(12)
    form = engine.chats.format
    choices: list[Choice] = [
        ChatChoice(
            sample,
            engine,
            SampleReader(engine, form.marks),
            form.parser(prompt, talk.tools),
            alternatives,
            number,
        )
        for sample in range(asked.samples)
    ]
    return Job(
        draws=[TokenRequest(ids, sampling, asked.keys(0, seed), form.marks)],
        choices=choices,
        kind="chat.completion",
        piece="chat.completion.chunk",
        name=f"chatcmpl-{number}",
    )


def _room(deployment: Deployment, used: int, wanted: int | None, usual: int) -> int:
    """New tokens that a sample may have: what is asked for, as far as the context goes."""
    positions = deployment.engine.positions
    most = usual if wanted is None else wanted
    if positions is None:
        return most
    if used >= positions:
        raise RequestError(
            400,
            f"the prompt has {used} tokens; this model's context has {positions}, the answer included",
            code="context_length_exceeded",
        )
    return min(most, positions - used)


Prepare = Callable[[Any, Service, Deployment, int], Job]


async def answer(
    service: Service, request: Request, asked: Asked, prompts: int, prepare: Prepare
) -> Response:
    """Answers a request whose body has been read.

    Args:
        service: the model.
        request: whose client is watched.
        asked: the body.
        prompts: how many there are in it.
        prepare: makes the job; runs beside the loop, as long prompts take their time.

    Raises:
        RequestError: the answer is a status.
    """
    if asked.model is not None and asked.model != service.name:
        raise RequestError(
            404,
            f"there is no model {asked.model!r} here: {service.name!r} is served",
            param="model",
            code="model_not_found",
        )
    samples = prompts * asked.samples
    if samples > service.limits.samples:
        raise wrong("n", f"{samples} samples in one request; {service.limits.samples} at most")
    service.admit(samples)
    with ExitStack() as stack:
        deployment = stack.enter_context(service.lease())
        service.counts.requests += 1
        seed = service.fresh_seed()
        try:
            job = await asyncio.to_thread(prepare, asked, service, deployment, seed)
            service.admit(samples)
            tickets = []
            for draw in job.draws:
                ticket = deployment.driver.submit(draw)
                stack.callback(deployment.driver.release, ticket)
                tickets.append(ticket)
        except UsageError as error:
            raise RequestError(400, str(error)) from error
        service.counts.prompt_tokens += job.prompt_tokens
        stack.callback(_count, service, job)
        if service.keep is not None:
            stack.callback(_keep, service.keep, deployment, job, client_of(request, asked.user))
        told = _Told(service, deployment, job)
        if not asked.stream:
            return await _whole(told, tickets, request.receive)
        return EventStream(told, tickets, asked.tells_usage, stack.pop_all())


def _count(service: Service, job: Job) -> None:
    service.counts.completion_tokens += sum(choice.reader.drawn for choice in job.choices)
    if job.over:
        service.counts.finished += 1
    else:
        service.counts.cancelled += 1


def _keep(keep: Keep, deployment: Deployment, job: Job, client: str) -> None:
    """Keeps a request that was answered to its end, one interaction a prompt."""
    if not job.over:
        return
    choices = iter(job.choices)
    for place, draw in enumerate(job.draws):
        answers = ["".join(next(choices).reader.parts) for _ in draw.keys]
        keep(
            Interaction(
                id=job.name if len(job.draws) == 1 else f"{job.name}.{place}",
                client=client,
                at=time.time_ns() // 1_000_000,
                prompt=deployment.engine.decode(draw.prompt, special=True),
                answers=answers,
                weights=deployment.weights,
            )
        )


class _Told:
    """An answer's envelope."""

    def __init__(self, service: Service, deployment: Deployment, job: Job) -> None:
        self.job = job
        self.seconds = service.limits.request_seconds
        self._base = {
            "id": job.name,
            "created": int(time.time()),
            "model": service.name,
            "system_fingerprint": deployment.weights[:16],
        }

    def whole(self) -> dict[str, Any]:
        job = self.job
        choices = [choice.whole() for choice in job.choices]
        return {**self._base, "object": job.kind, "choices": choices, "usage": job.usage}

    def piece(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
        return {**self._base, "object": self.job.piece, "choices": choices, "usage": usage}


Progress = tuple[Choice, Event]
"""A choice, and what is new of it."""


def _merged(choices: Sequence[Choice], events: Sequence[Event]) -> list[Progress]:
    """Events that came while nobody looked, one a sample: who is behind is told in larger pieces."""
    samples: dict[int, list[Event]] = {}
    for event in events:
        samples.setdefault(event.sample, []).append(event)
    return [(choices[sample], joined(several)) for sample, several in samples.items()]


async def _progress(told: _Told, tickets: Sequence[Ticket]) -> AsyncIterator[list[Progress]]:
    """What all tickets bring, as it comes."""
    choices = iter(told.job.choices)
    groups = [[next(choices) for _ in range(ticket.samples)] for ticket in tickets]
    if len(tickets) == 1:
        async for events in tickets[0].rounds():
            yield _merged(groups[0], events)
        return
    merged: asyncio.Queue[list[Progress] | MoevolveError | None] = asyncio.Queue()

    async def forward(place: int, ticket: Ticket) -> None:
        try:
            async for events in ticket.rounds():
                merged.put_nowait(_merged(groups[place], events))
            merged.put_nowait(None)
        except MoevolveError as error:
            merged.put_nowait(error)

    tasks = [asyncio.create_task(forward(place, ticket)) for place, ticket in enumerate(tickets)]
    try:
        left = len(tasks)
        while left:
            found = await merged.get()
            if found is None:
                left -= 1
            elif isinstance(found, MoevolveError):
                raise found
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()


def _late(seconds: float) -> RequestError:
    return RequestError(504, f"no end of the answer within {seconds:g} seconds", code="timeout")


async def _whole(told: _Told, tickets: Sequence[Ticket], receive: Receive) -> Response:
    async def draw() -> None:
        async for progress in _progress(told, tickets):
            for choice, event in progress:
                choice.take(event)
            if told.job.over:
                return

    drawing = asyncio.create_task(draw())
    leaving = asyncio.create_task(_left(receive))
    try:
        async with asyncio.timeout(told.seconds):
            await asyncio.wait((drawing, leaving), return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError as error:
        raise _late(told.seconds) from error
    finally:
        leaving.cancel()
        if not drawing.done():
            drawing.cancel()
    if not drawing.done():
        return Response(status_code=499)  # nobody is there to read it
    drawing.result()
    return Response(msgspec.json.encode(told.whole()), media_type="application/json")


async def _left(receive: Receive) -> None:
    """Returns once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A stream of server-sent events, left as soon as its client is gone.

    Args:
        told: the answer's envelope.
        tickets: what is drawn.
        usage: end with the token counts.
        held: what is let go at the end, however it comes.
    """

    def __init__(self, told: _Told, tickets: Sequence[Ticket], usage: bool, held: ExitStack) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._told = told
        self._tickets = tickets
        self._usage = usage
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            # Who reads so slowly that the events are long over is cut off.
            async with asyncio.timeout(self._told.seconds + SLOWEST):
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except TimeoutError:
            pass
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            self._held.close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for data, last in self._events():
            await send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _events(self) -> AsyncIterator[tuple[bytes, bool]]:
        """What is sent, and whether it is the last of it: each is a write, so the end comes in one."""
        told = self._told
        deadline = asyncio.get_running_loop().time() + told.seconds
        end = b""
        try:
            opening = [piece for choice in told.job.choices for piece in choice.open()]
            if opening:
                yield b"".join(_sse(told.piece([piece])) for piece in opening), False
            rounds = aiter(_progress(told, self._tickets))
            while True:
                async with asyncio.timeout_at(deadline):
                    progress = await anext(rounds)
                pieces = [piece for choice, event in progress for piece in choice.take(event)]
                data = b"".join(_sse(told.piece([piece])) for piece in pieces)
                if told.job.over:
                    end = data + (_sse(told.piece([], told.job.usage)) if self._usage else b"")
                    break
                if data:
                    yield data, False
        except TimeoutError:
            end = _sse(_late(told.seconds).body())
        except RequestError as error:
            end = _sse(error.body())
        except MoevolveError as error:
            end = _sse(error_body(500, str(error)))
        yield end + b"data: [DONE]\n\n", True


def _sse(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
