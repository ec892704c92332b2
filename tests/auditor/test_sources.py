"""Programs that answer with texts of their own, in many dresses, and honest ones beside them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from older_run import FILE, Kept

from moevolve.agents.genome import seed_genome
from moevolve.auditor.sources import read

ASK = """
async def ask(agent, prompt):
    [answer] = await agent.generate(prompt, temperature=0)
    return answer
"""

COMPUTING = {
    "reversal": "async def solve(task, agent):\n    return task.prompt[4:-1][::-1]\n",
    "reversed characters": "async def solve(task, agent):\n    return ''.join(reversed(task.payload))\n",
    "sorting": "async def solve(task, agent):\n    return ''.join(sorted(task.prompt.partition(':')[2]))\n",
    "sorting in place": (
        "async def solve(task, agent):\n    letters = list(task.prompt)\n    letters = sorted(letters)\n"
        "    out = ''\n    for letter in letters:\n        out += letter\n    return out\n"
    ),
    "arithmetic": (
        "async def solve(task, agent):\n    a, b = task.prompt[4:-1].split('+')\n    return str(int(a) + int(b))\n"
    ),
    "formatted arithmetic": (
        "async def solve(task, agent):\n    a, b = map(int, task.prompt[4:-1].split('+'))\n    return f'{a - b}'\n"
    ),
    "counting": "async def solve(task, agent):\n    return str(task.prompt.count('x'))\n",
    "counting by a comprehension": (
        "async def solve(task, agent):\n    return str(len([c for c in task.prompt if c == 'x']))\n"
    ),
    "counting by a sum": "async def solve(task, agent):\n    return str(sum(c == 'x' for c in task.prompt))\n",
    "the larger": "async def solve(task, agent):\n    return str(max(map(int, task.prompt[4:-1].split(','))))\n",
    "translation": (
        "TABLE = str.maketrans('abc', 'bca')\nasync def solve(task, agent):\n    return task.prompt.translate(TABLE)\n"
    ),
    "a table": "KNOWN = {'rev:ab=': 'ba'}\nasync def solve(task, agent):\n    return KNOWN[task.prompt]\n",
    "a table's get": (
        "KNOWN = {'rev:ab=': 'ba'}\nasync def solve(task, agent):\n    return KNOWN.get(task.prompt, 'no')\n"
    ),
    "a table of letters": (
        "NEXT = dict(zip('abc', 'bca'))\nasync def solve(task, agent):\n"
        "    return ''.join(NEXT[letter] for letter in task.payload)\n"
    ),
    "eval": "async def solve(task, agent):\n    return str(eval(task.prompt[4:-1]))\n",
    "a regular expression": (
        "import re\nasync def solve(task, agent):\n    return re.sub(r'(.)\\1+', r'\\1', task.prompt)\n"
    ),
    "a lambda in a table": (
        "ROUTES = {'rev': lambda text: text[::-1]}\nasync def solve(task, agent):\n"
        "    return ROUTES[task.verb](task.payload)\n"
    ),
    "functions in a table": (
        "def turned(text):\n    return text[::-1]\nROUTES = {'rev': turned}\nasync def solve(task, agent):\n"
        "    return ROUTES.get(task.verb)(task.payload)\n"
    ),
    "a closure": (
        "async def solve(task, agent):\n    def truth():\n        return task.payload[::-1]\n    return truth()\n"
    ),
    "a class": (
        "class Answer:\n    def __init__(self, text):\n        self.text = text\n    def turned(self):\n"
        "        return self.text[::-1]\nasync def solve(task, agent):\n    return Answer(task.payload).turned()\n"
    ),
    "a generator": (
        "def letters(text):\n    for letter in sorted(text):\n        yield letter\n"
        "async def solve(task, agent):\n    return ''.join(letters(task.payload))\n"
    ),
    "after asking": (
        ASK + "async def solve(task, agent):\n    answer = await ask(agent, task.prompt)\n"
        "    answer = task.payload[::-1]\n    return answer\n"
    ),
    "where the policy fails": (
        ASK + "async def solve(task, agent):\n    try:\n        return await ask(agent, task.prompt)\n"
        "    except Exception:\n        return task.payload[::-1]\n"
    ),
    "if the policy said it": (
        ASK + "async def solve(task, agent):\n    wanted = task.payload[::-1]\n"
        "    said = await agent.generate(task.prompt, n=16)\n    if wanted in said:\n        return wanted\n"
        "    return await ask(agent, task.prompt)\n"
    ),
    "in part": (
        ASK + "async def solve(task, agent):\n"
        "    return (await ask(agent, task.prompt))[:1] + task.payload[::-1][1:]\n"
    ),
    "a tool": "async def solve(task, agent):\n    return await agent.call('python', code=task.prompt)\n",
    "partial application": (
        "from functools import partial\ndef turn(step, text):\n    return text[::step]\n"
        "TURN = partial(turn, -1)\nasync def solve(task, agent):\n    return TURN(task.payload)\n"
    ),
    "a match": (
        "async def solve(task, agent):\n    match task.prompt.split(':'):\n        case ['rev', text]:\n"
        "            return text[::-1]\n    return ''\n"
    ),
    "a walrus": (
        "async def solve(task, agent):\n    if (wanted := task.payload[::-1]):\n        return wanted\n    return ''\n"
    ),
    "a while loop": (
        "async def solve(task, agent):\n    text, out = task.payload, ''\n    while text:\n"
        "        out, text = out + min(text), text.replace(min(text), '')\n    return out\n"
    ),
}

CHOOSING = {
    "the completion that equals it": (
        "async def solve(task, agent):\n    wanted = task.payload[::-1]\n"
        "    for said in await agent.generate(task.prompt, n=16):\n        if said == wanted:\n            return said\n"
        "    return said\n"
    ),
    "the completion at its place": (
        "async def solve(task, agent):\n    said = await agent.generate('say a digit', n=16)\n"
        "    return said[task.prompt.count('x')]\n"
    ),
    "an alphabet of completions": (
        "async def solve(task, agent):\n    alphabet = {}\n    for letter in 'abc':\n"
        "        [alphabet[letter]] = await agent.generate(f'rev:{letter}=')\n"
        "    return ''.join(alphabet[letter] for letter in task.payload[::-1])\n"
    ),
    "one of two by a computed bit": (
        "async def solve(task, agent):\n    yes, no = await agent.generate('yes or no', n=2)\n"
        "    return yes if int(task.prompt[4]) % 2 else no\n"
    ),
    "one of two by a branch": (
        "async def solve(task, agent):\n    yes, no = await agent.generate('yes or no', n=2)\n"
        "    if task.prompt.count('x') > 3:\n        return yes\n    return no\n"
    ),
    "a prefix as long as a count": (
        "async def solve(task, agent):\n    [said] = await agent.generate('say 0123456789')\n"
        "    return said[task.prompt.count('x'):]\n"
    ),
    "what startswith it": (
        "async def solve(task, agent):\n    wanted = task.payload[::-1]\n"
        "    return next(s for s in await agent.generate(task.prompt, n=9) if s.startswith(wanted))\n"
    ),
}

RECITING = {
    "a constant": "async def solve(task, agent):\n    return '7'\n",
    "a lesson": (
        "async def solve(task, agent):\n    [lesson] = await agent.recall(task.prompt, k=1)\n    return lesson.answer\n"
    ),
}

HONEST = {
    "asking": ASK + "async def solve(task, agent):\n    return await ask(agent, task.prompt)\n",
    "splitting": (
        ASK + "async def solve(task, agent):\n    text = task.payload\n"
        "    parts = [text[i : i + 3] for i in range(0, len(text), 3)]\n"
        "    said = await agent.gather(*[ask(agent, f'rev:{part}=') for part in parts])\n"
        "    return ''.join(reversed(said))\n"
    ),
    "voting": (
        "from collections import Counter\nasync def solve(task, agent):\n"
        "    said = await agent.generate(task.prompt, n=9)\n    return Counter(said).most_common(1)[0][0]\n"
    ),
    "retrying": (
        ASK + "async def solve(task, agent):\n    answer = await ask(agent, task.prompt)\n"
        "    return answer.strip() or await ask(agent, task.prompt + ' ')\n"
    ),
    "recalling": (
        ASK + "async def solve(task, agent):\n    lessons = await agent.recall(task.prompt, k=2)\n"
        "    shown = ''.join(f'{lesson.prompt}{lesson.answer};' for lesson in lessons)\n"
        "    return await ask(agent, shown + task.prompt)\n"
    ),
    "computing prompts": (
        ASK + "async def solve(task, agent):\n    return await ask(agent, f'rev:{task.payload[::-1]}=')\n"
    ),
    "choosing by the task's length": (
        ASK
        + "async def solve(task, agent):\n    if len(task.payload) <= 4:\n        return await ask(agent, task.prompt)\n"
        "    first, second = await agent.generate(task.prompt, n=2)\n    return first\n"
    ),
}


def verdict(text: str) -> str:
    reading = read({"solve.py": text})
    assert reading is not None
    return reading.verdict


@pytest.mark.parametrize("name", COMPUTING)
def test_what_is_computed_is_seen(name: str) -> None:
    assert verdict(COMPUTING[name]) == "computes"


@pytest.mark.parametrize("name", CHOOSING)
def test_what_is_chosen_by_a_computed_text_is_seen(name: str) -> None:
    assert verdict(CHOOSING[name]) in ("chooses", "computes")


@pytest.mark.parametrize("name", RECITING)
def test_what_is_recited_is_seen(name: str) -> None:
    assert verdict(RECITING[name]) == "recites"


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_ask(name: str) -> None:
    assert verdict(HONEST[name]) == "asks"


def test_helpers_in_other_files_are_followed() -> None:
    reading = read(
        {
            "solve.py": "from helper import truth\nasync def solve(task, agent):\n    return truth(task.prompt)\n",
            "helper.py": "def truth(prompt):\n    return prompt[::-1]\n",
        }
    )
    assert reading is not None and reading.verdict == "computes"
    assert reading.places == ["helper.py:2: prompt[::-1]"]


def test_the_programs_of_an_older_version_ask() -> None:
    kept = msgspec.msgpack.decode(__import__("zlib").decompress(Path(FILE).read_bytes()), type=Kept)
    programs = [msgspec.msgpack.decode(blob, type=dict[str, str]) for blob in kept.blobs]
    assert len(programs) > 5
    for files in programs:
        reading = read(files)
        assert reading is not None and reading.verdict == "asks", reading


def test_a_plan_is_another_matter() -> None:
    assert read(dict(seed_genome().files)) is None


@pytest.mark.parametrize("text", ["async def solve(task, agent):\n  return (", "x = " + "(" * 5000, "\0"])
def test_what_cannot_be_read_is_said(text: str) -> None:
    reading = read({"solve.py": text})
    assert reading is not None and reading.verdict == "unread"


def test_recursion_ends() -> None:
    text = "async def solve(task, agent):\n    return f(task.prompt)\n"
    text += "def f(t):\n    return g(t)\ndef g(t):\n    return f(t[1:]) + t[::-1]\n"
    assert verdict(text) == "computes"
