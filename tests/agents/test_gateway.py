"""What programs may request, through the real sandbox: each kind is one entry of the host's table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from moevolve.agents.attempt import Attempt
from moevolve.agents.box.workspace import take
from moevolve.agents.brief import Brief
from moevolve.agents.gateway import Given, Refused, Result
from moevolve.agents.genome import Genome, seed_genome
from moevolve.agents.host import ProgramHost
from moevolve.agents.kinds.tools import ToolFailure
from moevolve.config import RolesSection
from moevolve.config.roles import RoleSection
from moevolve.protocol.completion import Completion
from moevolve.protocol.messages import Message, Tool, ToolCall
from moevolve.protocol.requests import GenerateRequest, Outcome, PublicTask, ToolRequest, Unanswered
from moevolve.protocol.sampling import Sampling
from moevolve.randomness import key

TASK = [PublicTask(prompt="rev:ab=", skill="text/reverse")]

ADD = Tool("add", "Adds whole numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}})


class Adder:
    """A toolbox with one tool; it refuses to add nothing."""

    tools = (ADD,)

    def __init__(self) -> None:
        self.requests: list[ToolRequest] = []

    def release(self, sessions: Iterable[int]) -> None:
        pass

    def call(self, requests: Sequence[ToolRequest]) -> Sequence[Any]:
        self.requests += requests
        return [
            sum(request.arguments.values()) if request.arguments else ToolFailure("add needs a number")
            for request in requests
        ]


class WireEcho(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    times: int = 1


class Echo:
    """A kind that no worker knows of: texts, repeated and numbered within their round."""

    wire = WireEcho

    def request(self, asked: WireEcho, attempt: Attempt, index: int, key: int) -> WireEcho:
        if asked.times > 3:
            raise Refused("budget", "three times at most")
        return asked

    def answer(self, requests: list[WireEcho]) -> Sequence[Result]:
        return [
            Given({"place": place, "text": asked.text * asked.times}) for place, asked in enumerate(requests)
        ]


def once(completion: Completion, asked: list[GenerateRequest]):
    """A policy that says one thing and keeps what it was asked."""

    def answer(requests: list[GenerateRequest]) -> list[list[Completion]]:
        asked.extend(requests)
        return [[completion] * request.n for request in requests]

    return answer


def solved(host: ProgramHost, genome, answer=None, **options):
    [outcome] = host.solve(genome, TASK, answer, None, [1], **options)
    return outcome


def test_a_new_kind_of_request_is_one_entry_of_the_table(program):
    host = ProgramHost(more={"echo": Echo()})
    genome = program(
        """
first, second = await agent.gather(agent.echo(text="ab", times=2), agent.echo(text="c"))
return f"{first['text']} {second}"
"""
    )
    assert solved(host, genome).answer == "abab {'place': 1, 'text': 'c'}"
    assert solved(host, program("return (await agent.echo(text='a', times=4))")).failure == "budget"


@pytest.mark.parametrize(
    ("deed", "failure", "detail"),
    [
        ("agent.genrate(prompt='p')", "rejected", "did you mean 'generate'?"),
        ("agent.sing()", "rejected", "there are call, evaluate, generate, recall, remember, tools"),
        ("agent.generate('p', temprature=1)", "rejected", "unknown field `temprature`"),
        ("agent.generate('p', temperature=-1)", "rejected", "$.temperature"),
        ("agent.generate('p', stop=[''])", "rejected", "$.stop"),
        ("agent.generate([])", "rejected", "$.prompt"),
        ("agent.generate([{'role': 'boss', 'content': 'p'}])", "rejected", "$.prompt[0].role"),
        ("agent.generate('p', max_tokens=512)", "budget", "roles.solver.max_tokens allows 32"),
        ("agent.generate('p', max_tokens=2)", "budget", "roles.solver.least_tokens asks for 8"),
        ("agent.generate([{'role': 'user', 'content': 'p' * 3000}])", "budget", "prompt_chars allows 2048"),
        ("agent.recall('q', k=33)", "budget", "roles.solver.lessons allows 32"),
        ("agent.recall('q', kinds=['gossip'])", "rejected", "$.kinds"),
        ("agent.recall('q', words=-1)", "rejected", "$.words"),
        ("agent.remember('')", "rejected", "$.text"),
        ("agent.remember(' ')", "rejected", "an empty text"),
        ("agent.remember('x' * 3000)", "budget", "roles.solver.prompt_chars allows 2048"),
        ("agent.remember('x', kind='gossip')", "rejected", "$.kind"),
        ("agent.call('add', a=1)", "error", "ToolError: this suite grants no tool 'add'"),
    ],
)
def test_what_is_not_granted_is_refused_by_name(host, oracle, program, deed, failure, detail):
    outcome = solved(host, program(f"return (await {deed})"), oracle)
    assert (outcome.failure, detail in outcome.detail) == (failure, True), outcome
    assert oracle.rounds == []


def test_a_refusal_can_be_caught(host, oracle, program):
    genome = program(
        """
