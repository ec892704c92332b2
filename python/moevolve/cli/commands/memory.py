"""Searches, shows and keeps lessons: a run's, or those of a memory folder that outlives runs.

A run's memory is read only, since `resume` and `replay` recall from it: `export` its lessons and `import` them into a
folder of their own to change what stands there.
"""

from __future__ import annotations

import argparse
import codecs
import sys
from hashlib import blake2b
from pathlib import Path
from typing import get_args

import msgspec

from moevolve.cli import output
from moevolve.config.files import read_bytes, typed
from moevolve.errors import UsageError
from moevolve.journal.lessons import GENERAL, Hit, MemoryStore, Query, Standing, memory_folder
from moevolve.journal.text import line
from moevolve.records import Lesson, LessonKind

WRITER = "person"
"""The writer of what the command line adds."""

MOST = 1 << 30
"""Bytes of a file of lessons."""


class Exported(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of an exported memory."""

    lesson: Lesson
    standing: Standing = Standing()


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("memory", type=Path, metavar="DIR", help="a run's folder, or a memory's own")
    parser.add_argument(
        "action",
        choices=(
            "search",
            "show",
            "add",
            "pin",
            "unpin",
            "forget",
            "purge",
            "stats",
            "check",
            "merges",
            "undo",
            "export",
            "import",
        ),
        help="search TEXT, show|pin|unpin|forget|purge ID, add TEXT, stats, check, export [FILE], import FILE; of a "
        "run merges, which lists lessons that were made one, and undo NAME, which takes one back",
    )
    parser.add_argument(
        "what", nargs="?", metavar="TEXT|ID|FILE", help="what the action is about; - is stdin or stdout"
    )
    parser.add_argument("--skill", metavar="PATH", help="search: this node's lessons; add: where it belongs")
    parser.add_argument("--kind", choices=get_args(LessonKind), help="search: only these; add: what it is")
    parser.add_argument("--source", metavar="NAME", help="search: only this writer's")
    parser.add_argument(
        "--before-cycle", type=int, metavar="N", help="search: the memory as it stood before this cycle"
    )
    parser.add_argument("-k", type=int, default=8, metavar="N", help="search: at most so many (default: 8)")
    parser.add_argument(
        "--confidence", type=float, default=0.0, metavar="C", help="search: nothing that scores less"
    )
    parser.add_argument("--supersedes", metavar="ID", help="add: the lesson that it replaces")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(options: argparse.Namespace) -> int:
    if options.action in ("merges", "undo"):
        return _merges(options) if options.action == "merges" else _undo(options)
    reads = options.action in ("search", "show", "stats", "check", "export")
    with _opened(options.memory, reads=reads, makes=options.action in ("add", "import")) as memory:
        return _ACTIONS[options.action](options, memory)


def _opened(path: Path, *, reads: bool, makes: bool) -> MemoryStore:
    run = (path / "journal").is_dir()
    if run and not reads:
        raise UsageError(
            f"{path} is a run, and what it recalls must stay as it was: "
            f"`moevolve memory {typed(path)} export lessons.jsonl`, then "
            "`moevolve memory DIR import lessons.jsonl`, and change it there"
        )
    folder = memory_folder(path) if run else path
    if not run and not makes and not (folder / "data.mdb").is_file():
        raise UsageError(
            f"{path} is neither a run nor a memory: `moevolve memory {typed(path)} add TEXT` begins one"
        )
    return MemoryStore(folder)


def _merges(options: argparse.Namespace) -> int:
    from moevolve.cli.reading import followed
    from moevolve.records import Consolidated

    with followed(options.memory) as (reader, _):
        records = [reader.entry(seq).record for seq in reader.view.memory.merges.values()]
    found = [record for record in records if isinstance(record, Consolidated)]
    if options.json:
        output.data(found)
        return 0
    for record in found:
        sources = ", ".join(map(line, record.sources))
        print(f"{record.merge}  cycle {record.cycle}  {line(record.skill)}  {record.lesson} of {sources}")
    if not found:
        output.say("no lessons were made one")
    return 0


def _undo(options: argparse.Namespace) -> int:
    from moevolve.cli.asking import taken_back
    from moevolve.loop.run import roll_back

    name = _wanted(options, "the name of a merge: `memory DIR merges` lists them")
    entry = roll_back(options.memory, name)
    if options.json:
        output.data({"change": name, "done": entry is not None})
    else:
        output.say(taken_back(options.memory, name, entry))
    return 0


def _wanted(options: argparse.Namespace, what: str) -> str:
    if options.what is None:
        raise UsageError(f"`memory {options.action}` needs {what}")
    text = sys.stdin.read() if options.what == "-" else options.what
    return str(text)


def _search(options: argparse.Namespace, memory: MemoryStore) -> int:
    if options.k < 1:
        raise UsageError(f"-k {options.k}: at least 1 lesson")
    if options.before_cycle is not None and options.before_cycle < 0:
        raise UsageError(f"--before-cycle {options.before_cycle}: cycles count from 0")
    hits = memory.search(
        Query(
            text=None if options.what is None else _wanted(options, "a text"),
            skill=options.skill,
            kinds=() if options.kind is None else (options.kind,),
            source=options.source,
            before_cycle=options.before_cycle,
            k=options.k,
            confidence=options.confidence,
        )
    )
    if options.json:
        output.data(hits)
        return 0
    for hit in hits:
        print(_row(hit))
    if not hits:
        output.say("no lesson answers that")
    return 0


def _row(hit: Hit) -> str:
    lesson = hit.lesson
    marks = " pinned" if hit.pinned else ""
    return (
        f"{hit.score:5.2f}  {line(lesson.id)}  {line(lesson.skill)}  {lesson.kind}  cycle {lesson.cycle}  "
        f"trust {hit.trust:.2f}{marks}  {line(lesson.text)}"
    )


def _show(options: argparse.Namespace, memory: MemoryStore) -> int:
    lesson, standing = _named(options, memory)
    if options.json:
        output.data(Exported(lesson, standing))
        return 0
    fields = {**msgspec.to_builtins(lesson), **msgspec.to_builtins(standing)}
    for name, value in fields.items():
        if value not in (None, ""):
            print(f"{name:<10} {line(str(value))}")
    return 0


def _named(options: argparse.Namespace, memory: MemoryStore) -> tuple[Lesson, Standing]:
    id = _wanted(options, "a lesson's id")
    lesson, standing = memory.get(id), memory.standing(id)
    if lesson is None or standing is None:
        raise UsageError(f"{options.memory} holds no lesson {id!r}: `search` finds ids")
    return lesson, standing


def _add(options: argparse.Namespace, memory: MemoryStore) -> int:
    from moevolve.memory.admission import admit

    text, skill = _wanted(options, "a text"), options.skill or GENERAL
    lesson = Lesson(
        id=blake2b(f"{skill}/{text}".encode(), digest_size=12).hexdigest(),
        skill=skill,
        level=1,
        text=text,
        prompt="",
        answer="",
        success=True,
        run=WRITER,
        cycle=0,
        variant="",
        kind=options.kind or "fact",
        source=options.source or WRITER,
        supersedes=options.supersedes,
    )
    admit(memory, lesson)
    if options.json:
        output.data(lesson)
    else:
        print(lesson.id)
    return 0


def _stand(options: argparse.Namespace, memory: MemoryStore) -> int:
    lesson, standing = _named(options, memory)
    changes = {"pin": {"pinned": True}, "unpin": {"pinned": False}, "forget": {"forgotten": True}}
    memory.set_standings([(lesson.id, msgspec.structs.replace(standing, **changes[options.action]))])
    return 0


def _purge(options: argparse.Namespace, memory: MemoryStore) -> int:
    memory.purge(_named(options, memory)[0].id)
    return 0


def _stats(options: argparse.Namespace, memory: MemoryStore) -> int:
    told = msgspec.to_builtins(memory.statistics())
    if options.json:
        output.data(told)
        return 0
    for name, value in told.items():
        if value is not None:
            print(f"{name:<11} {value:,}" if isinstance(value, int) else f"{name:<11} {line(str(value))}")
    return 0


def _check(options: argparse.Namespace, memory: MemoryStore) -> int:
    lessons = memory.check()
    if options.json:
        output.data({"lessons": lessons})
    else:
        print(f"{lessons:,} lessons, and all indices agree with them")
    return 0


def _export(options: argparse.Namespace, memory: MemoryStore) -> int:
    lines = (
        msgspec.json.encode(Exported(lesson, memory.standing(lesson.id) or Standing())) + b"\n"
        for lesson in memory.all()
    )
    if options.what in (None, "-"):
        for encoded in lines:
            sys.stdout.buffer.write(encoded)
        return 0
    try:
        with Path(options.what).open("xb") as file:
            file.writelines(lines)
    except FileExistsError:
        raise UsageError(f"{options.what} exists: choose another file, or remove it") from None
    return 0


def _import(options: argparse.Namespace, memory: MemoryStore) -> int:
    from moevolve.memory.imports import take_in

    if options.what is None:
        raise UsageError("`memory import` needs a file of exported lessons, or - for stdin")
    try:
        raw = sys.stdin.buffer.read() if options.what == "-" else read_bytes(options.what, MOST)
    except OSError as error:
        raise UsageError(f"{options.what} cannot be read: {error.strerror}") from None
    decoder = msgspec.json.Decoder(Exported)
    read: list[Exported] = []
    for number, text in enumerate(raw.removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        if not text.strip():
            continue
        try:
            read.append(decoder.decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"{options.what}, line {number}: {error}") from None
    refused = take_in(memory, [(exported.lesson, exported.standing) for exported in read])
    for reason in refused:
        output.say(f"moevolve: not taken: {reason}")
    taken = len(read) - len(refused)
    if options.json:
        output.data({"taken": taken, "refused": len(refused)})
    else:
        print(f"{taken:,} lessons taken, {len(refused):,} refused")
    return 0


_ACTIONS = {
    "search": _search,
    "show": _show,
    "add": _add,
    "pin": _stand,
    "unpin": _stand,
    "forget": _stand,
    "purge": _purge,
    "stats": _stats,
    "check": _check,
    "export": _export,
    "import": _import,
}
