"""Suites of a user's own: a folder, or a Python file that defines skills.

- `suite.toml`: name, summary, answers, levels, splits, skills, tools, limits, MCP servers (`suite_file`); all optional.
- `tasks.jsonl`: {"id", "skill", "level", "prompt" | "messages", "answer", ...}, a line each; the check gets all of it.
- `tools.py`: functions that programs may call, such as `def weather(city: str) -> str`.
- `files/`: what tasks put into the workspace of an agent that has one: `"files": "name"` in a task's line.
- `environment.py`: a class of `mv.Environment`, for tasks of many turns whose end state decides.
- `check.py`: `def check(task, answer, workspace) -> float | bool | Verdict`, where no gold answer decides.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from moevolve.config.files import read_text, typed
from moevolve.errors import UsageError
from moevolve.journal.folders import paths_in
from moevolve.protocol.messages import Message
from moevolve.tasks import registry
from moevolve.tasks.checks import TASKS, Check, check_files, check_of
from moevolve.tasks.environment import Environment, kinds_in
from moevolve.tasks.files import FOLDER, TaskFiles, files_of
from moevolve.tasks.installed import installed, located
from moevolve.tasks.listed import listed
from moevolve.tasks.modules import imported
from moevolve.tasks.skill import Skill, check_path
from moevolve.tasks.splits import SPLITS
from moevolve.tasks.suite import SUITES, Suite, nearest, register
from moevolve.tasks.suite_file import SkillSection, SuiteFile, suite_file
from moevolve.tasks.task import Match, Task, WorkspaceCheck

SETTINGS, CHECK, TOOLS = "suite.toml", "check.py", "tools.py"
ENVIRONMENT, SKILLS = "environment.py", "skills.py"

MOST_FILES = 10_000
MOST_BYTES = 64 << 20
"""Of a suite's folder, which every run on it keeps a copy of."""

_WORDS = re.compile(r"[^a-z0-9_]+")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `tasks.jsonl`; further keys are allowed and reach the check."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    skill: str = ""
    level: Annotated[int, Meta(ge=1, le=64)] = 1
    prompt: Annotated[str, Meta(min_length=1)] | None = None
    messages: Annotated[tuple[Message, ...], Meta(min_length=1)] | None = None
    answer: str | None = None
    files: str = ""
    """A folder or a file in the suite's `files`, for the workspace."""


def load(source: Path, name: str | None = None) -> Suite:
    """The suite in a folder or a Python file.

    Args:
        source: the folder or file.
        name: what a suite is called that gives itself no name; None for the folder's own name.

    Raises:
        UsageError: no suite is there, or something in it cannot be used; names file and line.
    """
    source = Path(source)
    if source.is_dir() and (source / TASKS).is_file():
        return _folder(source, name)
    if source.is_dir() and len(modules := sorted(source.glob("*.py"))) == 1:
        source = modules[0]
    if source.is_file() and source.suffix == ".py":
        return _module(source)
    if not source.exists():
        raise UsageError(
            f"there is no suite at {source}: `moevolve init suite {typed(source)}` writes one to start from, and "
            f"{', '.join([*SUITES, *installed()])} are there already"
        )
    raise UsageError(
        f"{source} is no suite: it holds no {TASKS}, and is no Python file that defines skills with @mv.skill"
    )


def digest(source: Path, but: Sequence[str] = ()) -> str:
    """Content hash (BLAKE2b-128, hex) of a suite's files, by name; those named `but` are left out.

    Raises:
        UsageError: too many files or bytes, or a link that leads out of the folder.
    """
    hashed = hashlib.blake2b(digest_size=16)
    for name, file in _files(source):
        if name in but:
            continue
        for part in (name.encode("utf-8", "surrogateescape"), file.read_bytes()):
            hashed.update(len(part).to_bytes(8, "little"))
            hashed.update(part)
    return hashed.hexdigest()


def answer_files(suite: Suite) -> list[Path]:
    """The files of this machine that say what the answers to a suite's tasks are: in its folder, in a run's copy of it where
    that has its check, and in packages that offer suites."""
    folders = {check.folder for check in check_files(suite.skills.values())}
    if suite.folder != Path():
        folders.add(suite.folder)
    for name in installed():
        with suppress(UsageError):  # One that cannot be opened is nobody's suite.
            if (path := located(name)) is not None:
                folders.add(path)
    return sorted(file.resolve() for folder in folders if (file := folder / TASKS).is_file())


def copy(source: Path, into: Path) -> None:
    """Copies a suite's files into the folder `into`; errors as of `digest`."""
    for name, file in _files(source):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # With its permissions: a suite may start programs of its own.
        shutil.copy(file, target)


