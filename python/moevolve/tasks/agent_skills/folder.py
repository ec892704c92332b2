"""A skill's folder: `SKILL.md` with its front matter, and the rules of the Agent Skills specification."""

from __future__ import annotations

import json
import re
import unicodedata
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from moevolve.errors import UsageError
from moevolve.journal.text import line

FILE = "SKILL.md"
EXAMPLES = "references/examples.jsonl"
"""Solved tasks of a skill: {"prompt", "answer", "level"}, a line each."""
NAME, DESCRIPTION, COMPATIBILITY = 64, 1024, 500
"""Most characters of the fields of these names."""
FIELDS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
MOST_BYTES = 1 << 20
"""Of a file that is read."""
MOST_FOLDERS = 2000

_DASHES = re.compile("-{3,}")


class SkillFolder(msgspec.Struct, frozen=True, kw_only=True):
    """What a skill's folder says."""

    name: str
    description: str
    body: str
    metadata: dict[str, str] = {}


def faults(front: dict[str, Any], folder: str) -> list[str]:
    """What of a front matter the specification forbids, in words.

    Args:
        front: its fields.
        folder: the name of the folder that holds it.
    """
    found = [
        f"unknown field `{field}`: there are {', '.join(FIELDS)}" for field in front if field not in FIELDS
    ]
    for field, most in (("name", NAME), ("description", DESCRIPTION)):
        value = front.get(field)
        if not isinstance(value, str) or not value.strip():
            found.append(f"`{field}` must be a text that is not empty")
        elif len(value) > most:
            found.append(f"`{field}` has {len(value)} characters, at most {most} are allowed")
    name = front.get("name")
    if isinstance(name, str) and name.strip():
        name = unicodedata.normalize("NFKC", name)
        if name != name.lower() or not all(each.isalnum() or each == "-" for each in name):
            found.append(f"the name {name!r} may hold lower-case letters, digits and hyphens alone")
        if name.startswith("-") or name.endswith("-") or "--" in name:
            found.append(f"the name {name!r} may neither begin nor end with a hyphen, nor have two in a row")
        if name != unicodedata.normalize("NFKC", folder):
            found.append(f"the name {name!r} is not that of its folder, {folder!r}")
    compatibility = front.get("compatibility", "")
    if not isinstance(compatibility, str) or len(compatibility) > COMPATIBILITY:
        found.append(f"`compatibility` must be a text of at most {COMPATIBILITY} characters")
    for field in ("license", "allowed-tools"):
        if not isinstance(front.get(field, ""), str):
            found.append(f"`{field}` must be a text")
    metadata = front.get("metadata", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in metadata.items()
    ):
        found.append("`metadata` must map texts to texts")
    return found


def validate(folder: Path) -> list[str]:
    """What of a skill's folder the specification forbids, in words; empty where it is in order."""
    try:
        front, _ = _parts(folder / FILE)
    except UsageError as error:
        return [str(error)]
    return faults(front, folder.resolve().name)


def read(folder: Path) -> SkillFolder:
    """What a skill's folder says.

    Raises:
        UsageError: there is no `SKILL.md`, or one that the specification forbids.
    """
    front, body = _parts(folder / FILE)
    if found := faults(front, folder.resolve().name):
        raise UsageError(f"{folder / FILE}: {'; '.join(found)}")
    return SkillFolder(
        name=front["name"],
        description=front["description"],
        body=body,
        metadata=front.get("metadata", {}),
    )


def folders(path: Path) -> list[Path]:
    """The skills' folders in `path`, by name; `path` itself where it is one.

    Raises:
        UsageError: there is none, or there are too many.
    """
    if (path / FILE).is_file():
        return [path]
    found = sorted(file.parent for file in path.glob(f"*/{FILE}")) if path.is_dir() else []
    if not found:
        raise UsageError(f"{path} holds no skill: no folder in it has a {FILE}")
    if len(found) > MOST_FOLDERS:
        raise UsageError(f"{path} holds {len(found)} skills; at most {MOST_FOLDERS} are read")
    return found


def text_of(skill: SkillFolder) -> str:
    """The text of a `SKILL.md`. Every value stands as a JSON string, which is YAML as well."""
    lines = [
        "---",
        f"name: {_scalar(skill.name)}",
        f"description: {_scalar(skill.description[:DESCRIPTION])}",
    ]
    if skill.metadata:
        lines.append("metadata:")
        lines += [f"  {key}: {_scalar(value)}" for key, value in skill.metadata.items()]
    return "\n".join([*lines, "---", "", skill.body.strip("\n"), ""])


def fenced(text: str) -> str:
    """Text in a fence that nothing in it closes."""
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * max(3, 1 + max(runs, default=0))
    return f"{fence}\n{text}\n{fence}"


def one_line(text: str, most: int) -> str:
    """Foreign text as one harmless line of at most so many characters, without what would close the front matter."""
    # Some readers take three hyphens anywhere for the end of the front matter.
    return _DASHES.sub("--", line(" ".join(text.split()), most)).strip()


def _scalar(text: str) -> str:
    return json.dumps(_DASHES.sub("--", text), ensure_ascii=False)


def bounded(file: Path) -> str:
    """The text of a file.

    Raises:
        UsageError: there is none, or it is too large or no UTF-8.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(f"{file} is larger than {MOST_BYTES >> 20} MiB")
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _parts(file: Path) -> tuple[dict[str, Any], str]:
    """Front matter and body of a `SKILL.md`."""
    rows = bounded(file).split("\n")
    if rows[0].rstrip() != "---":
        raise UsageError(f"{file} must begin with its front matter, between two lines `---`")
    end = next((at for at, row in enumerate(rows[1:], 1) if row.rstrip() == "---"), None)
    if end is None:
        raise UsageError(f"{file}: no line `---` ends the front matter")
    try:
        yaml: Any = import_module("yaml")
    except ModuleNotFoundError:
        raise UsageError(f"{file} is YAML: pip install 'moevolve[skills]' brings its reader") from None
    try:
        # Scalars stay the texts they are: `name: 123` is a text, and so is `yes`.
        front = yaml.load("\n".join(rows[1:end]), Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{file}: the front matter is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(front, dict):
        raise UsageError(f"{file}: the front matter holds no fields")
    return front, "\n".join(rows[end + 1 :]).strip("\n")