try:
    await agent.generate(task.prompt, max_tokens=512)
except Exception as error:
    kind = type(error).__name__
return kind + (await agent.generate(task.prompt)).text
"""
    )
    assert solved(host, genome, oracle).answer == "BudgetExceededba"


def test_every_setting_reaches_the_policy_in_one_form(program):
    asked: list[GenerateRequest] = []
    host = ProgramHost(RolesSection(solver=RoleSection(max_tokens=600)))
    genome = program(
        """
given = await agent.generate("p", n=2, max_tokens=512, temperature=0.5, top_p=0.9, top_k=40, min_p=0.01,
    frequency_penalty=0.1, presence_penalty=0.2, repetition_penalty=1.1, stop="\\n", schema={"type": "object"},
    worded=False)
return f"{given.text} {given.finish} {given.logprob} {given[1].tokens}"
"""
    )
    outcome = solved(host, genome, once(Completion("hm", [1, 2], [-0.5, -0.25, -0.25], "stop"), asked))
    assert (outcome.answer, outcome.tokens) == ("hm stop -1.0 3", 6)
    sampling = Sampling(
        max_tokens=512, temperature=0.5, top_p=0.9, top_k=40, min_p=0.01, frequency_penalty=0.1,
        presence_penalty=0.2, repetition_penalty=1.1, stop=("\n",),
    )  # fmt: skip
    assert asked == [
        GenerateRequest(
            attempt=0, prompt="p", sampling=sampling, n=2, key=key(1, "request", 1), worded=False,
            schema={"type": "object"},
        )
    ]  # fmt: skip


def test_a_conversation_goes_round_through_a_tool(program):
    asked: list[GenerateRequest] = []
    call = ToolCall(0, "add", {"a": 1, "b": 2}, "c7")
    completions = iter(
        [
            Completion("", [5], [-0.1], "tool_calls", (call,), "they want a sum"),
            Completion("3", [6], [-0.1], "stop"),
        ]
    )

    def answer(requests: list[GenerateRequest]) -> list[list[Completion]]:
        asked.extend(requests)
        return [[next(completions)] for _ in requests]

    tools = Adder()
    genome = program(
        """
messages = [{"role": "system", "content": "Add."}, {"role": "user", "content": task.prompt}]
turn = await agent.generate(messages, tools=await agent.tools("whole numbers"))
while turn.tool_calls:
    messages.append(turn.message())
    for call in turn.tool_calls:
        result = await agent.call(call.name, **call.arguments)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})
    turn = await agent.generate(messages)
return turn.text
"""
    )
    assert solved(ProgramHost(tools=tools), genome, answer).answer == "3"
    assert [(request.tool, request.arguments) for request in tools.requests] == [("add", {"a": 1, "b": 2})]
    assert asked[0].tools == (ADD,)
    assert asked[1].prompt == (
        Message("system", "Add."),
        Message("user", "rev:ab="),
        Message("assistant", "", (call,), reasoning="they want a sum"),
        Message("tool", "3", tool_call_id="c7"),
    )


def test_a_tool_that_fails_raises_in_the_program(program):
    genome = program(
        """
try:
    await agent.call("add")
except Exception as error:
    return f"{type(error).__name__}: {error}"
