"""A server as the loop's policy: rounds of requests answered at once, everything counted, everything on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import msgspec

from moevolve.config import Config
from moevolve.errors import DivergedError, EndpointError
from moevolve.models.endpoint.client import Done, Unwitnessed, Witness
from moevolve.models.endpoint.exchange import Exchange
from moevolve.models.endpoint.meter import Meter
from moevolve.models.endpoint.refusals import PROMPT
from moevolve.models.endpoint.speech import Speech
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import POLICY, GenerateRequest, Reply, Unanswered


class Asker(Protocol):
    """Who exchanges are made with; see `Client`."""

    refused: dict[str, str]

    def ask(
        self,
        requests: Sequence[GenerateRequest],
        done: Done,
        witness: Witness = ...,
        begun: Mapping[int, Exchange] = ...,
    ) -> None: ...


class Exchanges(Protocol):
    """Where exchanges are kept; see `Tape`."""

    def find(self, digest: str) -> Exchange | None: ...
    def keep(self, exchanges: Sequence[tuple[str, Exchange]]) -> None: ...
    def begin(self, digest: str, so_far: Exchange) -> None: ...
    def sent(self, digest: str) -> None: ...
    def settle(self) -> None: ...
    def begun(self, digest: str) -> Exchange | None: ...
    def refused(self) -> dict[str, str]: ...


class Nobody:
    """Stands in for the server in a replay.

    Raises:
        DivergedError: whenever it is asked.
    """

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}

    def ask(
        self,
        requests: Sequence[GenerateRequest],
        done: Done,
        witness: Witness = Unwitnessed(),  # noqa: B008 - it holds nothing
        begun: Mapping[int, Exchange] = MappingProxyType({}),
    ) -> None:
        raise DivergedError(
            f"the replay asks the server {len(requests)} things that the run never asked, "
            f"first {str(requests[0].prompt)[:80]!r}; the build or machine has changed"
        )


class EndpointPolicy:
    """One model of one server.

    A request's answer is asked for once in a run: whoever asks the same with the same key gets the same, and pays
    nothing. Exchanges are counted in the order of the requests, whatever order they ended in and whoever ended them,
    so the journal depends on neither the concurrency nor on what was on record before.

    Args:
        config: the run's configuration.
        speech: how the model is spoken to.
        asker: the client, or `Nobody` in a replay.
        tape: the exchanges on record.
        meter: the account.
        used: digests of the requests that the run has paid for already.
        answered: the server is known to answer; otherwise a first round without an answer ends the run.
    """

    def __init__(
        self,
        config: Config,
        speech: Speech,
        asker: Asker,
        tape: Exchanges,
        meter: Meter,
        used: set[str] | None = None,
        *,
        answered: bool = False,
    ) -> None:
        assert config.policy.model is not None, "this run has no endpoint"
        self.weights = identity(config.policy.model)
        self.meter = meter
        self._section = config.endpoint
        self._speech = speech
        self._asker = asker
        self._tape = tape
        self._used = used if used is not None else set()
        asker.refused |= tape.refused()
        self._streak = 0
        self._answered = answered or bool(self._used)
        """Whether the server has answered anything in this run."""

    @property
    def generated(self) -> int:
        """Tokens generated so far, as the server reports them."""
        return self.meter.generated

    def answer(self, requests: Sequence[GenerateRequest]) -> list[Reply]:
        """Answers a round; see `Policy`.

        Raises:
            EndpointError: the server cannot go on, or `give_up` requests have failed in a row.
            SpendingLimitError: the limit leaves no room for what is still to be asked.
            DivergedError: a replay asks what the run did not.
        """
        refused = {
            index: Unanswered(failure="rejected", detail=reason)
            for index, request in enumerate(requests)
            if (reason := self._speech.refusal(request)) is not None
        }
        asked = [request for index, request in enumerate(requests) if index not in refused]
        replies = iter(self._replies(asked))
        return [refused[index] if index in refused else next(replies) for index in range(len(requests))]

    def _replies(self, requests: Sequence[GenerateRequest]) -> list[Reply]:
        """The replies to requests that the server can be asked."""
        names = [self._speech.digest(request) for request in requests]
        fresh: dict[str, GenerateRequest] = {}
        for name, request in zip(names, requests, strict=True):
            if name in self._used or name in fresh:
                self.meter.reuse()
            else:
                fresh[name] = request
        found: dict[str, Exchange] = {}
        for part in self.meter.affordable(list(fresh.items())):
            found |= self._exchanges(part)
            for name, request in part:
                self.meter.use(name, request, found[name])
                self._used.add(name)
        return [
            self._reply(request, found.get(name) or self._recorded(name))
            for name, request in zip(names, requests, strict=True)
        ]

    def _exchanges(self, wanted: Sequence[tuple[str, GenerateRequest]]) -> dict[str, Exchange]:
        """Every exchange of `wanted`: from the record, or from the server and then on record."""
        found = {name: exchange for name, _ in wanted if (exchange := self._tape.find(name)) is not None}
        missing = [(name, request) for name, request in wanted if name not in found]
        if not missing:
            return found
        failed: list[tuple[str, Exchange]] = []

        def done(place: int, exchange: Exchange) -> None:
            name = missing[place][0]
            found[name] = exchange
            # An answer is paid for, so it is on record before the next one comes. A failure is final once the run goes
            # on with it; until then a resumed run may ask again.
            if exchange.failure is None:
                self._tape.keep([(name, exchange)])
            else:
                failed.append((name, exchange))
            self._watch(exchange)

        self._asker.ask(
            [request for _, request in missing],
            done,
            _Witness(self._tape, [name for name, _ in missing]),
            {
                place: exchange
                for place, (name, _) in enumerate(missing)
                if (exchange := self._tape.begun(name)) is not None
            },
        )
        self._end_unanswered([found[name] for name, _ in missing])
        self._tape.keep(failed)
        self._tape.settle()
        return found

    def _watch(self, exchange: Exchange) -> None:
        """Ends the run when the server seems to be gone, as soon as that shows: each further request would be tried
        to its end."""
        self._streak = 0 if exchange.failure is None or exchange.failure in PROMPT else self._streak + 1
        if self._streak >= self._section.give_up:
            raise EndpointError(
                f"{self._streak} requests in a row failed for good, the last one with {exchange.failure} "
                f"({exchange.detail}): the server seems to be gone"
            )

    def _end_unanswered(self, exchanges: Sequence[Exchange]) -> None:
        """Ends a run that has had no answer yet when a whole round gets none: what is wrong is not in its requests."""
        self._answered = self._answered or any(exchange.failure is None for exchange in exchanges)
        if self._answered or not exchanges:
            return
        last = f"the last one with {exchanges[-1].failure} ({exchanges[-1].detail})"
        if all(exchange.failure in PROMPT for exchange in exchanges):
            raise EndpointError(
                f"the server has answered nothing and refuses all of its first {len(exchanges)} requests, {last}; see "
                "[endpoint] in the run file, such as `token_field`, and [roles]"
            )
        raise EndpointError(
            f"the server has answered none of its first {len(exchanges)} requests, {last}: resume the run once it answers"
        )

    def _recorded(self, name: str) -> Exchange:
        exchange = self._tape.find(name)
        assert exchange is not None, "what the run has used is on record"
        return exchange

    def _reply(self, request: GenerateRequest, exchange: Exchange) -> Reply:
        if exchange.failure is None:
            reply = [self._read(request, completion) for completion in exchange.completions]
            reply[0] = msgspec.structs.replace(reply[0], prompt_tokens=exchange.prompt_tokens)
            return reply
        kind = "rejected" if exchange.failure in PROMPT else POLICY
        return Unanswered(failure=kind, detail=f"{exchange.failure}: {exchange.detail}"[:500])

    def _read(self, request: GenerateRequest, completion: Completion) -> Completion:
        # Where the server does not say, the most counts that it can have been.
        usage = request.sampling.max_tokens if completion.usage is None else completion.usage
        text = self._speech.read(completion.text, request)
        return msgspec.structs.replace(completion, text=text, usage=usage)


class _Witness:
    """Puts calls on record under the digests of their requests."""

    def __init__(self, tape: Exchanges, names: Sequence[str]) -> None:
        self._tape = tape
        self._names = names

    def begin(self, place: int, so_far: Exchange) -> None:
        self._tape.begin(self._names[place], so_far)

    def sent(self, place: int) -> None:
        self._tape.sent(self._names[place])


def identity(model: str) -> str:
    """What stands where a run on weights names their hash."""
    return f"endpoint:{model}"
