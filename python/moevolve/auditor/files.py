"""The files of a run: the seal, the weights, the champion's program, the settings, and what does not belong there."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import msgspec
from blake3 import blake3

from moevolve.auditor.findings import Findings
from moevolve.auditor.settings import Settings

SEAL = "SEAL"
FOLDERS = ("journal", "weights", "program", "suite", "agent", "evaluator", "model")
LOCKS = ("journal/lock.mdb", "journal/writer.lock")
BESIDE = ("run.toml", "estimate.json")
SLOTS = 72 * 64
"""Bytes of LMDB's lock file that its header and 64 readers at a time use."""
LARGEST = 1 << 24
"""Bytes of a seal, and of the settings, that are read at most."""

_HEAD = re.compile(
    r"# Moevolve's seal [^\n]*\n# head (?P<head>[0-9a-f]{64})\n# entries (?P<entries>[0-9]+)\n"
    r"(?P<files>(?:[0-9a-f]{64}  [^\n]+\n)*)"
    r"# seal (?P<seal>[0-9a-f]{64})\n"
)


class SealFigures(msgspec.Struct, kw_only=True):
    """A run's seal in the report."""

    present: bool = False
    intact: bool = False
    files: int = 0
    bytes: int = 0
    uncovered: list[str] = []
    """Files inside the run that no digest covers."""


class Seal(msgspec.Struct, frozen=True):
    """What a seal says."""

    head: str
    entries: int
    digests: dict[str, str]


def check_seal(run: Path, findings: Findings) -> tuple[Seal | None, SealFigures]:
    """Compares every file with the seal; None where there is none, or it cannot be believed."""
    figures = SealFigures(uncovered=[name for name in LOCKS if (run / name).exists()])
    if not (run / SEAL).exists():
        figures.uncovered = _inside(run)
        return None, figures
    figures.present = True
    data = _read(run / SEAL)
    # Strictly: a seal in which a single byte was changed is none.
    text = data.decode("utf-8", "surrogateescape")
    found = _HEAD.fullmatch(text)
    body, _, _ = text.rpartition("# seal ")
    if found is None or hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest() != found["seal"]:
        findings.mismatch("seal", SEAL, "the seal itself was changed: its own digest is another")
        figures.uncovered = _inside(run)
        return None, figures
    digests = {line[66:]: line[:64] for line in found["files"].splitlines()}
    figures.files = len(digests)
    for name, digest in digests.items():
        path = run / name
        if not path.is_file():
            findings.mismatch("seal", name, "the file is sealed and missing")
            continue
        figures.bytes += path.stat().st_size
        if _sha256(path) != digest:
            findings.mismatch("seal", name, "the file was changed after the run was sealed")
    for name in _inside(run):
        if "/__pycache__/" in name:
            figures.uncovered.append(name)
        elif name not in digests and name not in LOCKS:
            findings.mismatch("seal", name, "the file came after the run was sealed")
    if not _locks_are_plain(run):
        findings.mismatch("seal", "journal", "the lock files hold what no reader or writer puts there")
    figures.intact = not findings.of("seal")
    return Seal(found["head"], int(found["entries"]), digests), figures


def check_weights(run: Path, named: Mapping[str, str | None], findings: Findings, *, finished: bool) -> int:
    """Compares weights with the hashes that variants have on record; returns how many were compared.

    Args:
        run: the run's folder.
        named: weights -> hash of their file's bytes, None where an older version recorded none.
        findings: takes what is wrong.
        finished: whether the run has; a killed one may have written weights before their record.
    """
    folder = run / "weights"
    compared = unrecorded = 0
    for weights, digest in named.items():
        path = folder / f"{weights}.safetensors"
        where = f"weights/{path.name[:16]}…"
        if not path.is_file():
            if digest is not None:
                findings.mismatch("weights", where, "the file of a recorded variant is missing")
            continue
        fault = _layout(path)
        if fault is not None:
            findings.mismatch("weights", where, fault)
        if digest is None:
            unrecorded += 1
        else:
            compared += 1
            if blake3().update_mmap(path).hexdigest() != digest:
                findings.mismatch("weights", where, "its bytes have another hash than the one on record")
    if unrecorded:
        findings.note(
            "weights",
            "weights",
            f"{unrecorded} files have no hash on record (an older version); their layout was checked",
        )
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix != ".safetensors" or path.stem not in named:
                say = findings.finding if finished else findings.note
                say("files", f"weights/{path.name}", "no variant on record has these weights")
    return compared


def check_program(
    run: Path, champion: Mapping[str, str] | None, findings: Findings, *, finished: bool
) -> None:
    """Compares the folder `program` with the champion's program; a run that was killed may not have written it yet."""
    folder = run / "program"
    say = findings.mismatch if finished else findings.note
    if champion is None or not champion:
        return
    if not folder.is_dir():
        say("files", "program", "the folder is missing")
        return
    there = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir() and "__pycache__" not in path.parts
    }
    for name in sorted(champion.keys() | there):
        if name not in champion:
            say("files", f"program/{name}", "the champion has no such file")
        elif name not in there:
            say("files", f"program/{name}", "the champion's file is missing")
        elif (folder / name).read_bytes() != champion[name].encode("utf-8", "surrogatepass"):
            say("files", f"program/{name}", "it is not the champion's")


def check_settings(run: Path, settings: Settings, findings: Findings, *, schema: int) -> None:
    """Compares `run.toml` with the recorded configuration."""
    path = run / "run.toml"
    if not path.is_file():
        findings.mismatch("settings", "run.toml", "the file is missing")
        return
    try:
        differing = settings.differing(path)
    except (OSError, ValueError, RecursionError) as error:
        findings.mismatch("settings", "run.toml", f"it cannot be read: {error}")
        return
    if differing and schema < 3:
        findings.note(
            "settings", "run.toml", f"an older version wrote it; it differs in {', '.join(differing)}"
        )
    elif differing:
        findings.mismatch("settings", "run.toml", f"it differs from the record in {', '.join(differing)}")


def _locks_are_plain(run: Path) -> bool:
    """Whether the lock files, which no digest can cover, are what a few readers and a writer leave: a process's number,
    and slots of readers at the beginning of a file of zeros."""
    readers, writer = (run / name for name in LOCKS)
    if readers.is_file() and any(readers.read_bytes()[SLOTS:]):
        return False
    return not writer.is_file() or re.fullmatch(rb"[0-9]{1,10} *\n", writer.read_bytes()) is not None


def _inside(run: Path) -> list[str]:
    inside = [path for folder in FOLDERS for path in (run / folder).rglob("*") if not path.is_dir()]
    beside = [path for name in BESIDE if (path := run / name).exists()]
    return sorted(path.relative_to(run).as_posix() for path in inside + beside)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _layout(path: Path) -> str | None:
    """What is wrong with a safetensors file: tensors side by side without gaps, as long as their shapes say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            return "it is no whole safetensors file"
        header = file.read(length)
    try:
        tensors = json.loads(header)
        tensors.pop("__metadata__", None)
        reached = 0
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
            low, high = tensor["data_offsets"]
            values = 1
            for extent in tensor["shape"]:
                values *= extent
            if tensor["dtype"] != "F32" or low != reached or high - low != 4 * values:
                return f"tensor {name!r} is not where, or not what, its header says"
            reached = high
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its header cannot be read: {error}"
    return None if reached == size - 8 - length else "it is longer than its tensors"
