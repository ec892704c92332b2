"""What `moevolve run --model PATH` makes of a model on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from command_line import Command

from moevolve.cli.commands.run import policy_settings


def options(**given: str) -> argparse.Namespace:
    return argparse.Namespace(**(dict.fromkeys(("endpoint", "model", "key_env", "price", "device")) | given))


def test_a_model_without_an_endpoint_is_a_checkpoint_here(tmp_path: Path) -> None:
    assert policy_settings(options(model=str(tmp_path))) == {"policy.checkpoint": str(tmp_path)}


def test_a_model_with_an_endpoint_is_the_servers_name() -> None:
    address = "http://127.0.0.1:9/v1"
    assert policy_settings(options(model="m", endpoint=address)) == {
        "policy.endpoint": address,
        "policy.model": "m",
    }


def test_a_device_is_the_policys() -> None:
    assert policy_settings(options(device="cuda:1")) == {"policy.device": "cuda:1"}


@pytest.mark.parametrize("command", [["run"], ["eval", "primer"]])
def test_a_device_that_is_none_is_refused_by_its_key(moevolve: Command, command: list[str]) -> None:
    run = moevolve(*command, "--device", "tpu")
    assert run.returncode == 2 and "policy.device" in run.stderr


@pytest.mark.parametrize("command", [["run"], ["eval", "primer"]])
def test_a_server_takes_no_device(moevolve: Command, command: list[str]) -> None:
    run = moevolve(*command, "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--device", "cpu")
    assert run.returncode == 2 and "a server computes on devices of its own" in run.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "nowhere.gguf"], "there is no model at nowhere.gguf"),
        (["real", "--cycles", "1"], "has no chat template"),
    ],
)
def test_a_model_that_cannot_be_asked_is_refused(moevolve: Command, words: list[str], said: str) -> None:
    run = moevolve("run", *words, "--out", "run", "--display", "none")
    assert run.returncode == 2
    assert said in run.stderr
