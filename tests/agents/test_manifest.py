"""`agent.toml`: what it may say, and what it is told that it may not."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import msgspec
import pytest

from moevolve.agents.box.attempt import job_of
from moevolve.agents.box.chat import Unfit, chat, completion
from moevolve.agents.box.interpreter import interpreter
from moevolve.agents.brief import Brief, Success
from moevolve.agents.genome import Genome, load
from moevolve.agents.manifest import manifest_of
from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.loop.own_agent import with_asked
from moevolve.proposers.operators.proposer import Operators
from moevolve.proposers.proposer import ProposalContext
from moevolve.protocol.messages import Message
from moevolve.protocol.requests import PublicTask

COMMAND = 'kind = "command"\nargv = ["python", "agent.py"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "command"', "a command needs `argv`"),
        ('kind = "class"', "a class needs `entry`"),
        ('kind = "class"\nentry = "agent"', "a class needs `entry`"),
        ('kind = "robot"', "Invalid enum value"),
        ('argv = ["x"]', "`argv` means nothing for kind = 'function'"),
        ('import = ["openai"]', "`import` means nothing"),
        (f'{COMMAND}entry = "a:b"', "`entry` means nothing for kind = 'command'"),
        ('kind = "class"\nentry = "a:B"\nanswer = "file:x"', "`answer` means nothing"),
        (f'{COMMAND}task = "file:../x"', "task"),
        (f'{COMMAND}answer = "file:/etc/passwd"', "answer"),
        (f"{COMMAND}[limits]\nseconds = 0", "limits.seconds"),
        (f"{COMMAND}[limits]\ntoken = 5", "unknown field `token`"),
        ('entry = "other:solve"', "a function's `entry` is `solve:solve`"),
        ("[limits]\nmemory_mb = 64", "`limits` of a function are tokens, requests and seconds"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused_with_its_key(text: str, said: str) -> None:
    with pytest.raises(UsageError, match="agent.toml"):
        manifest_of({"agent.toml": text})
    try:
        manifest_of({"agent.toml": text})
    except UsageError as error:
        assert said in str(error)


def test_a_function_may_say_what_an_attempt_asks_of_the_policy_and_a_runs_file_decides() -> None:
    text = 'kind = "function"\nentry = "solve:solve"\n[limits]\ntokens = 20_000\nrequests = 8\nseconds = 30\n'
    genome = Genome(files={"agent.toml": text, "solve.py": "async def solve(task, agent):\n    return ''\n"})
    config = Config.load("small")
    solver = with_asked(config, genome).roles.solver
    assert (solver.tokens, solver.requests, solver.seconds) == (20_000, 8, 30.0)
    written_out = Genome(files=genome.files | {"agent.toml": text.replace("30", "120")})
    assert with_asked(config, written_out).roles.solver.seconds == 120.0
    unset = Genome(files=genome.files | {"agent.toml": 'kind = "function"\n'})
    assert with_asked(config, unset) == config
    set_here = Config.load("small", {"roles.solver.requests": 5})
    assert with_asked(set_here, genome).roles.solver.requests == 5


def test_a_command_may_take_its_task_as_json_with_the_whole_conversation() -> None:
    said = (Message("system", "The room is 3."), Message("user", "Which?"))
    task = PublicTask(prompt="Which?", skill="a/b", messages=said)
    agent = Genome(files={"agent.toml": f'{COMMAND}task = "json"', "agent.py": ""})
    given = json.loads(job_of(manifest_of(agent.files), agent, task, 1, interpreter(None))["stdin"])
    assert given["prompt"] == "Which?" and given["messages"][0] == {
        "role": "system",
        "content": "The room is 3.",
    }


def test_a_folder_of_a_command_needs_its_script_and_no_solve(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(COMMAND)
    with pytest.raises(UsageError, match="has no agent.py"):
        load(tmp_path)
    (tmp_path / "agent.py").write_text("print(1)")
    assert set(load(tmp_path).files) == {"agent.toml", "agent.py"}


def test_operators_edit_the_prompts_of_a_command_and_nothing_that_is_frozen() -> None:
    files = {
        "agent.toml": f'{COMMAND}edit = ["prompts/*.md"]\n',
        "agent.py": "TRIES = 3\nprint('You are a careful clerk who answers in one word.')\n",
        "prompts/system.md": "Be kind. Be brief. Never guess.\n",
    }
    known = [Success(prompt=f"{n} + 1?", skill="a/b", level=1, answer=str(n + 1)) for n in range(6)]
    brief = Brief(
        source=files, skills=[], failures=[], history=[], lineage=[], candidates=6, cycle=1, metric="", successes=known
    )  # fmt: skip
    genome = Genome(files=files)
    for seed in range(8):
        context = ProposalContext(genome, Random(seed).randrange(1 << 30), lambda requests: [])
        found = Operators().propose(brief, context).candidates
        assert found and {edit.path for edits in found for edit in edits} == {"prompts/system.md"}
        assert all(genome.edited(edits).files["agent.py"] == files["agent.py"] for edits in found)


def test_requests_are_named_by_what_they_ask_and_not_by_who_asks() -> None:
    plain = {"model": "a", "messages": [{"role": "user", "content": "x"}]}
    same = {
        "messages": [{"content": [{"type": "text", "text": "x"}], "role": "user"}],
        "stream": True,
        "user": "me",
    }
    assert chat(plain).arguments == chat(same).arguments
    assert chat(plain).arguments != chat({**plain, "temperature": 0}).arguments
    assert chat({**plain, "max_tokens": 5}).arguments == chat({**plain, "max_completion_tokens": 5}).arguments


@pytest.mark.parametrize(
    "field",
    [
        {"logprobs": True}, {"logit_bias": {"1": 1}}, {"functions": [{}]}, {"unheard_of": 1}, {"modalities": ["audio"]},
        {"response_format": {"type": "grammar"}}, {"tool_choice": {}, "tools": [{"function": {"name": "f"}}]},
        {"tools": [{"type": "retrieval"}]}, {"messages": "x"},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
    ],
)  # fmt: skip
def test_what_would_change_an_answer_and_is_not_built_is_refused(field: dict[str, object]) -> None:
    with pytest.raises(Unfit, match=next(iter(field)).rstrip("s") + "|field"):
        chat({"messages": [{"role": "user", "content": "x"}], **field})


def test_a_completion_has_one_prompt() -> None:
    assert b'"prompt":"x"' in completion({"prompt": ["x"]}).arguments
    with pytest.raises(Unfit, match="prompt"):
        completion({"prompt": ["x", "y"]})


def test_a_schema_beside_json_object_and_calls_of_functions_reach_the_policy() -> None:
    own = {"type": "object", "required": ["a"]}
    talk = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "function_call": {"name": "w", "arguments": "{}"}},
        {"role": "function", "name": "w", "content": "rain"},
    ]
    asked = chat({"messages": talk, "response_format": {"type": "json_object", "schema": own}})
    arguments = msgspec.json.decode(asked.arguments)
    assert arguments["schema"] == own
    [call] = arguments["prompt"][1]["tool_calls"]
    assert call["function"]["name"] == "w"
    assert (arguments["prompt"][2]["role"], arguments["prompt"][2]["tool_call_id"]) == ("tool", call["id"])
    with pytest.raises(Unfit, match="function_call"):
        chat({"messages": [{"role": "assistant", "content": "x", "function_call": 3}]})
