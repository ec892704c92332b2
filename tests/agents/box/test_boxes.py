"""Agents of any kind in boxes of their own: they ask the model over HTTP, and each costs nobody but itself."""

from __future__ import annotations

import gzip
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures"))

from boxed import ASK, PLAIN, Model, answers, boxes, command, host, tasks, total  # noqa: E402
from closing_tools import ClosingTools  # noqa: E402

from moevolve.agents.box.workspace import take  # noqa: E402
from moevolve.agents.genome import Genome  # noqa: E402
from moevolve.agents.host import ProgramHost  # noqa: E402
from moevolve.protocol.requests import PublicTask  # noqa: E402

pytestmark = boxes


@pytest.mark.parametrize("preload", [["http.client", "json"], []], ids=["warm", "cold"])
def test_a_script_reads_a_task_asks_the_model_and_prints_its_answer(preload: list[str]) -> None:
    model = Model()
    outcomes = host().solve(command(preload=preload), tasks(4), model, None, [1, 2, 3, 4])
    assert answers(outcomes) == ["1", "3", "5", "7"]
    assert [(outcome.requests, outcome.tokens) for outcome in outcomes] == [(1, 2)] * 4
    assert len({request.key for request in model.asked}) == 4


def test_a_class_runs_on_a_prompt_and_its_printing_is_no_answer() -> None:
    source = f"{ASK}\nclass Solver:\n    def run(self, prompt):\n        print('thinking')\n        return say(prompt)\n"
    genome = Genome(
        files={
            "agent.toml": 'kind = "class"\nentry = "agent:Solver"\nimport = ["json"]\n',
            "agent.py": source,
        }
    )
    assert answers(host().solve(genome, tasks(2), Model(), None, [1, 2])) == ["1", "3"]


def test_a_coroutine_is_awaited() -> None:
    source = f"{ASK}\nclass Solver:\n    async def run(self, prompt):\n        return say(prompt)\n"
    genome = Genome(files={"agent.toml": 'kind = "class"\nentry = "agent:Solver"\n', "agent.py": source})
    assert answers(host().solve(genome, tasks(1), Model(), None, [1])) == ["1"]


@pytest.mark.parametrize(
    ("task", "read"),
    [
        ("argument", "sys.argv[-1]"),
        ("file:task.txt", "open('task.txt').read()"),
        ("stdin", "sys.stdin.read()"),
    ],
)
def test_the_task_comes_where_the_agent_reads_it(task: str, read: str) -> None:
    genome = command(f"{ASK}\nprint(say({read}))\n", task=task)
    assert answers(host().solve(genome, tasks(1), Model(), None, [1])) == ["1"]


@pytest.mark.parametrize(
    ("answer", "write"),
    [
        ("stdout:last", "print('thinking\\nmore'); print({})"),
        ("file:answer.txt", "print('noise'); open('answer.txt', 'w').write({})"),
    ],
)
def test_the_answer_is_taken_where_the_agent_leaves_it(answer: str, write: str) -> None:
    genome = command(f"{ASK}\n{write.format('say(sys.stdin.read())')}\n", answer=answer)
    assert answers(host().solve(genome, tasks(1), Model(), None, [1])) == ["1"]


def test_another_program_than_python_is_started() -> None:
    toml = 'kind = "command"\nargv = ["/bin/sh", "run.sh"]\n'
    genome = Genome(
        files={"agent.toml": toml, "run.sh": 'read task; echo "heard $task in $PWD as $(id -u)"\n'}
    )
    assert answers(host().solve(genome, tasks(1), Model(), None, [1])) == ["heard 0 + 1 in /box/work as 1000"]


