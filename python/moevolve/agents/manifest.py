"""`agent.toml`: what somebody's own agent is, how it is run, and which of its files may be edited."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from moevolve.config.files import parse_toml
from moevolve.errors import UsageError

MANIFEST = "agent.toml"
FUNCTION = "solve:solve"
"""Where the function of an agent stands."""

Name = Annotated[str, Meta(min_length=1, max_length=200)]


class BoxLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits]`: what one attempt may take of the machine, and ask of the policy where the run's file does not say."""

    tokens: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    """Tokens generated for it, in place of `roles.solver.tokens` at its default."""
    requests: Annotated[int, Meta(ge=0, le=10**6)] | None = None
    """Requests, in place of `roles.solver.requests` at its default."""
    seconds: Annotated[float, Meta(gt=0.0, le=86_400.0)] | None = None
    """From start to end, the policy's time left out: with `roles.solver.seconds` the stricter of the two is in force."""
    cpu_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 120
    """Of all its processes together."""
    memory_mb: Annotated[int, Meta(ge=32, le=1 << 20)] = 2048
    """Of all its processes together, and of each one's data."""
    processes: Annotated[int, Meta(ge=2, le=4096)] = 64
    """At one time, threads included."""
    workspace_mb: Annotated[int, Meta(ge=1, le=1 << 16)] = 64
    """Of all files that it writes."""
    output_kb: Annotated[int, Meta(ge=1, le=1 << 16)] = 1024
    """Of what it prints."""
    at_once: Annotated[int, Meta(ge=1, le=512)] = 8
    """Attempts that run at one time."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent's description; each key may be left out unless its kind needs it."""

    kind: Literal["function", "command", "class"] = "function"
    """`function`: an `async def solve(task, agent)` in `solve.py`. `command`: any program, unchanged. `class`: a class with
    `run(prompt)`. The last two ask the model at `OPENAI_BASE_URL`, each attempt in a box of its own."""
    edit: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    """Patterns of the files that may be edited, such as `prompts/*.md`; all but `agent.toml` where it is left out."""
    argv: tuple[Name, ...] = ()
    """Of a command: the program and its arguments. One that names a file of the agent's folder becomes its path in the box;
    `python` is the interpreter that `python` names."""
    entry: str = ""
    """Of a class: `module:Class`. A function's is `solve:solve`."""
    task: Annotated[
        str, Meta(pattern=r"^(stdin|json|argument|argv|file:[A-Za-z0-9_][A-Za-z0-9_.-]{0,80})$")
    ] = "stdin"
    """How a command gets the task: on its input (`json`: with the whole conversation), as its last argument (`argument` or
    `argv`), or in a file of the workspace."""
    answer: Annotated[str, Meta(pattern=r"^(stdout|stdout:last|file:[A-Za-z0-9_][A-Za-z0-9_.-]{0,80})$")] = (
        "stdout"
    )
    """Where a command leaves the answer: on its output, on the last line of that, or in a file of the workspace."""
    python: str | None = None
    """An interpreter or a virtual environment of this machine, shown in the box read-only; by default
    the one that runs this."""
    preload: tuple[Name, ...] = msgspec.field(name="import", default=())
    """Modules that are imported once, before attempts are forked from that interpreter; without any a command starts an
    interpreter for each attempt."""
    readable: tuple[Name, ...] = ()
    """Further files and folders of this machine that show in the box, read-only."""
    environment: dict[str, str] = {}
    """Further variables of the environment."""
    limits: BoxLimits = BoxLimits()

    def __post_init__(self) -> None:
        if self.kind == "command" and not self.argv:
            raise ValueError('a command needs `argv`, such as ["python", "agent.py"]')
        if self.kind == "class" and (self.entry.count(":") != 1 or not all(self.entry.split(":"))):
            raise ValueError("a class needs `entry`, such as `agent:Solver`")
        if self.kind == "function":
            self._check_function()
        allowed = {
            "function": ("entry", "limits"),
            "command": ("argv", "task", "answer", *_OF_BOXES),
            "class": ("entry", *_OF_BOXES),
        }[self.kind]
        for name in ("argv", "entry", "task", "answer", *_OF_BOXES):
            if name not in allowed and getattr(self, name) != _DEFAULTS[name]:
                raise ValueError(
                    f"`{_SPELT.get(name, name)}` means nothing for kind = {self.kind!r}: leave it out"
                )

    def _check_function(self) -> None:
        if self.entry not in ("", FUNCTION):
            raise ValueError(f"a function's `entry` is `{FUNCTION}`, and not {self.entry!r}")
        asked = BoxLimits(
            tokens=self.limits.tokens, requests=self.limits.requests, seconds=self.limits.seconds
        )
        if self.limits != asked:
            raise ValueError(
                "`limits` of a function are tokens, requests and seconds: it has no box of its own, and its process "
                "has those of `[sandbox]` in the run's file"
            )

    @property
    def boxed(self) -> bool:
        """Whether attempts run in boxes, and ask the model over HTTP."""
        return self.kind != "function"

    @property
    def warm(self) -> bool:
        """Whether attempts are forked from an interpreter whose libraries are imported."""
        return self.kind == "class" or (bool(self.preload) and self.script is not None)

    @property
    def script(self) -> str | None:
        """The Python file that a command runs; None for other programs."""
        python = self.argv[:1] in (("python",), ("python3",))
        return self.argv[1] if python and len(self.argv) > 1 and self.argv[1].endswith(".py") else None

    @property
    def module(self) -> str | None:
        """The file that answers tasks; None where no file of the folder does."""
        if self.kind == "function":
            return "solve.py"
        if self.kind == "class":
            return None
        return self.script

    def editable(self, path: str) -> bool:
        """Whether a file may be edited, or made."""
        if path == MANIFEST:
            return False
        return self.edit is None or any(fnmatchcase(path, pattern) for pattern in self.edit)


_OF_BOXES = ("python", "preload", "readable", "environment", "limits")
_SPELT = {"preload": "import"}
_DEFAULTS: dict[str, object] = {
    "argv": (),
    "entry": "",
    "task": "stdin",
    "answer": "stdout",
    "python": None,
    "preload": (),
    "readable": (),
    "environment": {},
    "limits": BoxLimits(),
}


def manifest_of(files: Mapping[str, str], where: str = MANIFEST) -> Manifest:
    """The description in a program's files; the default where there is none.

    Raises:
        UsageError: an `agent.toml` that cannot be used; `where` names it.
    """
    text = files.get(MANIFEST)
    return Manifest() if text is None else _read(text, where)


@lru_cache(64)
def _read(text: str, where: str) -> Manifest:
    try:
        return msgspec.convert(parse_toml(text), Manifest)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{where}: {error}") from None
