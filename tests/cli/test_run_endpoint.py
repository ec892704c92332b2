"""What `moevolve run` makes of the options about a server."""

from __future__ import annotations

import pytest
from command_line import Command

from moevolve.config import Config
from moevolve.errors import ConfigError
from moevolve.loop.endpoint import settled
from moevolve.loop.estimate.endpoint import estimate

SERVER = {"policy.endpoint": "http://127.0.0.1:9/v1", "policy.model": "m"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--key-env", "X"], "--endpoint"),
        (["--endpoint", "http://127.0.0.1:9/v1"], "needs `model`"),
        (["--endpoint", "ftp://x", "--model", "m"], "http://127.0.0.1:8000/v1"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--arm", "sft"], "trains weights"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--key-env", "NOT_SET"], "NOT_SET"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--price", "none.toml"], "none.toml"),
    ],
)
def test_options_that_do_not_fit_are_refused(moevolve: Command, words: list[str], said: str) -> None:
    run = moevolve("run", *words, "--out", "run", "--display", "none")
    assert run.returncode == 2
    assert said in run.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"policy.model": "m"}, "belong to an endpoint"),
        (SERVER | {"policy.checkpoint": "x"}, "not both"),
        (SERVER | {"endpoint.most_cost": 1.0}, "needs prices"),
        (SERVER | {"endpoint.price_input": 1.0}, "price_output"),
        (SERVER | {"endpoint.concurrency": 0}, "concurrency"),
        (SERVER | {"endpoint.retry": 1}, "retries"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config.load("small", settings)


def test_full_becomes_program_and_stays_so() -> None:
    config = settled(Config.load("small", SERVER))
    assert config.arm == "program"
    assert settled(config) == config
    assert Config.from_canonical(config.canonical()) == config


def test_the_estimate_grows_with_what_is_asked() -> None:
    small, large = (
        estimate(
            settled(Config.load(preset, SERVER | {"endpoint.price_input": 1.0, "endpoint.price_output": 2.0}))
        )
        for preset in ("small", "quickstart")
    )
    assert small.requests[0] < small.requests[1] < large.requests[1]
    assert small.cost is not None and large.cost is not None
    assert 0 < small.cost[0] < small.cost[1] < large.cost[1]
    assert estimate(settled(Config.load("small", SERVER))).cost is None
