"""From a checked request to its answer, whole or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from moevolve.errors import MoevolveError, UsageError
from moevolve.protocol.sampling import Event
from moevolve.serve.choices import Choice
from moevolve.serve.driver import RequestHandle
from moevolve.serve.failures import RequestError, error_body, wrong
from moevolve.serve.interactions import Interaction, of_prompt
from moevolve.serve.jobs import Job
from moevolve.serve.reading import client_of
from moevolve.serve.samples import joined
from moevolve.serve.schemas import GenerationRequest
from moevolve.serve.service import Deployment, Keep, Service
from moevolve.serve.waiting import Waiting, awaited, left, out_of_time

DONE = b"data: [DONE]\n\n"
"""The end of a stream."""
SLOWEST = 30.0
"""Seconds that a client may take to read what is left once the answer's time is over."""


Prepare = Callable[[Any, Service, Deployment, int], Job]


class Envelope(Protocol):
    """An answer's outer shape, whole and as a stream."""

    job: Job
    name: str
    """The answer's id, as the client gets it."""
    seconds: float

    def whole(self) -> dict[str, Any]:
        """The answer, once it has ended."""
        ...

    def opening(self) -> bytes:
        """What a stream begins with."""
        ...

    def progress(self, pieces: list[dict[str, Any]]) -> bytes:
        """What pieces of its choices add."""
        ...

    def ending(self, usage: bool) -> bytes:
        """What a stream that came to its end ends with; `usage` asks for the token counts."""
        ...

    def failed(self, error: dict[str, Any]) -> bytes:
        """What a stream that came to none ends with."""
        ...


async def answer(
    service: Service,
    request: Request,
    body: GenerationRequest,
    prompts: int,
    prepare: Prepare,
    shape: Callable[[Service, Deployment, Job], Envelope] | None = None,
) -> Response:
    """Answers a request whose body has been read.

    Args:
        service: the model.
        request: whose client is watched.
        body: its decoded body.
        prompts: how many there are in it.
        prepare: makes the job; runs beside the loop, as long prompts take their time.
        shape: the answer's outer shape; that of completions and chats when None.

    Raises:
        RequestError: the answer is a status.
        Left: nobody is there to read it.
    """
    service.check_model(body.model)
    samples = prompts * body.drawn
    if samples > service.limits.samples:
        raise wrong("n", f"{samples} samples in one request; {service.limits.samples} at most")
    service.admit(samples)
    with ExitStack() as stack:
        deployment = stack.enter_context(service.lease())
        service.counts.requests += 1
        seed = service.fresh_seed()

        async def prepared(waiting: Waiting) -> Job:
            with service.places(samples), service.lease(deployment):
                job = await asyncio.to_thread(prepare, body, service, deployment, seed)
                for score in job.scores:
                    await deployment.read(waiting, score)
                return job

        try:
            with service.abandoned():
                job = await awaited(request.receive, service.limits.request_seconds, prepared)
            service.admit(samples)
            handles = []
            for draw in job.draws:
                handle = deployment.driver.submit(draw)
                stack.callback(deployment.driver.release, handle)
                handles.append(handle)
        except UsageError as error:
            raise RequestError(400, str(error)) from error
        service.counts.prompt_tokens += job.prompt_tokens
        stack.callback(_count, service, job)
        envelope = (shape or _Envelope)(service, deployment, job)
        client = client_of(request, body.user)
        answered = partial(_keep, service.keep, deployment, envelope, client)
        if not body.stream:
            return await _whole(envelope, handles, request.receive, answered)
        return EventStream(envelope, handles, body.tells_usage, answered, stack.pop_all())


def _count(service: Service, job: Job) -> None:
    service.counts.completion_tokens += sum(choice.reader.drawn for choice in job.choices)
    if job.over:
        service.counts.finished += 1
    else:
        service.counts.cancelled += 1


def _keep(keep: Keep | None, deployment: Deployment, envelope: Envelope, client: str) -> None:
    """Keeps a request that was answered to its end, one interaction a prompt, with the choices that the client is told."""
    draws = envelope.job.draws
    if keep is None or not draws:
        return
    for index, (draw, choices) in enumerate(zip(draws, envelope.job.ranked, strict=True)):
        keep(
            Interaction(
                id=envelope.name if len(draws) == 1 else of_prompt(envelope.name, index),
                client=client,
                at=time.time_ns() // 1_000_000,
                prompt=deployment.engine.decode(draw.prompt, special=True),
                answers=["".join(choice.reader.parts) for choice in choices],
                weights=deployment.weights,
            )
        )


