"""Calls to the server: many at once, each tried again where that may help, each failure typed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec

from moevolve.config import Config
from moevolve.errors import EndpointError, UsageError
from moevolve.models.endpoint.exchange import Exchange
from moevolve.models.endpoint.fields import culprit, fitted
from moevolve.models.endpoint.pacing import PATIENCE, Pace
from moevolve.models.endpoint.refusals import EXCERPT, FATAL, LASTING
from moevolve.models.endpoint.replies import Call, read
from moevolve.models.endpoint.secret import Secret
from moevolve.models.endpoint.speech import PATHS, Speech
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest

if TYPE_CHECKING:
    import httpx2

NOTHING = Exchange(completions=[], calls=0)
LARGEST = 16 << 20
"""Bytes of an answer; a larger one is none."""

Done = Callable[[int, Exchange], None]
"""Takes an exchange that has ended: its place among the requests, and how it ended."""


class Witness(Protocol):
    """Hears of calls before anybody knows how they end; requests are named by their places."""

    def begin(self, place: int, so_far: Exchange) -> None:
        """A call is about to be made for a request that has come to so much."""
        ...

    def sent(self, place: int) -> None:
        """The call leaves in this moment: the server may answer it, whether or not somebody is there to hear."""
        ...


class Unwitnessed:
    """Nobody who would hear of calls."""

    def begin(self, place: int, so_far: Exchange) -> None:
        return

    def sent(self, place: int) -> None:
        return


LONG = 5.0
"""Seconds of a wait that are told."""

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
        tell: takes what a person should know meanwhile: long waits, fields that the server refuses.

    Raises:
        UsageError: the HTTP library is not installed.
    """

    def __init__(
        self,
        config: Config,
        secret: Secret,
        speech: Speech,
        pace: Pace | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
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
        self._tell = tell
        self.refused: dict[str, str] = {}
        """Fields that the server does not take, with its words, as far as an answer without them has shown."""
        self._met = False
        self._away = (0.0, "")
        """Until when the server wants to be left alone, and its words."""
        self._out: set[int] = set()
        """Requests whose call is out, or whose answer nobody has been given yet."""
        self._over: str | None = None
        """Why no more calls are made."""
        self._landed = asyncio.Event()
        """Set whenever one of them is no longer out."""
        self._asking: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._runner = asyncio.Runner()
        self._http = httpx2.AsyncClient(
            headers=secret.headers(),
            timeout=section.timeout,
            limits=httpx2.Limits(max_connections=section.concurrency),
            # No proxy stands between us and this machine.
            trust_env=not loopback(policy.endpoint),
        )

    def ask(
        self,
        requests: Sequence[GenerateRequest],
        done: Done,
        witness: Witness = Unwitnessed(),  # noqa: B008 - it holds nothing
        begun: Mapping[int, Exchange] = MappingProxyType({}),
    ) -> None:
        """Makes all exchanges, `concurrency` at a time in the order of the requests; `done` gets each as it ends.

        Args:
            requests: what is asked.
            done: gets each exchange as it ends.
            witness: hears of each call before it is made, and once it is out.
            begun: exchanges, by place, that an earlier process did not bring to their end.

        Raises:
            EndpointError: a failure that ends the run; what has ended before went to `done`.
        """
        self._pace.answered()  # Between two rounds nobody asks.
        self._over = None
        try:
            self._runner.run(self._stoppable(self._all(requests, done, witness, begun)))
        except BaseExceptionGroup as errors:
            # One reason is enough: the others ended for it, or for the same.
            found: BaseException = errors
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            raise found from None

    def stop(self) -> None:
        """Ends what another thread asks at this moment, whose `ask` then raises `CancelledError`."""
        if (asking := self._asking) is not None:
            with suppress(RuntimeError):  # It has ended in the meantime, and its loop with it.
                asking[0].call_soon_threadsafe(asking[1].cancel)

    def close(self) -> None:
        """Lets go of the connections."""
        self._runner.run(self._http.aclose())
        self._runner.close()

    async def _stoppable(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._asking = asyncio.get_running_loop(), task
        try:
            await task
        finally:
            self._asking = None

    async def _all(
        self, requests: Sequence[GenerateRequest], done: Done, witness: Witness, begun: Mapping[int, Exchange]
    ) -> None:
        free = asyncio.Semaphore(self._section.concurrency)

        async def one(place: int, request: GenerateRequest) -> None:
            async with free:
                try:
                    done(place, await self._exchange(request, place, begun.get(place, NOTHING), witness))
                finally:
                    self._land(place)

        alone = 0 if self._met else 1
        for place, request in enumerate(requests[:alone]):
            # What the server does not take is found out once, and not by every call that is under way.
            await one(place, request)
            self._met = True
        async with asyncio.TaskGroup() as group:
            for place, request in enumerate(requests[alone:], alone):
                group.create_task(one(place, request))

    async def _exchange(
        self, request: GenerateRequest, place: int, so_far: Exchange, witness: Witness
    ) -> Exchange:
        """Calls until there are `n` completions, or until trying again is no use."""
        refused = dict(self.refused)
        failed = 0
        while len(so_far.completions) < request.n:
            self._land(place)
            self._pace.hold(self._left_alone())
            await self._pace.turn()
            if self._over is not None:
                raise await self._ending(place, so_far, witness, self._over)
            if self._left_alone() > PATIENCE:
                raise await self._ending(place, so_far, witness, self._too_long())
            refused |= self.refused
            replace = msgspec.structs.replace
            witness.begin(place, so_far)
            self._out.add(place)
            # A server that ignores `n` is asked again for what is missing.
            missing = request.n - len(so_far.completions)
            body = fitted(self._speech.body(request, missing, len(so_far.completions)), refused)
            began = self._pace.now()
            call = await self._call(body, lambda: witness.sent(place))
            so_far = _counted(so_far, call)
            self._heed(call)
            if call.failure is not None and call.hold > PATIENCE:
                raise await self._ending(place, so_far, witness, self._too_long())
            self._hear(call, began)
            if call.failure is None:
                found = {name: words for name, words in refused.items() if name not in self.refused}
                for name, words in found.items():
                    self._tell(f"the server does not take {name}; it is asked without ({words})")
                self.refused |= refused
                stops = request.sampling.stop if "stop" in refused else ()
                completions = so_far.completions + [_cut(one, stops) for one in call.completions[:missing]]
                so_far = replace(so_far, completions=completions, refused=so_far.refused | found)
                continue
            if (field := culprit(call.named, body, refused, call.rivals)) is not None:
                refused[field] = call.detail
                continue
            failed += 1
            if call.failure in FATAL:
                advice = f"{_ADVICE[call.failure]} ({self._address}, {call.detail})"
                raise await self._ending(place, so_far, witness, advice)
            if call.failure in LASTING or failed > self._section.retries:
                return replace(so_far, completions=[], failure=call.failure, detail=call.detail)
            self._land(place)
            await self._pace.back_off(request.key, failed)
        return so_far

    def _heed(self, call: Call) -> None:
        """Lets no call pass while the server wants none; a wish that is too long ends the run before the next one."""
        if call.hold > PATIENCE:
            self._away = (self._pace.now() + call.hold, call.detail or call.failure or "no calls are left")
        elif call.hold:
            if call.hold > LONG:
                self._tell(
                    f"the server asks to wait {_span(call.hold)}: {call.detail or 'no calls are left'}"
                )
            self._pace.hold(call.hold)

    def _left_alone(self) -> float:
        """Seconds for which the server still wants to be left alone beyond what is waited for."""
        return self._away[0] - self._pace.now()

    def _too_long(self) -> str:
        return (
            f"the server asks to be left alone for {_span(self._left_alone())}, longer than the {_span(PATIENCE)} that are "
            f"waited for ({self._away[1]}): resume the run later"
        )

    async def _ending(self, place: int, so_far: Exchange, witness: Witness, why: str) -> EndpointError:
        """The error that ends the run, once what the request has come to is on record and calls that are out have ended.

        Their answers are paid for.
        """
        self._over = why
        witness.begin(place, so_far)
        self._land(place)
        while self._out:
            self._landed.clear()
            await self._landed.wait()
        return EndpointError(why)

    def _land(self, place: int) -> None:
        self._out.discard(place)
        self._landed.set()

    def _hear(self, call: Call, began: float) -> None:
        """Ends the run where the server has been silent for too long: each request alone would be tried to its end.

        A server that refuses a request, or says when to come again, is not silent.
        """
        if call.failure is None or call.failure in LASTING or call.hold:
            self._pace.answered()
            return
        silent = self._pace.silence(began)
        if silent >= self._section.patience:
            raise EndpointError(
                f"the server has answered nothing for {_span(silent)} (the last call: {call.failure}, {call.detail}): "
                "resume the run once it answers; `[endpoint] outage` says how long to go on asking, `timeout` how long "
                "one call may take"
            )

    async def _call(self, body: dict[str, Any], sent: Callable[[], None]) -> Call:
        import httpx2

        async def trace(event: str, _: Mapping[str, Any]) -> None:
            # The last bytes leave next: whoever kills the process here finds the call counted.
            if event.endswith(".send_request_body.started"):
                sent()

        said = msgspec.json.encode(body)
        begun = False
        try:
            async with (
                asyncio.timeout(self._section.timeout),
                self._http.stream(
                    "POST",
                    self._address,
                    content=said,
                    headers={"Content-Type": "application/json"},
                    extensions={"trace": trace},
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


def _cut(completion: Completion, stops: Sequence[str]) -> Completion:
    """The completion up to the first of the texts that its server could not be told to stop at."""
    ends = [at for stop in stops if (at := completion.text.find(stop)) >= 0]
    if not ends:
        return completion
    return msgspec.structs.replace(completion, text=completion.text[: min(ends)], finish="stop")


def _counted(so_far: Exchange, call: Call) -> Exchange:
    """What an exchange comes to with one more call."""
    usage = call.usage
    faults = Counter(so_far.faults) + Counter([call.failure] if call.failure else [])
    return msgspec.structs.replace(
        so_far,
        calls=so_far.calls + 1,
        faults=dict(sorted(faults.items())),
        prompt_tokens=so_far.prompt_tokens + (usage.prompt if usage else 0),
        cached_tokens=so_far.cached_tokens + (usage.cached if usage else 0),
        completion_tokens=so_far.completion_tokens + (usage.completion if usage else 0),
        unmetered=so_far.unmetered + (call.answered and usage is None),
    )


def _span(seconds: float) -> str:
    """A time to wait, in words."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} seconds"


def loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
