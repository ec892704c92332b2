"""An improver that evaluates plans stays within its role's requests and tokens, also inside one round."""

from __future__ import annotations

from typing import Any

from moevolve.agents.brief import Brief
from moevolve.agents.genome import Genome
from moevolve.agents.host import ProgramHost, Proposals
from moevolve.config import RolesSection
from moevolve.config.roles import ImproverSection
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest
from moevolve.tasks.primer.cutters import CUTTERS

HEAD = "from contract import Edit\nimport plan\nasync def improve(brief, agent):\n"


class Counting:
    """Answers everything with four tokens and an end, and counts."""

    def __init__(self) -> None:
        self.requests = self.tokens = 0

    def __call__(self, requests: list[GenerateRequest]) -> list[list[Completion]]:
        self.requests += len(requests)
        self.tokens += 5 * sum(request.n for request in requests)
        return [[Completion("abcd", [1] * 4, [0.0] * 5, "stop")] * request.n for request in requests]


def propose(body: str, policy: Counting, **limits: Any) -> Proposals:
    files = {"improve.py": HEAD + "".join(f"    {line}\n" for line in body.splitlines())}
    host = ProgramHost(RolesSection(improver=ImproverSection(**limits)), cutters=CUTTERS)
    brief = Brief(source={}, skills=[], failures=[], history=[], lineage=[], candidates=4, cycle=1, metric="")
    return host.propose(Genome(files=files), brief, 1, policy)


def test_a_flood_of_evaluations_in_one_round_spends_no_more_than_the_role_has() -> None:
    policy = Counting()
    body = """made = plan.vote(plan.Task("rev", "").prompt, samples=32)
for i in range(40):
    await agent.gather(*[
        agent.evaluate(plan=made.node, prompts=[f"rev:{i}-{k}-{j}=" for j in range(64)]) for k in range(8)
    ])
return []"""
    proposals = propose(body, policy, requests=100, tokens=5000)
    assert policy.requests <= 100 and policy.tokens <= 5000
    assert proposals.requests <= 100 and proposals.tokens == policy.tokens


def test_a_likeliest_answer_is_asked_for_and_charged_once() -> None:
    policy = Counting()
    body = """made = plan.ask(plan.Task("rev", "").prompt)
first = await agent.evaluate(plan=made.node, prompts=["rev:ab="] * 64)
again = await agent.evaluate(plan=made.node, prompts=["rev:ab="])
assert first == ["abcd"] * 64 and again == ["abcd"]
return []"""
    proposals = propose(body, policy, requests=10)
    assert proposals.failure is None, proposals.detail
    assert (policy.requests, proposals.requests, proposals.tokens) == (1, 3, 5)


def test_completions_asked_for_in_one_round_are_within_the_tokens_at_worst() -> None:
    policy = Counting()
    body = """try:
    await agent.gather(*[agent.generate("p", n=32, max_tokens=32) for _ in range(96)])
except Exception as error:
    assert "roles.improver.tokens" in str(error), str(error)
return []"""
    proposals = propose(body, policy, tokens=5000)
    assert proposals.failure is None, proposals.detail
    assert policy.tokens <= 5000