"""
    )
    assert solved(ProgramHost(tools=Adder()), genome).answer == "ToolError: add needs a number"


def test_what_the_policy_refuses_is_told_apart_from_what_it_lost(host, program):
    def answer(requests: list[GenerateRequest]) -> list[Unanswered]:
        return [Unanswered(failure="rejected", detail="no template") for _ in requests]

    outcome = solved(host, program("return (await agent.generate('p')).text"), answer)
    assert (outcome.failure, outcome.detail) == ("rejected", "no template")


FILES = (("data/in.txt", "äöü".encode()), ("raw.bin", b"\xff\xfe"))


def worked(program, body: str, **limits: Any) -> Outcome:
    host = ProgramHost(RolesSection(solver=RoleSection(**limits)))
    task = PublicTask(prompt="x", skill="a/b", files=FILES)
    [outcome] = host.solve(program(body), [task], lambda requests: [], None, [1], workspaces=True)
    return outcome


def test_a_function_reads_and_writes_its_workspace_and_a_check_sees_what_is_left(program):
    outcome = worked(
        program,
        """
files = agent.workspace
text = await files.read("data/in.txt")
await files.write("out/a.txt", text * 40000)
await files.remove("raw.bin")
same = await files.read("out/a.txt") == text * 40000
return f"{text} {same} {await files.paths()} {agent.budget.requests}"
""",
        requests=20,
    )
    assert outcome.answer == "äöü True ['data/in.txt', 'out/a.txt'] 13", outcome.detail
    left = take(outcome.workspace)
    assert left is not None and left.files is not None
    assert left.files["out/a.txt"].decode() == "äöü" * 40000 and "raw.bin" not in left.files


def test_a_workspace_that_is_only_read_is_no_matter_for_a_check(program):
    outcome = worked(program, "return await agent.workspace.read('data/in.txt')")
    assert (outcome.answer, outcome.workspace) == ("äöü", None)


@pytest.mark.parametrize(
    ("step", "detail"),
    [
        ("read('none')", "no file 'none'"),
        ("read('raw.bin')", "no UTF-8 text"),
        ("read('../../etc/passwd')", "no path in a workspace"),
        ("write('/tmp/x', 'x')", "no path in a workspace"),
        ("write('a/../b', 'x')", "no path in a workspace"),
        ("write('data', 'x')", "a file and a folder"),
        ("write('raw.bin/x', 'x')", "a file and a folder"),
        ("write('big', 'x' * (9 << 20))", "at most 8 MiB"),
        # A name that no file system takes would end the box of the check, and with it the run.
        ("write('\U0001f600' * 100, 'x')", "no path in a workspace"),
    ],
)
def test_what_no_workspace_holds_is_refused(program, step: str, detail: str):
    outcome = worked(program, f"return await agent.workspace.{step}", requests=500)
    assert outcome.failure in ("rejected", "budget") and detail in outcome.detail


def test_an_improver_has_no_workspace():
    genome = Genome(
        files={
            **seed_genome().files,
            "improve.py": "async def improve(brief, agent):\n    await agent.workspace.paths()\n    return []\n",
        }
    )
    brief = Brief(
        source={},
        skills=[],
        failures=[],
        successes=[],
        history=[],
        lineage=[],
        candidates=1,
        cycle=1,
        metric="",
    )
    made = ProgramHost().propose(genome, brief, 1, lambda requests: [])
    assert made.failure == "rejected" and "there is none here" in made.detail


def test_folders_count_as_files_do(program):
    body = """
for number in range(100):
    await agent.workspace.write("/".join([f"d{number}", *"a" * 90, "file"]), "x")
"""
    outcome = worked(program, body, requests=500)
    assert outcome.failure == "budget" and "files and folders" in outcome.detail


@pytest.mark.parametrize(
    "deed",
    [
        "agent.call('add', tool=2, self=3)",
        "agent.call('add', **{'a': 2, 'b': 3})",
        "agent.call(tool='add', a=5)",
        "agent.call('add', a=2**70, b=5 - 2**70)",
    ],
)
def test_arguments_of_a_tool_have_any_names(deed: str, program) -> None:
    host = ProgramHost(tools=Adder())
    assert solved(host, program(f"return str(await {deed})")).answer == "5"
