"""Served weights as what a program asks: its requests are drawn beside everybody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

from moevolve.models.engine_policy import EnginePolicy
from moevolve.models.prompts import Prompts
from moevolve.models.scheduler import completion_of
from moevolve.protocol.completion import Completion
from moevolve.protocol.sampling import Event, TokenRequest
from moevolve.serve.driver import RequestHandle
from moevolve.serve.service import Deployment
from moevolve.serve.waiting import Left


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

    def close(self) -> None:
        """Nothing is held beside the deployment."""

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
