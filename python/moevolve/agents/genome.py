"""A program as a value: a small folder of text files, named by the hash of its content.

Python files are its modules, `solve.py` the one that answers; any other text, a prompt for instance, it reads as
`agent.files[path]`. `agent.toml` says what may be edited; it never changes itself.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from moevolve.agents.box.stages import stages_of
from moevolve.agents.manifest import MANIFEST, manifest_of
from moevolve.config.files import typed
from moevolve.errors import UsageError
from moevolve.journal.folders import paths_in
from moevolve.records import Edit, Struct

SEED_FILES = ("improve.py", "learn.py", "solve.py")
SELECTOR = "select_parent.py"
"""Which variant is changed next, where the run leaves that to its programs."""
BESIDE = ("improve.py", "learn.py", SELECTOR)
"""Files of a function that answer no task."""
MOST_FILES = 64
MOST_CHARACTERS = 64 << 10
"""Of one file."""
MOST_TOGETHER = 512 << 10
"""Characters of all files."""

LONGEST_PATH = 120
"""Characters of a file's path, and twice as many bytes."""
DEEPEST = 6
"""Names in a path."""
BARRED = frozenset('\\:*?"<>|[]')
"""Characters that mean something in patterns, or nothing on some machines."""
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_RESERVED = {"agent", "apart", "boot", "codec", "contract", "loader", "operators", "plan", "rounds", "worker"}
"""Modules that stand beside a program's."""
_NEEDED = {"random", "bisect", "genericpath", "itertools", "math", "operator", "os", "posixpath", "warnings"}
"""Modules of the standard library that `agent.rng` is made of, where a program's own would be taken for them."""


class Genome(Struct, frozen=True):
    """The source of a program, by file name."""

    files: dict[str, str]

    @property
    def hash(self) -> str:
        """Content hash (BLAKE2b-256, hex) over the files in order of name."""
        digest = hashlib.blake2b(digest_size=32)
        for path, text in sorted(self.files.items()):
            for part in (path, text):
                data = part.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "little"))
                digest.update(data)
        return digest.hexdigest()

    def edited(self, edits: Sequence[Edit]) -> Genome:
        """The program after `edits`.

        Raises:
            UsageError: a file name or size that no program may have, or a file that this one's `agent.toml` freezes.
        """
        for edit in edits:
            if not manifest_of(self.files).editable(edit.path):
                raise UsageError(f"{edit.path} is frozen: `edit` in {MANIFEST} does not name it")
        changed = self.files | {edit.path: edit.text for edit in edits}
        fault = unusable(changed)
        if fault:
            raise UsageError(fault)
        return Genome(files=dict(sorted(changed.items())))

    def write(self, folder: Path) -> None:
        """Makes `folder` hold exactly this program's files."""
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.rglob("*"):
            if not stale.is_dir() and stale.relative_to(folder).as_posix() not in self.files:
                stale.unlink()
        for path, text in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8", newline="")

    def diff(self, other: Genome) -> str:
        """Unified diff from this program to `other`; empty if they are the same."""
        lines: list[str] = []
        for path in sorted(self.files.keys() | other.files.keys()):
            # Other ends than `\n` are no ends to programs that read diffs, and a blank would end a name.
            before, after = (_LINE.findall(each.files.get(path, "")) for each in (self, other))
            end = "\t" if " " in path else ""
            lines += difflib.unified_diff(before, after, f"a/{path}{end}", f"b/{path}{end}")
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
        )


def unusable(program: Mapping[str, str]) -> str | None:
    """Why these files cannot be a program, in words; None if they can."""
    if len(program) > MOST_FILES:
        return f"a program has at most {MOST_FILES} files, this one has {len(program)}"
    if (together := sum(map(len, program.values()))) > MOST_TOGETHER:
        return f"a program has at most {MOST_TOGETHER} characters, this one has {together}"
    boxed = _boxed(program)
    folders: set[str] = set()
    names: set[str] = set()
    for path, text in program.items():
        module = "" if boxed else path.partition("/")[0].removesuffix(".py").lower()
        if module in _RESERVED:
            return f"a program's file cannot be called {path!r}: a module of that name stands beside it"
        if module in _NEEDED and path.endswith(".py"):
            return f"a program's file cannot be called {path!r}: `agent.rng` needs the standard library's {module}"
        if (why := misnamed(path)) is not None:
            return f"a program's file cannot be called {path!r}: {why}"
        folders |= {path[:at].casefold() for at, letter in enumerate(path) if letter == "/"}
        if path.casefold() in names:
            return f"two files differ in case alone: {path!r}"
        names.add(path.casefold())
        if "\0" in text:
            return f"{path} holds NUL characters"
        if len(text) > MOST_CHARACTERS:
            return f"{path} has {len(text)} characters, more than {MOST_CHARACTERS}"
    if both := sorted(folders & names):
        return f"{both[0]!r} is a file and a folder"
    try:
        stages_of(program)
    except UsageError as error:
        return str(error)
    return None


