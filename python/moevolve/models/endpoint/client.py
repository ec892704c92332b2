"""Calls to the server: many at once, each tried again where that may help, each failure typed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from moevolve.config import Config
from moevolve.errors import EndpointError, UsageError
from moevolve.models.endpoint.exchange import Exchange
from moevolve.models.endpoint.pacing import PATIENCE, Pace
from moevolve.models.endpoint.replies import EXCERPT, FATAL, LASTING, Call, read
from moevolve.models.endpoint.secret import Secret
from moevolve.models.endpoint.speech import PATHS, Speech
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest

if TYPE_CHECKING:
    import httpx2

LARGEST = 16 << 20
"""Bytes of an answer; a larger one is none."""

Done = Callable[[int, Exchange], None]
"""Takes an exchange that has ended: its place among the requests, and how it ended."""

_ADVICE = {
    "auth": "the server does not accept the key: look at `key_env` and its variable",
    "quota": "the account's quota or credit is used up",
    "missing": "the server knows no such address or model: look at `endpoint` (up to its /v1) and `model`",
}


class Client:
    """Asks one server.

    Args:
        config: the run's configuration; its policy must be an endpoint.
        secret: the key.
        speech: how its model is spoken to.
        pace: the rhythm of calls; the configuration's own when None.

    Raises:
        UsageError: the HTTP library is not installed.
    """

    def __init__(self, config: Config, secret: Secret, speech: Speech, pace: Pace | None = None) -> None:
        try:
            import httpx2
        except ImportError:
            raise UsageError(
                "an endpoint as the policy needs an HTTP library: pip install 'moevolve[endpoint]'"
            ) from None
        policy, section = config.policy, config.endpoint
        assert policy.endpoint is not None, "this run has no endpoint"
        self._speech, self._section, self._secret = speech, section, secret
        self._address = policy.endpoint.rstrip("/") + PATHS[section.api]
        self._pace = pace or Pace(section.per_minute)
        self._runner = asyncio.Runner()
        self._http = httpx2.AsyncClient(
            headers=secret.headers(),
            timeout=section.timeout,
            limits=httpx2.Limits(max_connections=section.concurrency),
            # No proxy stands between us and this machine.
            trust_env=not _loopback(policy.endpoint),
        )

    def ask(self, requests: Sequence[GenerateRequest], done: Done) -> None:
        """Makes all exchanges, `concurrency` at a time in the order of the requests; `done` gets each as it ends.

        Raises:
            EndpointError: a failure that ends the run; what has ended before went to `done`.
        """
        try:
            self._runner.run(self._all(requests, done))
        except BaseExceptionGroup as errors:
            # One reason is enough: the others ended for it, or for the same.
            found: BaseException = errors
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            raise found from None

    def close(self) -> None:
        """Lets go of the connections."""
        self._runner.run(self._http.aclose())
        self._runner.close()

    async def _all(self, requests: Sequence[GenerateRequest], done: Done) -> None:
        free = asyncio.Semaphore(self._section.concurrency)

        async def one(place: int, request: GenerateRequest) -> None:
            async with free:
                exchange = await self._exchange(request)
            done(place, exchange)

        async with asyncio.TaskGroup() as group:
            for place, request in enumerate(requests):
                group.create_task(one(place, request))

    async def _exchange(self, request: GenerateRequest) -> Exchange:
        """Calls until there are `n` completions, or until trying again is no use."""
        completions: list[Completion] = []
        calls = prompt = cached = completion = unmetered = failed = 0
        faults: Counter[str] = Counter()
        failure: str | None = None
        detail = ""
        while len(completions) < request.n:
            await self._pace.turn()
            # A server that ignores `n` is asked again for what is missing.
            call = await self._call(request, request.n - len(completions), len(completions))
            calls += 1
            if call.usage is not None:
                prompt += call.usage.prompt
                cached += call.usage.cached
                completion += call.usage.completion
            elif call.answered:
                unmetered += 1
            if call.hold:
                self._pace.hold(call.hold)
            if call.failure is None:
                completions += call.completions[: request.n - len(completions)]
                continue
            faults[call.failure] += 1
            failed += 1
            if call.failure in FATAL:
                raise EndpointError(f"{_ADVICE[call.failure]} ({self._address}, {call.detail})")
            if (
                call.failure in LASTING
                or failed > self._section.retries
                or (call.failure == "rate_limited" and call.hold > PATIENCE)
            ):
                failure, detail, completions = call.failure, call.detail, []
                break
            await self._pace.back_off(request.key, failed)
        return Exchange(
            completions=completions,
            failure=failure,
            detail=detail,
            calls=calls,
            faults=dict(sorted(faults.items())),
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            unmetered=unmetered,
        )

    async def _call(self, request: GenerateRequest, n: int, part: int) -> Call:
        import httpx2

        said = msgspec.json.encode(self._speech.body(request, n, part))
        begun = False
        try:
            async with (
                asyncio.timeout(self._section.timeout),
                self._http.stream(
                    "POST", self._address, content=said, headers={"Content-Type": "application/json"}
                ) as answer,
            ):
                begun = True
                call = await self._read(answer)
        except (TimeoutError, httpx2.TimeoutException):
            return Call(failure="timeout", detail=f"no answer within {self._section.timeout:g} s")
        except httpx2.ConnectError as error:
            return Call(failure="refused", detail=self._excerpt(error))
        except httpx2.HTTPError as error:
            return Call(failure="truncated" if begun else "dropped", detail=self._excerpt(error))
        completions = self._secret.hidden(msgspec.to_builtins(call.completions))
        return msgspec.structs.replace(
            call,
            completions=msgspec.convert(completions, list[Completion]),
            detail=self._secret.hidden(call.detail),
        )

    async def _read(self, answer: httpx2.Response) -> Call:
        parts: list[bytes] = []
        size = 0
        async for part in answer.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                return Call(failure="malformed", detail=f"an answer of more than {LARGEST >> 20} MiB")
        headers = {name.lower(): value for name, value in answer.headers.items()}
        whole = self._secret.hide(b"".join(parts))
        return read(answer.status_code, headers, whole, self._section.api, time.time)

    def _excerpt(self, error: Exception) -> str:
        return str(self._secret.hidden(f"{type(error).__name__}: {error}"))[:EXCERPT]


def _loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
