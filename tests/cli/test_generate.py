"""`generate`: prompts in, completions out, as text or JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command

from moevolve import _native

MODEL = Path(__file__).parents[1] / "fixtures" / "model" / "text" / "checkpoint"

pytestmark = pytest.mark.skipif(not hasattr(_native, "Engine"), reason="this build has no engine")


def test_greedy_text_is_one_line_a_prompt_and_repeats(moevolve: Command) -> None:
    first = moevolve("generate", "--model", MODEL, "--max-tokens", "4", "ab", "cd")
    again = moevolve("generate", "--model", MODEL, "--max-tokens", "4", stdin="ab\ncd\n")
    assert first.returncode == 0, first.stderr
    assert first.stdout == again.stdout


def test_json_has_tokens_and_log_probabilities(moevolve: Command) -> None:
    done = moevolve("generate", "--model", MODEL, "--max-tokens=3", "-n", "2", "--seed=1", "--json", "ab")
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert answer["prompt"] == "ab" and len(answer["completions"]) == 2
    for completion in answer["completions"]:
        assert set(completion) == {"text", "tokens", "logprobs", "finish"}
        assert completion["finish"] in ("stop", "length") and len(completion["tokens"]) <= 3


@pytest.mark.parametrize("words", [["--temperature=-1"], ["--top-p=0"], ["-n", "0"], ["--max-tokens=0"]])
def test_what_cannot_be_sampled_is_a_usage_error(moevolve: Command, words: list[str]) -> None:
    done = moevolve("generate", "--model", MODEL, *words, "ab")
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_a_folder_that_is_no_checkpoint_is_a_usage_error(moevolve: Command, tmp_path: Path) -> None:
    done = moevolve("generate", "--model", tmp_path, "ab")
    assert done.returncode == 2 and str(tmp_path) in done.stderr and "Traceback" not in done.stderr
