"""Chat templates that would take time, memory or text without end: each is one error, and the next template works."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from typing import Any

import pytest

from moevolve.errors import CheckpointError, UsageError
from moevolve.models.rendering.process import renderer
from moevolve.models.template import ChatTemplate

USER = {"role": "user", "content": "hi"}

ENDLESS = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a text that doubles": "{% set n = namespace(t='x' * 9) %}{% for i in range(99) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "a list that doubles": "{% set n = namespace(t=[1]) %}{% for i in range(99) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "a number with zeros": "{{ '%03000000000d' % messages | length }}",
    "a width": "{{ ('%' ~ 3000000000 ~ 'd') % 1 }}",
    "a format": "{{ '{:>3000000000}'.format(messages[0].content) }}",
    "ljust": "{{ messages[0].content.ljust(3000000000) }}",
    "center": "{{ messages[0].content | center(3000000000) }}",
    "zfill": "{{ messages[0].content.zfill(3000000000) }}",
    "expandtabs": "{{ '\t'.expandtabs(3000000000) }}",
    "replace": "{% set x = 'a' * 60000 %}{{ x.replace('a', x) }}",
    "join": "{% set x = 'a' * 60000 %}{{ x.join(range(99999) | map('string')) }}",
    "indent": "{{ [1, 2] | tojson(indent=3000000000) }}",
    "lipsum": "{{ lipsum(n=10000000) }}",
    "slice": "{{ [1] | slice(4000000000) | list }}",
    "batch": "{{ [1] | batch(4000000000, 'x') | list }}",
    "wordwrap": "{{ ('a ' * 500000) | wordwrap(1, wrapstring='b' * 60000) }}",
    "many nested calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "some text too much": "{{ 'a' * 1000000 }}{{ 'a' * 1000000 }}",
    "a long text": "{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())
def test_a_template_ends_within_its_bounds(source: str) -> None:
    with pytest.raises((CheckpointError, UsageError), match="the chat template of m ") as caught:
        ChatTemplate(source, {}, "m").render([USER])
    said = str(caught.value)
    assert "\n" not in said and not said.endswith(": ")
    assert ChatTemplate("{{ messages[0].content }}", {}, "m").render([USER]) == "hi"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in [1] %}" * 25 + "x" + "{% endfor %}" * 25,
        "{% if 1 %}" * 120 + "x" + "{% endif %}" * 120,
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        "{{ " + "-" * 100_000 + "1 }}",
        "{{ " + "[" * 5000 + "]" * 5000 + " }}",
        "{{ '%03000000000d' % 1 }}",
        "{{ 'x'.ljust(3000000000) }}",
        "{{ a" + ".b" * 100_000 + " }}",
        "{% set a = " + " + ".join(["1"] * 100_000) + " %}",
    ],
    ids=[
        "25 loops",
        "120 conditions",
        "parentheses",
        "minus",
        "lists",
        "zeros",
        "ljust",
        "attributes",
        "a sum",
    ],
)
def test_a_template_that_does_not_compile_is_broken(source: str) -> None:
    with pytest.raises((CheckpointError, UsageError), match="the chat template of m ") as caught:
        ChatTemplate(source, {}, "m").render([USER])
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


def test_a_long_conversation_takes_no_part_of_what_a_template_may_use() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", {}, "m")
    texts = [f"{number} words " * 500_000 for number in range(9)]
    shown = template.render([{"role": "user", "content": text} for text in texts])
    assert shown == "".join(texts)


@pytest.mark.parametrize(
    ("content", "shown"), [("\ud800", "\ud800"), ("a\0b", "a\0b"), ("\r\n", "\r\n"), ("😀", "😀")]
)
def test_a_text_comes_through_as_it_is(content: str, shown: str) -> None:
    template = ChatTemplate("{{ messages[0].content }}{{ big }}{{ key }}", {}, "m")
    assert (
        template.render([{**USER, "content": content}], big=2**80, key={1: None})
        == f"{shown}{2**80}{{1: None}}"
    )
    with pytest.raises(UsageError, match="plain values"):
        template.render([USER], big=object())


PARTS = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
READ = {
    "a loop": (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endif %}{% endfor %}"
    ),
    "a macro": (
        "{% macro say(c) %}{% for p in c %}[{{ p['text'] }}]{% endfor %}{% endmacro %}"
        "{% for m in messages %}{{ say(m['content']) }}{% endfor %}"
    ),
    "a name": (
        "{% for m in messages %}{% set c = m.content %}"
        "{% for p in c if p.type == 'text' %}[{{ p.text }}]{% endfor %}{% endfor %}"
    ),
    "a filter": "{{ '[' ~ messages[0].content | map(attribute='text') | join('][') ~ ']' }}",
    "an index": "[{{ messages[0].content[0].text }}][{{ messages[0].content[1]['text'] }}]",
}


@pytest.mark.parametrize("source", READ.values(), ids=READ.keys())
@pytest.mark.parametrize("role", ["user", "tool", "system"])
def test_a_template_that_reads_parts_gets_them(source: str, role: str) -> None:
    assert ChatTemplate(source, {}, "m").render([{"role": role, "content": PARTS}]) == "[A][B]"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content }}",
        "{{ messages[0]['content'] + '' }}",
        "{{ messages[0].content | trim }}",
        "{% if messages[0].content is string %}{{ messages[0].content }}{% endif %}",
        "{% set c = messages[0].content.split('x')[0] %}{{ c }}",
    ],
)
def test_a_template_that_reads_texts_gets_one(source: str) -> None:
    assert ChatTemplate(source, {}, "m").render([{"role": "user", "content": PARTS}]) == "A\nB"


def test_each_message_is_read_by_itself_and_no_text_decides() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'tool' %}{% for p in m.content %}<{{ p.text }}>{% endfor %}"
        "{% else %}{{ m.content + '' }}{% endif %}{% endfor %}"
    )
    printed = [{"type": "text", "text": str(PARTS[0])}]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": PARTS},
        {"role": "tool", "content": PARTS + printed},
        {"role": "user", "content": "C"},
    ]
    assert ChatTemplate(source, {}, "m").render(messages) == f"A\nB<A><B><{PARTS[0]}>C"


def test_threads_and_forks_have_their_own_answers() -> None:
    template = ChatTemplate("{{ messages[0].content * 100 }}", {}, "m")
    found: dict[int, bool] = {}

    def ask(number: int) -> None:
        text = str(number)
        found[number] = all(template.render([{**USER, "content": text}]) == text * 100 for _ in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), True)


def test_a_renderer_that_was_killed_is_started_again() -> None:
    template = ChatTemplate("{{ messages[0].content }}", {}, "m")
    process = renderer._process
    assert process is not None
    process.kill()
    process.wait()
    assert template.render([USER]) == "hi"


def test_the_renderer_ends_with_the_process_that_asked(tmp_path: Any) -> None:
    program = (
        "import os, signal\n"
        "from moevolve.models.template import ChatTemplate\n"
        "from moevolve.models.rendering.process import renderer\n"
        "ChatTemplate('x', {}, 'm')\n"
        "print(renderer._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(1000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if _state(pid) == "Z":
            return
        threading.Event().wait(0.01)
    raise AssertionError("the renderer outlived its process")


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def test_a_limit_of_its_own_binds_the_renderer_too() -> None:
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from moevolve.errors import UsageError\n"
        "from moevolve.models.template import ChatTemplate\n"
        "try:\n"
        "    ChatTemplate(\"{{ 'x'.ljust(messages | length * 9 * 10 ** 8) }}\", {}, 'm').render([{'role': 'a'}] * 9)\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "it takes too much memory" in done.stdout, done.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY
