"""`generate --chat`: over an engine that says what the test wrote, and over a real one with a template."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_samples import CHATML, MINIMAX, PARALLEL, WEATHER
from command_line import Command
from scripted_native import ScriptedNative

from moevolve.cli.main import main
from moevolve.models.engine import Engine

MODEL = Path(__file__).parents[1] / "fixtures" / "model" / "text" / "checkpoint"
Script = Callable[..., ScriptedNative]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Puts an engine that says what it is told in place of every model."""

    def replace(answer: Any, template: str | None = MINIMAX, **options: Any) -> ScriptedNative:
        native = ScriptedNative(answer, template, **options)
        monkeypatch.setattr(Engine, "load", lambda path, **_: Engine(native, "m"))  # type: ignore[arg-type]
        return native

    return replace


@pytest.fixture
def tools(tmp_path: Path) -> str:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([WEATHER]), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("way", ["--stream", "--no-stream"])
def test_content_and_calls_are_data_and_thoughts_are_not(
    scripted: Script, capsys: pytest.CaptureFixture[str], tools: str, way: str
) -> None:
    scripted(PARALLEL)
    assert main(["generate", "--chat", "--tools", tools, way, "hi"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == "I look both up." and len(lines) == 3
    assert lines[1].startswith('call weather {"city": "São \\"Paulo\\"", "days": 3')
    assert shown.err == ""


@pytest.mark.parametrize("way", ["--stream", "--no-stream"])
def test_a_malformed_call_is_told_and_its_text_stays(
    scripted: Script, capsys: pytest.CaptureFixture[str], tools: str, way: str
) -> None:
    scripted(PARALLEL)
    assert main(["generate", "--chat", "--tools", tools, "--max-tokens=150", way, "hi"]) == 0
    shown = capsys.readouterr()
    assert "malformed tool call: the text ends inside the call" in shown.err
    assert '<invoke name="weather">' in shown.out


def test_json_has_the_turn_in_parts(scripted: Script, capsys: pytest.CaptureFixture[str], tools: str) -> None:
    scripted(PARALLEL)
    assert main(["generate", "--chat", "--tools", tools, "--system", "Be brief.", "--json", "hi"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    (turn,) = answer["completions"]
    assert turn["text"] == PARALLEL and turn["reasoning"] == "The person wants two cities."
    assert [call["name"] for call in turn["tool_calls"]] == ["weather", "weather"]
    assert turn["tool_calls"][1]["arguments"]["note"] == 7 and turn["malformed"] == []
    assert set(turn) > {"tokens", "logprobs", "finish", "content"}


def test_raw_is_what_the_model_wrote(scripted: Script, capsys: pytest.CaptureFixture[str]) -> None:
    native = scripted("a</think>b<|im_start|>c")
    for way in ("--stream", "--no-stream"):
        assert main(["generate", "--chat", "--raw", way, "hi"]) == 0
        assert capsys.readouterr().out == "a</think>b<|im_start|>c\n"
    assert native.asked[0] == native.asked[1]


def test_conversations_come_from_a_file(
    scripted: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    native = scripted(lambda prompt: "</think>" + prompt.split("]~b]user\n")[-1][:1])
    rows = [
        {"messages": [{"role": "user", "content": "one"}], "tools": [WEATHER]},
        {"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "two"}]},
        {"prompt": "three"},
    ]
    file = tmp_path / "asked.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["generate", "--chat", "--system", "shared", "--file", str(file)]) == 0
    assert capsys.readouterr().out == "o\nt\nt\n"
    first, second, third = (draw.prompt for draw in native.asked)
    assert "shared" in first and "<tool>" in first
    assert "own" in second and "shared" not in second and "<tool>" not in second
    assert "shared" in third


def test_a_model_made_for_conversations_says_so_once(
    scripted: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted("x")
    assert main(["generate", "one", "two"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "x\nx\n" and shown.err.count("--chat") == 1
    for words in (["--raw"], ["--json"], ["--jsonl"]):
        assert main(["generate", *words, "one"]) == 0
        assert capsys.readouterr().err == ""


def test_what_could_not_be_taken_over_is_told(scripted: Script, capsys: pytest.CaptureFixture[str]) -> None:
    scripted("x", None).notes = ("its rule for splitting texts is unknown",)
    assert main(["generate", "--jsonl", "one"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "moevolve: its rule for splitting texts is unknown\n"
    assert json.loads(shown.out)["text"] == "x"


def test_batches_draw_what_one_would(
    scripted: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    native = scripted("x", None)
    words = ["generate", "-n", "2", "--seed", "9", *"abcdefg"]
    assert main(words) == 0
    whole = list(native.asked)
    native.asked.clear()
    monkeypatch.setattr("moevolve.cli.commands.generate.BATCH", 4)
    assert main(words) == 0
    assert native.asked == whole and len({draw.key for draw in whole}) == 14


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{% if %}", "the chat template of m is broken: line 1"),
        ("{{ raise_exception('no system turn') }}", "refuses this conversation: no system turn"),
        (None, "m has no chat template"),
    ],
)
@pytest.mark.parametrize("way", ["--stream", "--no-stream"])
def test_a_template_that_fails_is_one_error(
    scripted: Script, capsys: pytest.CaptureFixture[str], template: str | None, complaint: str, way: str
) -> None:
    scripted("x", template)
    assert main(["generate", "--chat", way, "hi"]) == 2
    shown = capsys.readouterr()
    assert complaint in shown.err and shown.err.count("\n") == 1 and shown.out == ""


@pytest.mark.parametrize("text", ["{", "3", "[1]", '{"a": 1}'])
def test_tools_are_a_list_of_objects(
    scripted: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    scripted("x")
    path = tmp_path / "tools.json"
    path.write_text(text, encoding="utf-8")
    assert main(["generate", "--chat", "--tools", str(path), "hi"]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_checkpoint_with_a_template_chats(moevolve: Command, tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    done = moevolve("generate", "--model", "model", "--chat", "--max-tokens=5", "--json", "ab")
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert answer["messages"] == [{"role": "user", "content": "ab"}]
    assert len(answer["completions"][0]["tokens"]) <= 5