def opened(source: Path, name: str | None = None) -> tuple[Suite, str]:
    """The suite at `source`, as of `load`, with its digest; `moevolve.tasks.suite.suite` knows it from now on.

    Raises:
        UsageError: as of `load` and `digest`.
    """
    content = digest(source)
    suite = load(source, name)
    register(suite, content)
    return suite, content


def of_user() -> Path | None:
    """The file of the suite `user`: what defines the skills that this program registered, or, where it registered none, the
    working folder's `skills.py`; None where they are this program's alone, or there are none."""
    if registry.registered():
        return registry.source()
    return file if (file := Path(SKILLS)).is_file() else None


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    source = Path(source)
    if source.is_file():
        yield source.name, source
        return
    root, size = source.resolve(), 0
    names = sorted(
        path.relative_to(source).as_posix() for path in paths_in(source, hidden=FOLDER) if path.is_file()
    )
    if len(names) > MOST_FILES:
        raise UsageError(f"{source} holds {len(names)} files; a suite has at most {MOST_FILES}")
    for name in names:
        file = source / name
        if not file.resolve().is_relative_to(root):
            raise UsageError(f"{file} leads out of the suite's folder: copy what it leads to into the folder")
        size += file.stat().st_size
        if size > MOST_BYTES:
            raise UsageError(
                f"{source} holds more than {MOST_BYTES >> 20} MiB, and every run on a suite keeps a copy of it"
            )
        yield name, file


# ---------------------------------------------------------------------- a folder


def _folder(source: Path, called: str | None) -> Suite:
    settings = suite_file(source / SETTINGS)
    name = settings.name or called or _WORDS.sub("_", source.resolve().name.lower()).strip("_") or "suite"
    check, world = check_of(source / CHECK), _environment(source / ENVIRONMENT)
    if check is not None and world is not None:
        raise UsageError(
            f"{source} has a {CHECK} and an {ENVIRONMENT}: an environment's `score` judges its tasks"
        )
    tasks: dict[str, dict[int, list[Task]]] = {}
    known: dict[str, int] = {}
    for line, row, fields in _rows(source / TASKS):
        path = _path(row.skill, name, f"{source / TASKS}:{line}")
        if check is None and world is None and row.answer is None:
            raise UsageError(
                f"{source / TASKS}:{line}: task {row.id!r} has no `answer`, and there is no {CHECK} to judge one"
            )
        files = files_of(source, row.files, f"{source / TASKS}:{line}")
        task = _task(row, fields, check, files, world, settings.match)
        if (same := known.setdefault(task.identity, line)) != line:
            raise UsageError(
                f"{source / TASKS}:{line}: it asks what line {same} asks: a task counts once, and lies in one split"
            )
        tasks.setdefault(path, {}).setdefault(row.level, []).append(task)
    if settings.levels is not None:
        tasks = {path: _within(levels, settings.levels, path, source) for path, levels in tasks.items()}
    if unknown := sorted(set(settings.skills) - set(tasks)):
        raise UsageError(
            f"{source / SETTINGS}: no task is of skill {unknown[0]!r}{nearest(unknown[0], tasks)}"
        )
    for path, section in settings.skills.items():
        if unknown := sorted(set(section.requires) - set(tasks)):
            raise UsageError(
                f"{source / SETTINGS}: {path} requires {unknown[0]!r}, and no task is of it{nearest(unknown[0], tasks)}"
            )
    skills = [_skill(path, levels, settings, source) for path, levels in sorted(tasks.items())]
    return Suite(
        name,
        skills,
        answers=settings.answers,
        tools=_tools(source, settings),
        servers=settings.mcp,
        limits=settings.limits.given(),
        folder=source.resolve(),
        environments=None if world is None else source / ENVIRONMENT,
        requires={path: section.requires for path, section in settings.skills.items() if section.requires},
    )


def _within(
    levels: Mapping[int, list[Task]], chosen: tuple[int, int], path: str, source: Path
) -> dict[int, list[Task]]:
    """The tasks of the levels that a suite has."""
    low, high = chosen
    found = {level: tasks for level, tasks in levels.items() if low <= level <= high}
    if not found:
        raise UsageError(
            f"{source / SETTINGS}: levels: skill {path} has no task of level {low} to {high}, but of "
            f"{', '.join(map(str, sorted(levels)))}"
        )
    return found


