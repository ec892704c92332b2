"""The program that docs/programs.md shows is one: its plans pass the checker."""

from __future__ import annotations

import re
from pathlib import Path

from moevolve.agents.genome import Genome, seed_genome
from moevolve.agents.host import ProgramHost
from moevolve.agents.plans.expression import PlanError
from moevolve.tasks.suite import suite

PAGE = Path(__file__).parents[2] / "docs/programs.md"


def test_the_pages_program_has_a_plan_for_every_skill_of_the_primer() -> None:
    match = re.search(r'SOLVE = """\n(.*?)"""', PAGE.read_text(encoding="utf-8"), re.S)
    assert match is not None
    genome = Genome(files=seed_genome().files | {"solve.py": match[1]})
    primer = suite("primer")
    behaviour = ProgramHost().behaviour(genome, {path: s.verb for path, s in primer.skills.items()}, 1)
    plans = behaviour.expressions(primer.cutters)
    assert set(plans) == set(primer.skills)
    assert not [plan for plan in plans.values() if isinstance(plan, PlanError)]


def test_a_program_that_computes_has_no_answer_where_answers_are_the_policys() -> None:
    from moevolve.protocol.requests import PublicTask
    from moevolve.protocol.rollouts import RolloutJob
    from moevolve.rollouts.executors.local import LocalExecutor, Programs

    computing = "async def solve(task, agent):\n    return task.prompt.partition(':')[2][-2::-1]\n"
    genome = Genome(files=seed_genome().files | {"solve.py": computing})
    primer, host = suite("primer"), ProgramHost()
    verbs = {path: skill.verb for path, skill in primer.skills.items()}

    class Silent:
        weights, generated = "none", 0

        def answer(self, requests: object) -> list:
            raise AssertionError("nobody is asked")

    programs = Programs(host, primer, lambda _: genome, lambda _: host.behaviour(genome, verbs, 1))
    executor = LocalExecutor(lambda names: dict.fromkeys(names, Silent()), programs)
    task = PublicTask(prompt="rev:ab=", skill="text/reverse")
    [result] = executor.submit([RolloutJob(weights="w", program="p", tasks=(task,), keys=(1,))]).results()
    assert (result.outcomes[0].answer, result.outcomes[0].failure) == (None, "malformed")
