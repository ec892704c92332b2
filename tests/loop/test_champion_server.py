"""The server of a run for clients of its champion: calls within the run's limits, ended with whom they are for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from adding_endpoint import AddingEndpoint, adding  # noqa: E402

from moevolve.agents.box.host import Abandoned  # noqa: E402
from moevolve.config import Config  # noqa: E402
from moevolve.errors import SpendingLimitError  # noqa: E402
from moevolve.loop.champion_server import ChampionServer  # noqa: E402
from moevolve.loop.endpoint import settled  # noqa: E402
from moevolve.protocol.requests import GenerateRequest, Unanswered  # noqa: E402
from moevolve.protocol.sampling import Sampling  # noqa: E402


@pytest.fixture
def adder() -> Iterator[AddingEndpoint]:
    with adding() as endpoint:
        yield endpoint


def served(adder: AddingEndpoint, most: int = 4, **settings: Any) -> ChampionServer:
    values = {"policy.endpoint": adder.url, "policy.model": "adder", "wording.style": "plain"}
    values |= {f"endpoint.{name}": value for name, value in settings.items()}
    return ChampionServer(settled(Config.load("small", values)), most, lambda text: None)


def request(number: int = 1, key: int = 1) -> GenerateRequest:
    sampling = Sampling(max_tokens=16, temperature=0.0)
    return GenerateRequest(attempt=0, prompt=f"{number} plus 1?", sampling=sampling, n=1, key=key)


@pytest.mark.parametrize(
    ("settings", "together"),
    [
        ({"concurrency": 8}, 4),
        ({"concurrency": 2}, 2),
        ({"concurrency": 1}, 1),
        ({"concurrency": 8, "per_minute": 3}, 3),
    ],
)
def test_connections_share_the_calls_that_the_run_allows(
    settings: dict[str, int], together: int, adder: AddingEndpoint
) -> None:
    server = served(adder, **settings)
    assert server.together == together
    share = server._config.endpoint
    assert share.concurrency * together <= settings["concurrency"]
    assert (share.per_minute or 0) * together <= settings.get("per_minute", 0)
    server.close()


def test_the_runs_spending_limit_holds_for_all_clients_together(adder: AddingEndpoint) -> None:
    server = served(adder, most_tokens=400)
    with pytest.raises(SpendingLimitError):
        for number in range(40):
            policy = server.policy()
            try:
                policy.answer([request(number)])
            finally:
                policy.close()
    assert 0 < adder.charged["prompt"] + adder.charged["completion"] <= 400
    server.close()


def test_what_is_asked_again_within_a_task_is_asked_once_and_never_beyond_it(adder: AddingEndpoint) -> None:
    server = served(adder)
    for calls in (1, 2):
        policy = server.policy()
        for _ in range(2):
            [reply] = policy.answer([request()])
            assert not isinstance(reply, Unanswered) and "2" in reply[0].text
        policy.close()
        assert adder.calls == calls and policy.generated > 0 < policy.read
    server.close()


def test_a_call_ends_with_whom_it_is_for_and_its_connection_serves_the_next(adder: AddingEndpoint) -> None:
    server = served(adder, most=1)
    adder.loud.clear()
    policy = server.policy()
    ends: list[BaseException] = []

    def ask() -> None:
        try:
            policy.answer([request()])
        except BaseException as error:  # noqa: BLE001  whatever it is, is looked at
            ends.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not adder.keys:  # the call is out
        pass
    policy.end()
    asking.join(20)
    assert [type(end) for end in ends] == [Abandoned]
    with pytest.raises(Abandoned):
        policy.answer([request(2)])
    policy.close()
    adder.loud.set()
    [reply] = server.policy().answer([request(3)])
    assert not isinstance(reply, Unanswered)
    server.close()