def _tools(source: Path, settings: SuiteFile) -> list[Path]:
    """The files of tools: those that `tools` names, or `tools.py` where it is left out and the file is there."""
    if settings.tools is None:
        return [_plain(source / TOOLS)] if (source / TOOLS).exists() else []
    if settings.tools and settings.answers == "policy":
        raise UsageError(
            f'{source / SETTINGS}: tools: with answers = "policy" answers are plans, which call no tools'
        )
    files = []
    for name in settings.tools:
        file = source / name
        if not file.resolve().is_relative_to(source.resolve()) or file.suffix != ".py" or not file.is_file():
            raise UsageError(f"{source / SETTINGS}: tools: {name!r} is no Python file in the suite's folder")
        files.append(file)
    return files


def _rows(file: Path) -> Iterator[tuple[int, Row, dict[str, Any]]]:
    ids: dict[str, int] = {}
    try:
        # Split at line feeds alone, since JSON may hold U+2028 as it is.
        lines = read_text(file, MOST_BYTES).split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            row = msgspec.json.decode(line, type=Row)
            fields = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise UsageError(f"{where}: {error}") from None
        except RecursionError:
            raise UsageError(f"{where}: it is nested too deep") from None
        if (row.prompt is None) == (row.messages is None):
            raise UsageError(f"{where}: a task has either `prompt` or `messages`")
        if row.messages is not None and row.messages[-1].role != "user":
            raise UsageError(
                f"{where}: `messages` end with the user's, not with the {row.messages[-1].role}'s"
            )
        if row.id in ids:
            raise UsageError(
                f"{where}: its id is that of line {ids[row.id]}: a task counts once, and lies in one split"
            )
        ids[row.id] = number
        yield number, row, fields
    if not ids:
        raise UsageError(f"{file} holds no task")


def _path(skill: str, suite: str, where: str) -> str:
    path = skill if "/" in skill else f"{suite}/{skill or 'tasks'}"
    try:
        return check_path(path)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _task(
    row: Row,
    fields: dict[str, Any],
    check: Check | None,
    files: TaskFiles | None,
    world: type[Environment] | None,
    match: Match,
) -> Task:
    messages = row.messages or ()
    prompt = row.prompt if row.prompt is not None else messages[-1].content
    grade = None if check is None else WorkspaceCheck(check, fields)
    return Task(
        prompt=prompt,
        answer=row.answer,
        match=match,
        grade=grade,
        messages=messages,
        fields=fields,
        files=files,
        environment=world,
    )


def _skill(path: str, levels: Mapping[int, list[Task]], settings: SuiteFile, source: Path) -> Skill:
    low, high = min(levels), max(levels)
    needed = sum(share > 0 for share in settings.splits.values())
    for level in range(low, high + 1):
        count = len(levels.get(level, ()))
        if count < needed:
            raise UsageError(
                f"{source / TASKS}: skill {path} has {count} task{'s' * (count != 1)} of level {level}, of {needed} needed: "
                f"one for each of {', '.join(SPLITS)}; leave `level` out to have one level"
            )
    tasks = listed(levels, settings.splits)
    said = settings.skills.get(path, SkillSection()).summary or settings.summary
    return Skill(
        path=path,
        summary=said or path.rpartition("/")[2].replace("_", " "),
        generator=tasks.generate,
        levels=(low, high),
        listed=tasks,
    )


def _environment(file: Path) -> type[Environment] | None:
    """The one environment that a suite's `environment.py` defines; None where there is no such file.

    Raises:
        UsageError: the file cannot be imported, or defines none or several.
    """
    if not file.exists():
        return None
    kinds = [kind for kind in kinds_in(imported(file)).values() if kind.__module__ == file.stem]
    if len(kinds) != 1:
        raise UsageError(f"{file} defines {len(kinds) or 'no'} classes of mv.Environment: it takes one")
    return kinds[0]


# ---------------------------------------------------------------------- a Python file


def _module(file: Path) -> Suite:
    before = {skill.path: skill for skill in registry.registered()}
    defined = imported(file)
    suites = [value for value in defined.values() if isinstance(value, Suite)]
    if len(suites) == 1:
        return suites[0]
    own = [skill for skill in registry.registered() if before.get(skill.path) is not skill]
    if not own:
        raise UsageError(
            f'{file} defines no skill: decorate a function (rng, level) -> mv.Task with @mv.skill("a/path")'
        )
    return Suite("user", own, environments=file if kinds_in(defined) else None, requires=registry.requires())


def _plain(file: Path) -> Path:
    if not file.is_file():
        raise UsageError(f"{file}: is not a plain file")
    return file


__all__ = ["CHECK", "SETTINGS", "TASKS", "SuiteFile", "copy", "digest", "imported", "load", "opened"]