@pytest.mark.parametrize("preload", [["json"], []], ids=["warm", "cold"])
def test_a_script_ends_as_an_interpreter_ends(preload: list[str]) -> None:
    script = (
        "import atexit, gzip, sys, threading\n"
        "whole = threading.Event()\n"
        "def late():\n    whole.wait()\n    print('thread', sys.modules['__main__'].word)\n"
        "threading.Thread(target=late).start()\n"
        "word, kept = 'known', open('left', 'w')\n"
        "kept.write('written')\n"
        "packed = gzip.open('packed', 'wt')\n"
        "packed.write('packed')\n"
        "atexit.register(lambda: print('end', open('left').read() == '', word))\n"
        "threading.Timer(0, whole.set).start()\n"
    )
    genome = command(script, preload=preload)
    [outcome] = host().solve(genome, tasks(1), Model(), None, [1], workspaces=True)
    left = take(outcome.workspace)
    assert left is not None
    seen = [left.read("left", 100), gzip.decompress(left.read("packed", 1000) or b"")]
    left.close()
    assert (outcome.answer, seen) == ("thread known\nend True known", [b"written", b"packed"]), outcome.detail


@pytest.mark.parametrize("preload", [["json"], []], ids=["warm", "cold"])
def test_a_script_in_a_folder_finds_what_lies_beside_it(preload: list[str]) -> None:
    toml = f'kind = "command"\nargv = ["python", "src/agent.py"]\nimport = {preload}\n'.replace("'", '"')
    files = {
        "agent.toml": toml,
        "src/agent.py": "import helpers\nprint(helpers.WORD)\n",
        "src/helpers.py": "WORD = 'beside'\n",
    }
    assert answers(host().solve(Genome(files=files), tasks(1), Model(), None, [1])) == ["beside"]


@pytest.mark.parametrize("preload", [["json"], []], ids=["warm", "cold"])
def test_what_a_script_exits_with_is_said(preload: list[str]) -> None:
    script = (
        "import threading\nthreading.Thread(target=print, args=('x',)).start()\nraise SystemExit(['why'])"
    )
    [outcome] = host().solve(command(script, preload=preload), tasks(1), Model(), None, [1])
    assert (outcome.failure, outcome.detail) == ("error", "it ended with code 1: ['why']")


@pytest.mark.parametrize("argv", [["sh", "run.sh"], ["run.sh"], ["env", "sh", "run.sh"]])
def test_a_program_is_looked_for_on_the_path_and_a_script_of_its_own_is_one(argv: list[str]) -> None:
    toml = f'kind = "command"\nargv = {argv}\n'.replace("'", '"')
    genome = Genome(files={"agent.toml": toml, "run.sh": '#!/bin/sh\nread task; echo "heard $task"\n'})
    assert answers(host().solve(genome, tasks(1), Model(), None, [1])) == ["heard 0 + 1"]


def test_a_program_that_is_nowhere_is_an_error_of_its_attempt() -> None:
    genome = Genome(files={"agent.toml": 'kind = "command"\nargv = ["no-such-program"]\n'})
    [outcome] = host().solve(genome, tasks(1), Model(), None, [1])
    assert outcome.failure == "error" and "the box cannot run no-such-program" in outcome.detail


def test_a_program_that_is_started_ignores_no_signal_that_python_does() -> None:
    toml = 'kind = "command"\nargv = ["sed", "-n", "s/^SigIgn:[[:space:]]*//p", "/proc/self/status"]\n'
    genome = Genome(files={"agent.toml": toml})
    [ignored] = answers(host().solve(genome, tasks(1), Model(), None, [1]))
    # Others may be ignored by whoever started the tests, as nohup has it.
    assert ignored is not None
    assert not any(int(ignored, 16) >> (number - 1) & 1 for number in (signal.SIGPIPE, signal.SIGXFSZ))


def test_the_files_of_a_task_and_of_the_agent_are_there() -> None:
    genome = command(
        "import pathlib\nprint(open('data/x.txt').read(), pathlib.Path(__file__).with_name('p.md').read_text())"
    )
    genome = Genome(files={**genome.files, "p.md": "prompt"})
    task = PublicTask(prompt="x", skill="a/b", files=(("data/x.txt", b"data"),))
    assert answers(host().solve(genome, [task], Model(), None, [1])) == ["data prompt"]


