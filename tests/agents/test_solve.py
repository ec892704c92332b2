"""What an honest program can rely on."""

from __future__ import annotations

from moevolve.agents.genome import seed_genome
from moevolve.protocol.requests import PublicTask, RecallRequest
from moevolve.randomness import key
from moevolve.records import Lesson


def tasks(*prompts: str) -> list[PublicTask]:
    return [PublicTask(prompt=prompt, skill="text/reverse") for prompt in prompts]


def test_the_seed_asks_once_and_greedily(host, oracle, solve):
    outcomes = solve(host, seed_genome(), tasks("rev:abc=", "srt:cab="), oracle)
    assert [outcome.answer for outcome in outcomes] == ["cba", "abc"]
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert [(outcome.requests, outcome.tokens) for outcome in outcomes] == [(1, 4), (1, 4)]
    [requests] = oracle.rounds
    assert [(request.attempt, request.n, request.sampling.temperature) for request in requests] == [
        (0, 1, 0.0),
        (1, 1, 0.0),
    ]
    assert requests[0].key == key(1, "request", 1)


def test_nothing_runs_without_tasks(host, oracle):
    assert host.solve(seed_genome(), [], oracle, None, []) == []
    assert oracle.rounds == []


def test_all_attempts_share_a_round(host, oracle, program):
    genome = program(
        """
first = await agent.generate(task.prompt, n=2)
if task.prompt == "rev:ab=":
    await agent.generate("rev:cd=")
return first.text
"""
    )
    host.solve(genome, tasks("rev:ab=", "rev:xy="), oracle, None, [1, 2])
    assert [[request.attempt for request in requests] for requests in oracle.rounds] == [[0, 1], [0]]


def test_gathered_requests_are_one_round_in_their_order(host, oracle, program):
    genome = program(
        """
async def twice(text):
    a = await agent.generate(f"rev:{text}=", temperature=0)
    b = await agent.generate(f"rev:{a.text}=", temperature=0)
    return b.text
return "".join(await agent.gather(twice("ab"), twice("cd"), twice("ef")))
"""
    )
    [outcome] = host.solve(genome, tasks("rev:x="), oracle, None, [1])
    assert outcome.answer == "abcdef"
    prompts = [[request.prompt for request in requests] for requests in oracle.rounds]
    assert prompts == [["rev:ab=", "rev:cd=", "rev:ef="], ["rev:ba=", "rev:dc=", "rev:fe="]]


def test_an_attempt_does_not_depend_on_its_company(host, oracle, program):
    genome = program(
        """
import random
import time
draws = [agent.rng.random(), random.random(), hash("text"), time.time(), len({object()})]
await agent.generate(repr(draws))
draws.append(random.random())
return (await agent.generate(repr(draws))).text
"""
    )

    def asked(prompts: list[str], keys: list[int]) -> dict[int, list[tuple[str, int]]]:
        oracle.rounds.clear()
        host.solve(genome, tasks(*prompts), oracle, None, keys)
        found: dict[int, list[tuple[str, int]]] = {}
        for request in (request for requests in oracle.rounds for request in requests):
            found.setdefault(keys[request.attempt], []).append((request.prompt, request.key))
        return found

    together = asked(["rev:a=", "rev:b=", "rev:c="], [7, 8, 9])
    alone = asked(["rev:b="], [8])
    assert alone[8] == together[8]
    assert together == asked(["rev:a=", "rev:b=", "rev:c="], [7, 8, 9])
    assert together[7] != together[8]


def test_recall_gives_what_memory_gives(host, oracle, program):
    lesson = Lesson(
        id="1", skill="text/reverse", level=3, text="", prompt="rev:ab=", answer="ba", success=True, run="r",
        cycle=1, variant="v",
    )  # fmt: skip
    asked = []

    def recall(request: RecallRequest) -> list[Lesson]:
        asked.append((request.skill, request.query, request.k))
        return [lesson]

    genome = program(
        """
[lesson] = await agent.recall(task.prompt, k=2)
return (await agent.generate(lesson.prompt)).text if (lesson.answer, lesson.level) == ("ba", 3) else ""
"""
    )
    [outcome] = host.solve(genome, tasks("rev:xy="), oracle, recall, [1])
    assert (outcome.answer, outcome.recalled) == ("ba", (("1",),))
    assert asked == [("text/reverse", "rev:xy=", 2)]


def test_files_import_each_other_and_print_is_harmless(host, oracle, program):
    genome = program(
        "print('chatter' * 1000)\nreturn await answer(agent, task)", head="from more import answer"
    )
    more = "async def answer(agent, task):\n    return (await agent.generate(task.prompt)).text\n"
    genome = type(genome)(files=genome.files | {"more.py": more})
    [outcome] = host.solve(genome, tasks("rev:ab="), oracle, None, [1])
    assert (outcome.answer, outcome.failure) == ("ba", None)


def test_budget_shows_what_is_left(host, oracle, program):
    genome = program(
        """
before = agent.budget.requests
[completion] = await agent.generate(task.prompt)
return completion.text if agent.budget.requests == before - 1 else ""
"""
    )
    [outcome] = host.solve(genome, tasks("rev:ab="), oracle, None, [1])
    assert outcome.answer == "ba"
