"""What `moevolve run --model PATH` makes of a model on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from command_line import Command

from moevolve.cli.commands.run import policy_settings


def options(**given: str) -> argparse.Namespace:
    return argparse.Namespace(**(dict.fromkeys(("endpoint", "model", "key_env", "price")) | given))


def test_a_model_without_an_endpoint_is_a_checkpoint_here(tmp_path: Path) -> None:
    assert policy_settings(options(model=str(tmp_path))) == {"policy.checkpoint": str(tmp_path)}


def test_a_model_with_an_endpoint_is_the_servers_name() -> None:
    address = "http://127.0.0.1:9/v1"
    assert policy_settings(options(model="m", endpoint=address)) == {
        "policy.endpoint": address,
        "policy.model": "m",
    }


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
