"""The command line's frame: commands, exit codes, what becomes of errors, what importing costs."""

from __future__ import annotations

import errno
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from types import ModuleType

import pytest

from moevolve.cli.main import main
from moevolve.cli.parsers import COMMANDS
from moevolve.errors import ConfigError, MoevolveError, SafetyError, StoreBusyError

STARTING = ["run", "resume", "watch", "init", "serve", "learned", "completion", "export", "help"]
ASKING = ["approve", "reject", "pause", "stop", "import"]
READING = [
    "audit",
    "show",
    "ls",
    "memory",
    "report",
    "compare",
    "diff",
    "replay",
    "generate",
    "plan",
    "skills",
    "doctor",
    "tasks",
    "validate",
    "eval",
    "memory",
]
CONTRACT = {*STARTING, *ASKING, *READING}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes `show` raise."""

    def replace(error: BaseException) -> None:
        def execute(options: Namespace) -> int:
            raise error

        module = ModuleType("moevolve.cli.commands.show")
        module.arguments = lambda parser: None  # type: ignore[attr-defined]
        module.execute = execute  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return replace


def test_the_contracts_commands_are_there() -> None:
    assert set(COMMANDS) == CONTRACT


def test_the_package_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "moevolve", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "moevolve")


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_every_command_says_how_it_is_used(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: moevolve {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", READING)
def test_every_reading_command_takes_json(name: str) -> None:
    from importlib import import_module

    parser = ArgumentParser()
    import_module(f"moevolve.cli.commands.{name}").arguments(parser)
    assert "--json" in parser.format_help()


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in CONTRACT)


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    whole = capsys.readouterr().out
    assert main(["help"]) == 0
    assert capsys.readouterr().out == whole


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_help_of_a_command_is_what_its_option_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    option = capsys.readouterr().out
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == option


def test_help_of_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "reprot"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "unknown command `reprot` (did you mean `report`?)" in shown.err


def test_no_command_is_a_usage_error_and_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "usage: moevolve" in shown.err


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reprot", "runs/first"]) == 2
    assert "unknown command `reprot` (did you mean `report`?)" in capsys.readouterr().err


def test_an_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--jsno"]) == 2
    assert "--jsno" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MoevolveError("it broke at step 3"), 1),
        (ConfigError("unknown key"), 2),
        (StoreBusyError("process 7 writes it"), 2),
        (SafetyError("refused"), 3),
        (KeyboardInterrupt(), 130),
        (OSError(errno.EACCES, "Permission denied", "runs/x"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1),
    ],
)
def test_an_error_is_one_line_on_stderr_with_its_exit_code(
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
) -> None:
    failing(error)
    assert main(["show"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("moevolve: ") and shown.err.count("\n") == 1


def test_a_defect_keeps_its_traceback(failing: Callable[[BaseException], None]) -> None:
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["show"])


def test_help_loads_nothing_that_is_not_needed() -> None:
    program = (
        "import sys; from moevolve.cli.main import main; main(['--help']); "
        "heavy = {'rich', 'msgspec', 'jinja2', 'textual', 'numpy', 'torch', 'moevolve._native'}; "
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.returncode == 0


def test_reading_a_run_as_json_draws_no_tables() -> None:
    program = (
        "import sys; import moevolve.cli.commands.show; "
        "heavy = {'rich', 'jinja2', 'textual', 'numpy'}; "
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.returncode == 0


def test_a_reader_that_stops_early_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m moevolve.cli.main init - | true",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