class _Envelope:
    """An answer's envelope."""

    def __init__(self, service: Service, deployment: Deployment, job: Job) -> None:
        self.job = job
        self.name = job.name
        self.seconds = service.limits.request_seconds
        self._base = {
            "id": self.name,
            "created": int(time.time()),
            "model": service.name,
            "system_fingerprint": deployment.weights[:16],
        }

    def whole(self) -> dict[str, Any]:
        job = self.job
        return {**self._base, "object": job.kind, "choices": job.told, "usage": job.usage}

    def opening(self) -> bytes:
        return self.progress([piece for choice in self.job.choices for piece in choice.open()])

    def progress(self, pieces: list[dict[str, Any]]) -> bytes:
        return b"".join(sse(self._piece([piece])) for piece in pieces)

    def ending(self, usage: bool) -> bytes:
        return (sse(self._piece([], self.job.usage)) if usage else b"") + DONE

    def failed(self, error: dict[str, Any]) -> bytes:
        return sse(error) + DONE

    def _piece(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
        return {**self._base, "object": self.job.piece, "choices": choices, "usage": usage}


Progress = tuple[Choice, Event]
"""A choice, and what is new of it."""


def _merged(choices: Sequence[Choice], events: Sequence[Event]) -> list[Progress]:
    """Events that came while nobody looked, one a sample: who is behind is told in larger pieces."""
    samples: dict[int, list[Event]] = {}
    for event in events:
        samples.setdefault(event.sample, []).append(event)
    return [(choices[sample], joined(several)) for sample, several in samples.items()]


async def _progress(envelope: Envelope, handles: Sequence[RequestHandle]) -> AsyncIterator[list[Progress]]:
    """What all handles bring, as it comes."""
    choices = iter(envelope.job.choices)
    groups = [[next(choices) for _ in range(handle.samples)] for handle in handles]
    if len(handles) == 1:
        async for events in handles[0].events():
            yield _merged(groups[0], events)
        return
    merged: asyncio.Queue[list[Progress] | MoevolveError | None] = asyncio.Queue()

    async def forward(index: int, handle: RequestHandle) -> None:
        try:
            async for events in handle.events():
                merged.put_nowait(_merged(groups[index], events))
            merged.put_nowait(None)
        except MoevolveError as error:
            merged.put_nowait(error)

    tasks = [asyncio.create_task(forward(index, handle)) for index, handle in enumerate(handles)]
    try:
        left = len(tasks)
        while left:
            news = await merged.get()
            if news is None:
                left -= 1
            elif isinstance(news, MoevolveError):
                raise news
            else:
                yield news
    finally:
        for task in tasks:
            task.cancel()


async def _whole(
    envelope: Envelope, handles: Sequence[RequestHandle], receive: Receive, answered: Callable[[], None]
) -> Response:
    async def draw() -> None:
        async for progress in _progress(envelope, handles):
            for choice, event in progress:
                choice.take(event)
            if envelope.job.over:
                return

    drawing = asyncio.create_task(draw())
    leaving = asyncio.create_task(left(receive))
    try:
        async with asyncio.timeout(envelope.seconds):
            await asyncio.wait((drawing, leaving), return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError as error:
        raise out_of_time(envelope.seconds) from error
    finally:
        leaving.cancel()
        if not drawing.done():
            drawing.cancel()
    if not drawing.done():
        return Response(status_code=499)  # nobody is there to read it
    drawing.result()
    body = msgspec.json.encode(envelope.whole())
    answered()
    return Response(body, media_type="application/json")


class EventStream(Response):
    """A stream of server-sent events, left as soon as its client is gone.

    Args:
        envelope: the answer's envelope.
        handles: what is drawn.
        usage: end with the token counts.
        answered: called once the answer has its end, before the client is told.
        held: what is let go at the end, however it comes.
    """

    def __init__(
        self,
        envelope: Envelope,
        handles: Sequence[RequestHandle],
        usage: bool,
        answered: Callable[[], None],
        held: ExitStack,
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._envelope = envelope
        self._handles = handles
        self._usage = usage
        self._answered = answered
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(left(receive))
        try:
            # Who reads so slowly that the events are long over is cut off.
            async with asyncio.timeout(self._envelope.seconds + SLOWEST):
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
        envelope = self._envelope
        deadline = asyncio.get_running_loop().time() + envelope.seconds
        end = b""
        try:
            if opening := envelope.opening():
                yield opening, False
            steps = aiter(_progress(envelope, self._handles))
            data = b"" if not envelope.job.over else envelope.progress(_undrawn(envelope.job))
            while not envelope.job.over:
                async with asyncio.timeout_at(deadline):
                    progress = await anext(steps)
                data = envelope.progress(
                    [piece for choice, event in progress for piece in choice.take(event)]
                )
                if data and not envelope.job.over:
                    yield data, False
            envelope.job.check()
            self._answered()
            end = data + envelope.ending(self._usage)
        except TimeoutError:
            end = envelope.failed(out_of_time(envelope.seconds).body())
        except RequestError as error:
            end = envelope.failed(error.body())
        except MoevolveError as error:
            end = envelope.failed(error_body(500, str(error)))
        yield end, True


def _undrawn(job: Job) -> list[dict[str, Any]]:
    """The last pieces of completions that had nothing to draw."""
    return [
        {"index": choice["index"], "text": "", "logprobs": None, "finish_reason": choice["finish_reason"]}
        for choice in job.told
    ]


def sse(value: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
