"""The process that renders chat templates: requests on its standard input, texts on its output.

It is started by its path, without site packages: what it knows is the standard library and, by a path that it is told,
Jinja. A request is a length and a marshalled value: the folders to import from and the memory to leave, then (source,
variables), variables None to compile alone. An answer is a letter, a length and so many bytes of UTF-8.
"""

from __future__ import annotations

import json
import marshal
import resource
import signal
import struct
import sys
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

TEXT, BROKEN, REFUSED, FAILED = b"t", b"b", b"r", b"f"
"""What an answer is: the text, why the source is no template, or why it has none for these variables."""

ASKED = struct.Struct("<Q")
"""The length of a request."""
HEAD = struct.Struct("<cQ")
"""The letter and the length of an answer."""
SHARE = 16
"""Bytes of memory that each byte of a request may take beside what every request may."""
TIMES = 4
"""Bytes of text that each byte of a request may become."""

SECONDS = 2
"""Processor time of a request: the system ends the process after it."""
LARGEST_TEXT = 1 << 20
"""Bytes of a text beside the conversation's: what reads it next takes some hundred bytes of memory for each."""
LARGEST_POWER = 4096
"""Bits that `**` may make."""
LARGEST_REPEAT = 1 << 20
"""Characters or items that `*` may make."""
KEPT = 32
"""Compiled templates that are kept."""


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers requests until there are no more."""
    (folders, memory), _ = _request(requests)
    sys.path[:0] = folders
    from jinja2 import TemplateError  # Imported before the memory is counted.

    environment()
    while True:
        try:
            (source, variables), size = _request(requests)
        except EOFError:
            return
        _bound(memory + SHARE * size)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        letter, text = _answer(source, variables, TemplateError)
        most = LARGEST_TEXT + TIMES * size
        if len(text) > most:
            letter, text = FAILED, f"it writes more than {most} bytes".encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(HEAD.pack(letter, len(text)))
        answers.write(text)
        answers.flush()


def _request(requests: IO[bytes]) -> tuple[Any, int]:
    """A request and its size."""
    head = requests.read(ASKED.size)
    if len(head) < ASKED.size:
        raise EOFError
    (size,) = ASKED.unpack(head)
    return marshal.loads(requests.read(size)), size


def _bound(memory: int) -> None:
    """Leaves so many bytes beside what is in use; no file can be written, and no core."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    for what in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(what, (0, 0))


def _answer(source: str, variables: dict[str, Any] | None, refusals: Any) -> tuple[bytes, bytes]:
    try:
        template = compiled(source)
    except refusals as error:
        return BROKEN, _said(f"line {getattr(error, 'lineno', 1)}: {error.message}")
    except RecursionError:
        return BROKEN, b"it is nested too deep"
    except SyntaxError as error:
        # Python's own words: Jinja makes a function of a template, and Python nests no more than twenty loops.
        return BROKEN, _said(f"it is nested too deep, or not as Python can run it ({error.msg})")
    except MemoryError:
        return BROKEN, b"it takes too much memory"
    except Exception as error:  # noqa: BLE001  constants are computed while a stranger's code is compiled
        return BROKEN, _said(str(error) or type(error).__name__)
    if variables is None:
        return TEXT, b""
    try:
        return TEXT, _said(template.render(variables))
    except refusals as error:
        return REFUSED, _said(str(error.message))
    except MemoryError:
        return FAILED, b"it takes too much memory"
    except Exception as error:  # noqa: BLE001  a stranger's code may raise anything
        return FAILED, _said(str(error) or type(error).__name__)


def _said(text: str) -> bytes:
    """A text whose characters may be halves."""
    return text.encode("utf-8", "surrogatepass")


@lru_cache(KEPT)
def compiled(source: str) -> jinja2.Template:
    """A template in the settings that transformers gives it.

    Raises:
        jinja2.TemplateSyntaxError: it is none.
    """
    return environment().from_string(source)


@lru_cache(1)
def environment() -> jinja2.Environment:
    """Jinja's immutable sandbox with the few functions that templates are written for."""
    from jinja2 import nodes, runtime, utils
    from jinja2.exceptions import SecurityError, TemplateRuntimeError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationTag(Extension):
        """`{% generation %}` marks assistant text for training masks; here its body counts and the mark does not."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)  # what is set inside stays there

    class Sandbox(ImmutableSandboxedEnvironment):
        """A sandbox in which a product or a power says so before it fills the memory."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: runtime.Context, operator: str, left: Any, right: Any) -> Any:
            if too_large(operator, left, right):
                raise SecurityError(f"{operator} makes too large a value")
            return super().call_binop(context, operator, left, right)

    class Namespace(utils.Namespace):
        """`namespace()` without names that reach into Python."""

        def __init__(*args: Any, **values: Any) -> None:
            given = dict(*args[1:], **values)
            for name in given:
                outside_python(name)
            utils.Namespace.__init__(args[0], given)

        def __setitem__(self, name: str, value: Any) -> None:
            outside_python(name)
            super().__setitem__(name, value)

    def outside_python(name: object) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"a namespace of a chat template may not hold {name!r}")

    def raise_exception(message: object) -> None:
        raise TemplateRuntimeError(str(message))

    made = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
    made.filters["tojson"] = _to_json
    made.globals.update(
        raise_exception=raise_exception,
        strftime_now=_strftime_now,
        dict=_Dict(),
        namespace=Namespace,
    )
    return made


def too_large(operator: str, left: Any, right: Any) -> bool:
    """Whether a product or a power is one that nobody needs."""
    if operator == "**":
        whole = isinstance(left, int) and isinstance(right, int)
        return whole and left.bit_length() * right > LARGEST_POWER
    rows = (str, list, tuple)
    sizes = [len(x) if isinstance(x, rows) else x for x in (left, right)]
    repeats = isinstance(left, rows) or isinstance(right, rows)
    return repeats and all(isinstance(x, int) for x in sizes) and sizes[0] * sizes[1] > LARGEST_REPEAT


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


class _Dict:
    """`dict` without what leads from it into Python."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers' filter: Jinja's own escapes HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