def test_an_answer_depends_on_what_was_asked_and_not_on_when() -> None:
    script = f"{ASK}\nprint(say('1 2'), say('1 2'), say('3'))"
    keys: list[list[int]] = []
    for _ in range(2):
        model = Model()
        host().solve(command(script), tasks(3), model, None, [7, 8, 9])
        keys.append(sorted(request.key for request in model.asked))
    assert keys[0] == keys[1] and len(set(keys[0])) == 9


def test_attempts_draw_differently_and_the_same_attempt_the_same() -> None:
    genome = command("import random\nprint(random.random(), hash('x'))")
    first = answers(host().solve(genome, tasks(3), Model(), None, [1, 2, 3]))
    assert first == answers(host().solve(genome, tasks(3), Model(), None, [1, 2, 3]))
    assert len(set(first)) == 3


def test_fifty_at_once_are_answered_in_batches() -> None:
    model = Model()
    script = f"{ASK}\ntext = sys.stdin.read()\nfor _ in range(4): text = say(text + ' 1')\nprint(text)"
    genome = command(script, limits={"at_once": 50})
    outcomes = host().solve(genome, tasks(50), model, None, range(50))
    assert answers(outcomes) == [str(2 * index + 1 + 4) for index in range(50)]
    assert len(model.asked) == 200 and max(map(len, model.rounds)) > 1
    assert sum(outcome.tokens for outcome in outcomes) == sum(
        len(total(request.prompt[-1].content)) + 1
        for request in model.asked  # type: ignore[union-attr]
    )


def test_the_default_answers_of_a_client_of_openai() -> None:
    pytest.importorskip("openai")
    script = (
        "import sys\nfrom openai import OpenAI\nclient = OpenAI()\nasked = [{'role': 'user', 'content': sys.stdin.read()}]\n"
        "plain = client.chat.completions.create(model='m', messages=asked)\n"
        "pieces = client.chat.completions.create(model='m', messages=asked, stream=True, temperature=0.5)\n"
        "streamed = ''.join(piece.choices[0].delta.content or '' for piece in pieces)\n"
        "print(plain.choices[0].message.content, streamed, plain.usage.completion_tokens, client.models.list().data[0].id)"
    )
    [outcome] = host().solve(command(script, preload=["openai"]), tasks(1), Model(), None, [1])
    assert (outcome.answer, outcome.failure, outcome.requests) == ("1 1 2 policy", None, 2), outcome.detail


def test_openais_responses_go_on_from_each_other_and_are_metered_as_chats_are() -> None:
    pytest.importorskip("openai")
    script = (
        "import sys\nfrom openai import OpenAI\nclient = OpenAI()\n"
        "first = client.responses.create(model='m', input=sys.stdin.read() + ' 40', instructions='Add.')\n"
        "more = client.responses.create(model='m', input='1', previous_response_id=first.id)\n"
        "events = list(client.responses.create(model='m', input='2 2', stream=True))\n"
        "text = ''.join(event.delta for event in events if event.type == 'response.output_text.delta')\n"
        "again = client.responses.retrieve(first.id).output_text\n"
        "print(first.output_text, more.output_text, text, again, first.usage.input_tokens, events[-1].type)"
    )
    model = Model(prompt_tokens=17)
    [outcome] = host().solve(command(script, preload=["openai"]), tasks(1), model, None, [1])
    assert (outcome.answer, outcome.requests) == ("41 1 4 41 17 response.completed", 3), outcome.detail
    assert (
        [
            [(each.role, each.content) for each in request.prompt]  # type: ignore[union-attr]
            for request in model.asked[:2]
        ]
        == [
            [("system", "Add."), ("user", "0 + 1 40")],
            [("user", "0 + 1 40"), ("assistant", "41"), ("user", "1")],
        ]
    )


