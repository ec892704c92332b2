"""README and docs are true: every example is run, or at least parsed, as it stands on the page.

Python blocks of a page run in order in one namespace, in a folder that holds what the page names: a checkpoint, a GGUF
file, a run. Presets are the smallest one there, and a run has one cycle. Shell lines are parsed by the command's own parser;
those that only read are run.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/fixtures"))

from serving import Serving, chat_seed  # noqa: E402

import moevolve as mv  # noqa: E402
from moevolve.cli.main import main  # noqa: E402
from moevolve.cli.parsers import COMMANDS, command_parser, reference  # noqa: E402
from moevolve.config import Config  # noqa: E402
from moevolve.models.checkpoint import seed_checkpoint  # noqa: E402
from moevolve.tasks import registry  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
for walked in ("agents.md", "optimise.md"):
    PAGES.remove(ROOT / "docs" / walked)  # Walked as one path, file by file: see test_agents, test_optimise.
READS = {"show", "ls", "compare", "diff", "skills", "plan", "doctor", "init", "report"}
"""Commands that are run: they read what is there, or write one file."""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """Fenced blocks in these languages, page by page."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
            if match[1] in languages:
                found.append(Block(page, text[: match.start()].count("\n") + 1, match[1], match[2]))
    return found


def shell_lines() -> Iterator[tuple[str, list[str]]]:
    """(where, words) of every command line, comments and assignments in front left out."""
    for block in blocks("", "sh", "console"):
        for offset, line in enumerate(block.text.splitlines(), 1):
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield f"{block.page.name}:{block.line + offset}", words


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that examples run in, with what they name."""
    folder = tmp_path_factory.mktemp("desk")
    engine = chat_seed(folder)
    shutil.copytree(folder / "model", folder / "path/to/checkpoint")
    engine.save(folder / "model.gguf", dtype="q8_0")
    shutil.copy(seed_checkpoint() / "config.json", folder / "path/to/config.json")
    (folder / "prices.toml").write_text('[models."NAME"]\ninput = 1\noutput = 2\n')
    return folder


@pytest.fixture
def small(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The desk as the working folder; every preset is the smallest one, and a run has one cycle."""
    whole, override = Config.load, Config.override

    def load(source: str | Path, settings: Any = None) -> Config:
        return whole("small" if source in ("quickstart", "real", "endpoint") else source, settings)

    def one_cycle(self: Config, **options: Any) -> Config:
        return override(self, **{**options, "cycles": 1, "minutes": None})

    monkeypatch.chdir(desk)
    monkeypatch.setattr(Config, "load", load)
    monkeypatch.setattr(Config, "override", one_cycle)
    return desk


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.page == page for b in blocks("python"))])
def test_python_examples_run(page: Path, small: Path) -> None:
    before = {skill.path for skill in registry.registered()}
    space: dict[str, Any] = {"mv": mv, "path": "path/to/checkpoint", "tools": [], "ROT13": {}}
    server = None
    for block in blocks("python"):
        if block.page != page:
            continue
        text = block.text
        if "127.0.0.1:8000" in text:
            server = server or Serving(mv.Engine.load("path/to/checkpoint", threads=1))
            text = text.replace("http://127.0.0.1:8000", server.url.rstrip("/").removesuffix("/v1"))
            text = text.replace('model="SmolLM2"', 'model="test"')
        # The shipped seed knows no English: its samples are rewarded for an end.
        text = text.replace('sample.text.strip() == "19"', 'sample.finish == "stop"')
        # Line numbers of a failure are those of the page.
        exec(compile("\n" * block.line + text, block.page.name, "exec"), space)
    if server is not None:
        server.stop()
    # A page's skills are its own: they join no other test's suite.
    for path in {skill.path for skill in registry.registered()} - before:
        registry.forget(path)


@pytest.mark.parametrize(("where", "words"), [pytest.param(w, s, id=w) for w, s in shell_lines()])
def test_shell_examples_are_commands_that_exist(where: str, words: list[str]) -> None:
    program, *rest = words
    if program == "moevolve":
        if rest[0] in COMMANDS:
            command_parser(rest[0]).parse_args(rest[1:])
        else:
            assert main(rest) == 0
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert next(word for word in rest if "=" not in word) in targets
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for extra in re.findall(r"\[(\w+)\]", " ".join(rest)):
            assert extra in extras
    elif program == "python" and rest[0].endswith(".py"):
        assert (ROOT / rest[0]).is_file()
    else:
        assert program in ("python", "bash", "cargo", "export"), f"{where}: who runs {program}?"


def test_reading_commands_of_the_pages_run(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("runs/seven", "runs/first"):
        if not Path(out).exists():
            assert main(["run", "quickstart", "--seed", "7", "--out", out, "--display", "none"]) == 0
    for where, words in shell_lines():
        if words[0] == "moevolve" and words[1] in READS and not {"MODEL", "FOLDER"} & set(words):
            assert main(words[1:]) == 0, f"{where}: {capsys.readouterr().err}"


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in blocks("toml")])
def test_configurations_of_the_pages_load(block: Block, small: Path) -> None:
    tables = tomllib.loads(block.text)
    if "models" in tables:
        from moevolve.models.endpoint.prices import PriceFile

        __import__("msgspec").convert(tables, PriceFile)
        return
    file = small / "page.toml"
    file.write_text(("" if "cycles" in tables else "cycles = 1\n") + block.text)
    Config.load(file)


def test_the_command_line_page_is_what_help_says() -> None:
    assert (ROOT / "docs/cli.md").read_text(encoding="utf-8") == reference()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
