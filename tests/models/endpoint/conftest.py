"""A client of a scripted server, with a clock that only waiting moves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from scripted_endpoint import KEY, MODEL, FakeTime, ScriptedEndpoint  # noqa: E402

from moevolve.config import Config  # noqa: E402
from moevolve.models.endpoint.client import Client, Unwitnessed, Witness  # noqa: E402
from moevolve.models.endpoint.exchange import Exchange  # noqa: E402
from moevolve.models.endpoint.pacing import Pace  # noqa: E402
from moevolve.models.endpoint.secret import Secret  # noqa: E402
from moevolve.models.endpoint.speech import Speech  # noqa: E402
from moevolve.protocol.requests import GenerateRequest  # noqa: E402
from moevolve.protocol.sampling import Sampling  # noqa: E402

Ask = Callable[..., list[Exchange]]


def request(prompt: str = "rev:abc=", n: int = 1, key: int = 7) -> GenerateRequest:
    return GenerateRequest(
        attempt=0, prompt=prompt, sampling=Sampling(max_tokens=16, temperature=0.0), n=n, key=key
    )


@pytest.fixture
def a_request() -> Callable[..., GenerateRequest]:
    return request


@pytest.fixture
def still() -> FakeTime:
    return FakeTime()


@pytest.fixture
def ask(still: FakeTime) -> Iterator[Ask]:
    """Asks a server requests, with `[endpoint]` settings; gives their exchanges in order."""
    clients: list[Client] = []

    def asked(
        server: ScriptedEndpoint | str,
        *requests: GenerateRequest,
        witness: Witness | None = None,
        begun: Mapping[int, Exchange] | None = None,
        done: dict[int, Exchange] | None = None,
        **settings: object,
    ) -> list[Exchange]:
        url = server if isinstance(server, str) else server.url
        given = {f"endpoint.{name}": value for name, value in settings.items()}
        config = Config.load("small", {"policy.endpoint": url, "policy.model": MODEL, **given})
        pace = Pace(config.endpoint.per_minute, still.clock, still.wait)
        clients.append(Client(config, Secret(KEY, "TEST_KEY"), Speech(MODEL, config.endpoint), pace))
        found: dict[int, Exchange] = {} if done is None else done
        clients[-1].ask(requests, found.__setitem__, witness or Unwitnessed(), begun or {})
        return [found[place] for place in sorted(found)]

    yield asked
    for client in clients:
        client.close()
