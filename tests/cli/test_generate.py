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
@pytest.mark.parametrize("way", ["--stream", "--no-stream"])
def test_what_cannot_be_sampled_is_a_usage_error(moevolve: Command, words: list[str], way: str) -> None:
    done = moevolve("generate", "--model", MODEL, *words, way, "ab")
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_a_folder_that_is_no_checkpoint_is_a_usage_error(moevolve: Command, tmp_path: Path) -> None:
    done = moevolve("generate", "--model", tmp_path, "ab")
    assert done.returncode == 2 and str(tmp_path) in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["generate", "ab"], ["serve", "--port=0"]])
def test_a_card_ends_with_a_sentence(moevolve: Command, words: list[str]) -> None:
    done = moevolve(*words, "--device", "cuda:63")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "device 'cuda:63' cannot be used here: " in done.stderr


def test_streamed_text_is_the_text(moevolve: Command) -> None:
    words = ("generate", "--model", MODEL, "--max-tokens=9", "-n", "3", "--seed=5", "ab", "cd")
    whole, streamed = moevolve(*words), moevolve(*words, "--stream")
    assert streamed.returncode == 0, streamed.stderr
    assert streamed.stdout == whole.stdout and whole.stdout.count("\n") == 6


def test_prompts_come_from_a_file_and_from_stdin(moevolve: Command, tmp_path: Path) -> None:
    words = ("generate", "--model", MODEL, "--max-tokens=4")
    (tmp_path / "lines").write_text("ab\n\ncd\r\n", encoding="utf-8")
    (tmp_path / "objects").write_text('{"prompt": "ab"}\n\n{"prompt": "cd"}\n', encoding="utf-8")
    expected = moevolve(*words, "ab", "cd").stdout
    assert moevolve(*words, "--file", "lines").stdout == expected
    assert moevolve(*words, "--file", "objects").stdout == expected
    assert moevolve(*words, "--file", "-", stdin="ab\ncd").stdout == expected
    assert moevolve(*words, "ab", "-", stdin="cd\n").stdout == expected
    assert moevolve(*words, stdin='{"prompt": "ab"}\n{"prompt": "cd"}\n').stdout == expected
    assert moevolve(*words, stdin="").stdout == ""
    (tmp_path / "marked").write_text('\ufeff{"prompt": "ab"}\n{"prompt": "cd"}\n', encoding="utf-8")
    assert moevolve(*words, "--file", "marked").stdout == expected
    assert moevolve(*words, stdin="\ufeffab\ncd\n").stdout == expected


def test_json_lines_come_one_a_completion(moevolve: Command) -> None:
    words = ("generate", "--model", MODEL, "--max-tokens=3", "-n", "2", "ab", "cd")
    lines = [json.loads(line) for line in moevolve(*words, "--jsonl").stdout.splitlines()]
    whole = json.loads(moevolve(*words, "--json").stdout)
    assert [(line["index"], line["sample"], line["prompt"]) for line in lines] == [
        (0, 0, "ab"),
        (0, 1, "ab"),
        (1, 0, "cd"),
        (1, 1, "cd"),
    ]
    fields = ("text", "tokens", "logprobs", "finish")
    completions = [completion for answer in whole for completion in answer["completions"]]
    assert [{name: line[name] for name in fields} for line in lines] == completions


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"prompt": "ab"}\nab\n', "prompts, line 2 is not JSON"),
        ('{"prompt": "ab"}\n{"text": "ab"}\n', "prompts, line 2: write"),
        ('{"prompt": 3}\n', "prompts, line 1: the prompt is a text"),
        ('{"messages": {}}\n', "prompts, line 1: messages are a list of objects"),
        ('{"messages": []}\n', "prompts, line 1: a conversation has at least one message"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', "add --chat"),
        ('{"prompt": "ab", "tools": 1}\n', "prompts, line 1: tools are a list of objects"),
    ],
)
def test_a_line_that_is_no_request_is_named(
    moevolve: Command, tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "prompts").write_text(text, encoding="utf-8")
    done = moevolve("generate", "--model", MODEL, "--file", "prompts")
    assert done.returncode == 2 and complaint in done.stderr and done.stderr.count("\n") == 1


def test_a_file_that_cannot_be_read_is_named(moevolve: Command, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    for file in ("nowhere", "bytes", "."):
        done = moevolve("generate", "--model", MODEL, "--file", file)
        assert done.returncode == 2 and f"moevolve: {file} " in done.stderr and done.stdout == ""


def test_what_is_no_text_is_named(moevolve: Command, tmp_path: Path) -> None:
    (tmp_path / "objects").write_text('{"prompt": "ab\\ud800"}', encoding="utf-8")
    (tmp_path / "lines").write_text('{"prompt": "ab"}\n{"prompt": "ab\\ud800"}', encoding="utf-8")
    done = moevolve("generate", "--model", MODEL, "a\udcffb")
    assert done.returncode == 2 and "the prompt is not Unicode text: character 2 is none" in done.stderr
    done = moevolve("generate", "--model", MODEL, "--file", "lines")
    assert done.returncode == 2 and "lines, line 2 is not JSON" in done.stderr
    assert moevolve("generate", "--model", MODEL, "--file", "objects").returncode == 0  # a plain line


@pytest.mark.parametrize("words", [["--system", "x"], ["--tools", "x"]])
def test_what_belongs_to_a_chat_asks_for_one(moevolve: Command, words: list[str]) -> None:
    done = moevolve("generate", "--model", MODEL, *words, "ab")
    assert done.returncode == 2 and "add --chat" in done.stderr


def test_a_model_without_a_template_does_not_chat(moevolve: Command) -> None:
    done = moevolve("generate", "--model", MODEL, "--chat", "ab")
    assert done.returncode == 2 and f"{MODEL} has no chat template" in done.stderr


def test_no_model_means_the_seed(moevolve: Command) -> None:
    done = moevolve("generate", "--max-tokens=6", "rev:abc=")
    assert done.returncode == 0 and done.stdout == "cba\n" and done.stderr == ""