def misnamed(path: str) -> str | None:
    """Why a file of a program cannot have this path; None where it can: printable names of any script, with blanks and dots
    inside, that mean the same file on every machine."""
    parts = path.split("/")
    if len(path) > LONGEST_PATH or len(path.encode("utf-8", "surrogatepass")) > 2 * LONGEST_PATH:
        return f"it has more than {LONGEST_PATH} characters, or more than {2 * LONGEST_PATH} bytes"
    if len(parts) > DEEPEST:
        return f"it lies more than {DEEPEST - 1} folders deep"
    for part in parts:
        if not part or part.startswith("."):
            return "it lies outside, or is hidden: no name may be empty or begin with a dot"
        if part != part.strip() or part.endswith("."):
            return "a name may not begin or end with a blank, or end with a dot"
        if not part.isprintable():
            return "it holds characters that cannot be seen"
        if barred := sorted(BARRED & set(part)):
            return f"it holds {barred[0]!r}"
        if unicodedata.normalize("NFC", part) != part:
            return "its letters and their accents are apart: call it by its composed form (NFC)"
    return None


def _boxed(program: Mapping[str, str]) -> bool:
    try:
        return manifest_of(program).boxed
    except UsageError:
        return False


def editable(program: Mapping[str, str], edits: Sequence[Edit]) -> bool:
    """Whether all of `edits` may be made: no file that is frozen, no program that cannot be."""
    manifest = manifest_of(program)
    changed = {edit.path: edit.text for edit in edits}
    return all(map(manifest.editable, changed)) and unusable({**program, **changed}) is None


def load(folder: Path) -> Genome:
    """The program in a folder; what it lacks of `improve.py` and `learn.py` is the seed's, where it is a function.

    Raises:
        UsageError: no folder, no `solve.py`, a file that no program may have, or an `agent.toml` that cannot be used.
    """
    if not folder.is_dir():
        raise UsageError(
            f"there is no agent in {folder}: `moevolve init agent {typed(folder)}` writes one to start from"
        )
    files: dict[str, str] = {}
    for path in paths_in(folder):
        name = path.relative_to(folder)
        if path.is_symlink():
            raise UsageError(f"{path} is a link: copy what it leads to")
        if path.is_dir():
            continue
        if not path.is_file():
            raise UsageError(f"{path} is no plain file: an agent's folder holds nothing else")
        if path.stat().st_size > 4 * MOST_CHARACTERS:
            raise UsageError(
                f"{path} is larger than a file of {MOST_CHARACTERS} characters can be: an agent has none"
            )
        try:
            files[name.as_posix()] = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UsageError(f"{path} is not UTF-8 text: an agent's folder holds nothing else") from None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    manifest = manifest_of(files, str(folder / MANIFEST))
    if manifest.module is not None and manifest.module not in files:
        raise UsageError(f"{folder} has no {manifest.module}: `moevolve init agent` writes an example")
    if not manifest.boxed:
        seed = seed_genome().files
        files = {**{name: seed[name] for name in ("improve.py", "learn.py")}, **files}
    if fault := unusable(files):
        raise UsageError(f"{folder}: {fault}")
    return Genome(files=dict(sorted(files.items())))


@cache
def seed_selector() -> str:
    """The selection that a program begins with which brings none of its own."""
    return (Path(__file__).parent / "seed" / SELECTOR).read_text(encoding="utf-8")


@cache
def seed_genome() -> Genome:
    """The program that every run starts from: it asks once."""
    folder = Path(__file__).parent / "seed"
    return Genome(files={name: (folder / name).read_text(encoding="utf-8") for name in SEED_FILES})