@pytest.mark.parametrize(
    "field",
    [
        {"background": True},
        {"include": ["reasoning.encrypted_content"]},
        {"previous_response_id": "resp_of_another"},
        {"tools": [{"type": "web_search"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"max_tool_calls": "two"},
        {"unheard_of": 1},
    ],
)
def test_a_response_that_would_be_another_one_is_refused_by_name(field: dict[str, object]) -> None:
    script = f"{ASK}\nprint(ask('', '/v1/responses', **{{'messages': None, 'input': 'x', **{field!r}}}))"
    [outcome] = host().solve(command(script), tasks(1), Model(), None, [1])
    name = next(iter(field))
    assert outcome.answer is not None and outcome.answer.startswith("(400,") and name in outcome.answer
    assert outcome.requests == 0


def test_an_agent_is_told_how_many_tokens_the_model_read() -> None:
    script = f"{ASK}\nprint(*ask('x')[1]['usage'].values(), *ask('1', n=2)[1]['usage'].values())"
    [outcome] = host().solve(command(script), tasks(1), Model(prompt_tokens=9), None, [1])
    assert outcome.answer == "9 2 11 9 4 13"


def test_a_cold_plain_script_is_the_same_agent() -> None:
    assert command(PLAIN).hash != command(PLAIN, preload=[]).hash


def test_the_worlds_of_attempts_in_boxes_are_their_own_and_are_let_go() -> None:
    script = f"{ASK}\nprint(ask('', path='/v1/agent/call', tool='close')[1])\n"
    script = script.replace('{"model": "m", "messages": [{"role": "user", "content": text}], **more}', "more")
    tools = ClosingTools()
    found = ProgramHost(tools=tools).solve(
        command(script), tasks(2), Model(), None, [1, 2], sessions=[11, 12]
    )
    assert answers(found) == ["{'value': 'closed'}"] * 2
    assert sorted(tools.called) == sorted(tools.released) == [11, 12]


@pytest.mark.parametrize("preload", [["http.client", "json"], []], ids=["warm", "cold"])
@pytest.mark.parametrize("name", ["json", "random", "inside", "agent_files", "types", "socket", "asyncio"])
def test_an_agents_own_modules_are_its_own_whatever_they_are_called(preload: list[str], name: str) -> None:
    genome = command(f"import {name}\nprint({name}.OWN)\n", preload=preload)
    files = {**genome.files, f"{name}.py": "OWN = 'mine'\n"}
    assert answers(host().solve(Genome(files=files), tasks(1), Model(), None, [1])) == ["mine"]
    package = {
        **genome.files,
        f"{name}/__init__.py": "from .part import OWN\n",
        f"{name}/part.py": "OWN = 'mine'\n",
    }
    assert answers(host().solve(Genome(files=package), tasks(1), Model(), None, [1])) == ["mine"]


def test_a_class_may_lie_in_a_module_of_any_name() -> None:
    toml = 'kind = "class"\nentry = "json:Solver"\nimport = ["json"]\n'
    files = {
        "agent.toml": toml,
        "json.py": "class Solver:\n    def run(self, prompt):\n        return 'mine'\n",
    }
    assert answers(host().solve(Genome(files=files), tasks(1), Model(), None, [1])) == ["mine"]


@pytest.mark.parametrize("preload", [["json"], []], ids=["warm", "cold"])
def test_an_agent_changes_nothing_of_its_own_and_meets_no_other_in_the_temporary_folder(
    preload: list[str],
) -> None:
    script = (
        f"{ASK}\nimport pathlib\ntask, here = sys.stdin.read(), pathlib.Path(__file__).parent\n"
        "def refused(deed):\n    try: deed()\n    except OSError as error: return error.errno\n"
        "deeds = (here / 'agent.py').unlink, lambda: (here / 'p.md').write_text('x'), (here / 'new').touch\n"
        "open('/tmp/x', 'a').write(task)\nsay('1')\nopen('/tmp/x', 'a').write(task)\n"
        "print(*map(refused, deeds), open('/tmp/x').read() == 2 * task, os.listdir('/tmp'))\n"
    )
    genome = command(script, preload=preload)
    outcomes = host().solve(Genome(files={**genome.files, "p.md": "p"}), tasks(4), Model(), None, range(4))
    assert answers(outcomes) == ["30 30 30 True ['x']"] * 4
