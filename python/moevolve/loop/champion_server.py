"""The server of a run as what its champion's program asks, once no run goes on: nothing of it is kept.

Clients' tasks are solved beside each other, so there are as many connections to the server, which share the calls that the
run allows. The run's spending limits hold for all that is asked here together; the rounds then go one after another.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from queue import SimpleQueue

import msgspec

from moevolve.agents.box.host import Abandoned
from moevolve.config import Config
from moevolve.loop import endpoint
from moevolve.models.endpoint.client import Client
from moevolve.models.endpoint.meter import Meter
from moevolve.models.endpoint.passing import Passing
from moevolve.models.endpoint.policy import EndpointPolicy
from moevolve.models.endpoint.secret import Secret
from moevolve.protocol.requests import GenerateRequest, Reply, Unanswered


class ChampionServer:
    """The server of a run.

    Args:
        config: the run's configuration.
        most: tasks that are solved at one time.
        tell: takes what whoever runs this should know: long waits, fields that the server refuses.

    Raises:
        UsageError: the variable with the server's key is not set, or the HTTP library is missing.
    """

    def __init__(self, config: Config, most: int, tell: Callable[[str], None]) -> None:
        section, replace = config.endpoint, msgspec.structs.replace
        self.together = max(1, min(most, section.concurrency, section.per_minute or most))
        """Tasks that are solved at one time."""
        share = replace(
            section,
            concurrency=section.concurrency // self.together,
            per_minute=None if section.per_minute is None else section.per_minute // self.together,
        )
        self._config = replace(config, endpoint=share)
        self._speech = endpoint.speech(config)
        secret = Secret.read(config.policy.key_env)
        self._clients = [Client(self._config, secret, self._speech, tell=tell) for _ in range(self.together)]
        self._free: SimpleQueue[Client] = SimpleQueue()
        for client in self._clients:
            self._free.put(client)
        self._bounded = section.most_tokens is not None or section.most_cost is not None
        self._meter = Meter(section, self._speech)
        self._spending = threading.Lock()

    @property
    def told(self) -> str:
        """The model and the server, in words."""
        return f"{self._config.policy.model} at {self._config.policy.endpoint}"

    def close(self) -> None:
        """Lets go of the connections; nothing is asked any more."""
        for client in self._clients:
            client.close()

    def policy(self) -> ServedModel:
        """The server's model for the attempts at one task; `close` lets the next one have its connection."""
        return ServedModel(self, self._free.get())

    def asked_by(self, client: Client, tape: Passing) -> EndpointPolicy:
        """A policy on a connection."""
        meter = self._meter if self._bounded else Meter(self._config.endpoint, self._speech)
        return EndpointPolicy(self._config, self._speech, client, tape, meter, answered=True)

    def spending(self) -> threading.Lock | nullcontext[None]:
        """Holds others up while a round is paid for, where there is a limit to what may be spent."""
        return self._spending if self._bounded else nullcontext()

    def settle(self) -> None:
        """Forgets what only a run's bills would say."""
        with self._spending:
            self._meter.bill(0, "")

    def give_back(self, client: Client) -> None:
        """Lets the next policy have a connection."""
        self._free.put(client)


class ServedModel:
    """The server's model, for the attempts at one task.

    Args:
        server: whose it is.
        client: the connection.
    """

    def __init__(self, server: ChampionServer, client: Client) -> None:
        self._server = server
        self._client = client
        self._tape = Passing(self._waited)
        self._policy = server.asked_by(client, self._tape)
        self._over = self._closed = False
        self.generated = 0
        self.read = 0
        """Tokens of prompts, as the server tells."""

    @property
    def weights(self) -> str:
        """What stands for the weights' hash."""
        return self._policy.weights

    def answer(self, requests: Sequence[GenerateRequest]) -> list[Reply]:
        """Answers a round; see `Policy`.

        Raises:
            Abandoned: nobody waits for it any more.
            EndpointError: the server cannot go on.
            SpendingLimitError: the run's limit leaves no room for it.
        """
        with self._server.spending():
            self._waited()
            before = self._policy.generated
            try:
                replies = self._policy.answer(requests)
            except asyncio.CancelledError:
                raise Abandoned from None
            finally:
                self.generated += self._policy.generated - before
        self.read += sum(
            reply[0].prompt_tokens or 0 for reply in replies if not isinstance(reply, Unanswered)
        )
        return replies

    def end(self) -> None:
        """Ends calls that are out, and lets the program's next request fail: nobody waits for it."""
        self._over = True
        if not self._closed:  # Another task may have the connection by now.
            self._client.stop()

    def close(self) -> None:
        """Lets go of the connection: the program has ended."""
        self._closed = True
        self._server.settle()
        self._server.give_back(self._client)

    def _waited(self) -> None:
        if self._over:
            raise Abandoned
