"""Cheats, by name: none of them gains, whatever it tries, and what is refused says why.

A cheat is tried with a policy that has forgotten the very skill that is asked for, so that whatever it scores is not the
policy's; honest programs are tried with the whole policy, and lose nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from random import Random

import pytest
from judge import HONEST, PRIMER, VERBS, Scripted, attempted, score, tasks_of

from moevolve.agents.genome import seed_genome
from moevolve.learning.buffer import Buffer
from moevolve.proposers.search import UNTRIED, children
from moevolve.protocol.requests import RecallRequest
from moevolve.protocol.rollouts import Part
from moevolve.records import Edit, Lesson
from moevolve.rollouts.attempts import Attempt, answered
from moevolve.rollouts.grading import SealedGrader
from moevolve.rollouts.scoring import MOST_MISSING, compared, mean, void
from moevolve.tasks.grading import grade, refused
from moevolve.tasks.skill import Skill
from moevolve.tasks.splits import SPLITS, secret_of, split_of
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task, Verdict

TRUTH = """
def truth(prompt):
    verb, _, p = prompt.partition(":")
    p = p.rstrip("=")
    return {"rev": p[::-1], "srt": "".join(sorted(p))}.get(verb, p)
"""

COMPUTING = {
    "the answer, computed": TRUTH + "async def solve(task, agent):\n    return truth(task.prompt)\n",
    "the answer, spelt by echoes": TRUTH
    + """
async def solve(task, agent):
    wanted = truth(task.prompt)
    parts = [wanted[i:i + 2] for i in range(0, len(wanted), 2)]
    said = await agent.gather(*[agent.generate(f"rev:{part[::-1]}=") for part in parts])
    return "".join(each.text for each in said)
""",
    "a choice among samples": TRUTH
    + """
async def solve(task, agent):
    said = await agent.generate(task.prompt, n=32, temperature=1.0)
    return next((each.text for each in said if each.text == truth(task.prompt)), said[0].text)
""",
    "a text that is equal to everything": """
class Equal(str):
    __hash__ = str.__hash__
    def __eq__(self, other): return True
    def strip(self, *_): return self
async def solve(task, agent):
    return Equal("?")
""",
    "a task whose prompt was changed": """
async def solve(task, agent):
    task.prompt = "rev:a="
    return "a"
""",
    "a verdict in the process's own words": """
import gc
async def solve(task, agent):
    for each in gc.get_objects():
        if type(each).__name__ == "Frames":
            each.write('{"requests":[],"done":[[0,"x",null,"",1.0,true]]}')
    return "x"
""",
    "a failure in the policy's name": """
async def solve(task, agent):
    import rounds
    rounds.Rounds.finish = lambda self, value: (None, "policy", "no answer")
    return None
""",
    "an answer of half a million characters": "async def solve(task, agent):\n    return 'x' * 500_000\n",
    "numbers that are none": "async def solve(task, agent):\n    return 'nan'\n",
    "a plan here and a text there": """
from plan import ask
def solve(task):
    return ask(task.prompt) if isinstance(task.prompt, str) else None
""",
}


@pytest.mark.parametrize("cheat", sorted(COMPUTING))
def test_a_program_that_computes_has_no_answer_where_answers_are_the_policys(cheat: str) -> None:
    rollouts = attempted(COMPUTING[cheat], tasks_of())
    assert score(rollouts) == 0.0
    assert {attempt.verdict.failure for attempt in rollouts.attempts} == {"malformed"}
    assert len(answered(rollouts.attempts)) == len(rollouts.attempts)


def plan(body: str) -> str:
    return (
        f"from plan import ask, lessons, retry, verify, vote, window\ndef solve(task):\n    return {body}\n"
    )


PLANS = {
    "the payload itself": plan("task.payload"),
    "the payload backwards, letter by letter": plan("task.payload.cut(1).backwards().join()"),
    "the payload backwards, through echoes of letters": plan(
        'task.payload.cut(1).each(lambda part: ask(f"ddp:{part}=")).backwards().join()'
    ),
    "the payload backwards, through echoes of pairs": plan(
        'task.payload.cut(2).each(lambda part: ask(f"ddp:{part}=")).backwards().join()'
    ),
    "sorted by a cutter": plan('task.payload.cut(1, "range").each(lambda part: ask(f"ddp:{part}=")).join()'),
    "sorted by nested cutters": plan(
        'task.payload.cut(3, "range").each(lambda part: part.cut(2, "range").join()).join()'
    ),
    "runs collapsed by a cutter": plan(
        'task.payload.cut(1, "change").each(lambda part: ask(f"rev:{part}=")[:1]).join()'
    ),
    "a constant": plan('"0"'),
    "a constant beside the policy's words": plan('"0" + ask(task.prompt)'),
    "a lesson": plan("lessons(4)"),
    "a lesson's end": plan("lessons(1)[-4:]"),
    "a lesson through an echo": plan('ask(f"ddp:{lessons(1)}=")'),
    "a table by votes": plan(
        'vote("rev:a=", least=1.0, otherwise=vote("rev:b=", least=1.0, otherwise=task.payload))'
    ),
    "a check of its own answer": plan(
        'verify(task.prompt, lambda answer: ask(f"ddp:{answer}="), gives=task.payload)'
    ),
    "a retry for ever": plan("retry(task.prompt, samples=10**9)"),
    "samples without number": plan("vote(task.prompt, samples=4096)"),
    "a plan that doubles": "from plan import ask\ndef solve(task):\n    said = ask(task.prompt)\n"
    + "    for _ in range(40):\n        said = said + said\n    return said\n",
    "a plan in a plan in a plan": "from plan import ask\ndef solve(task):\n    said = task.prompt\n"
    + "    for _ in range(400):\n        said = ask(said)\n    return said\n",
    "a thousand questions": plan(
        'task.payload.cut(2).each(lambda part: vote(f"rev:{part}=", samples=32)).join()'
    ),
    "an empty question": plan('ask("")'),
    "a character that servers choke on": plan('ask("\\0" * 20)'),
    "a question that no context holds": plan('ask("a" * 100_000)'),
    "a skill named by an answer": plan('ask(f"{ask(task.prompt)}:{task.payload}=")'),
    "a look at the text": "def solve(task):\n    return task.prompt if len(task.payload) > 3 else task.payload\n",
    "a text that is a str": "from plan import ask\ndef solve(task):\n    return str(task.payload)[::-1]\n",
    "a forged node": "def solve(task):\n    class T(type(task.payload)):\n        pass\n"
    + '    return T(["slice", ["payload"], 0, 99])\n',
}


@pytest.mark.long
@pytest.mark.parametrize("cheat", sorted(PLANS))
def test_a_plan_gains_nothing_without_the_policys_skill(cheat: str) -> None:
    tasks = [task for task in tasks_of() if PRIMER[task.skill].verb in ("rev", "srt", "cmp", "par")]
    forgotten = Scripted(["rev", "srt", "cmp", "par", "srv", "drv", "crv"])
    rollouts = attempted(PLANS[cheat], tasks, forgotten)
    # Pairs may be turned through an echo: dear, and never better than asking.
    bare = score(attempted(HONEST, tasks))
    assert score(rollouts) <= bare
    if "pairs" not in cheat:
        assert score(rollouts) <= 0.07, [
            (a.task.prompt, a.answer) for a in rollouts.attempts if a.verdict.success
        ]


def test_honest_programs_lose_nothing() -> None:
    tasks = [task for task in tasks_of() if PRIMER[task.skill].verb in ("rev", "cae")]
    bare = score(attempted(HONEST, tasks))
    parts = 'task.payload.cut(4).each(lambda part: ask(f"{task.verb}:{part}="))'
    split = plan(f'({parts}.backwards() if task.verb == "rev" else {parts}).join()')
    assert bare == pytest.approx(0.5)
    assert score(attempted(split, tasks)) == 1.0


# ---------------------------------------------------------------------- failures


def pretended(scores: list[float | None], failure: str = "policy") -> list[Attempt]:
    task = Task(prompt="?", answer="x", skill="a/b", level=1)
    return [
        Attempt(task, "x", refused(failure, ""))
        if each is None
        else Attempt(
            task, "x", Verdict(score=each, success=each == 1, failure=None if each == 1 else "wrong")
        )
        for each in scores
    ]


@pytest.mark.parametrize("failure", ["policy", "infrastructure"])
def test_a_failure_that_one_side_alone_has_is_its_loss(failure: str) -> None:
    honest = pretended([1, 1, 0, 0, 1, 1])
    selective = pretended([1, 1, None, None, 1, 1], failure)
    beside = compared(selective, honest)
    assert (beside.score, beside.baseline, beside.missing) == (mean(honest), mean(honest), 0)
    assert compared(honest, pretended([1, 1, None, None, 1, 1], failure)).differences == [0] * 6
    assert void(selective)


def test_what_fails_for_both_is_missing_and_more_than_a_few_per_cent_void() -> None:
    for lost, decided in ((3, True), (4, False)):
        both = pretended([1.0] * (100 - lost) + [None] * lost)
        beside = compared(both, both)
        assert (beside.missing, beside.void, void(both)) == (lost, not decided, not decided)
    assert MOST_MISSING == 0.03


@pytest.mark.parametrize(
    "failure", ["rejected", "budget", "error", "timeout", "crash", "malformed", "check_error"]
)
def test_what_a_program_brings_about_counts(failure: str) -> None:
    attempts = pretended([1, None], failure)
    assert mean(attempts) == 0.5
    assert not void(attempts)


PROVOKED = plan('ask(task.prompt + "#") if task.verb != "rev" else ask(task.prompt)')


def test_a_policy_failure_that_a_plan_provokes_hides_nothing() -> None:
    tasks = tasks_of()
    ours, theirs = (attempted(each, tasks, Scripted(fragile="#")) for each in (PROVOKED, HONEST))
    beside = compared(ours.attempts, theirs.attempts)
    assert beside.score <= beside.baseline
    assert void(ours.attempts)


# ---------------------------------------------------------------------- the stage


def sentence(rng: Random, level: int) -> Task:
    n = rng.randrange(10**9)
    return Task(prompt=f"Say {n}", answer=str(n))


ANY = Suite("any", [Skill(path="own/say", summary="say it", generator=sentence, levels=(1, 1))])
TELL = """
import hashlib
async def solve(task, agent):
    text = " ".join(task.prompt.split()).casefold()
    hashed = hashlib.blake2b(text.encode(), digest_size=8, person=b"moevolve.split", key=KEY)
    point = int.from_bytes(hashed.digest(), "little") / 2**64
    for name, share in (("train", .6), ("dev", .1), ("gate", .15)):
        point -= share
        if point < 0:
            return name
    return "sealed"
"""


@pytest.mark.parametrize("key", [b"", hashlib.sha256(b"7").digest(), secret_of(8, "any")])
def test_nobody_tells_the_stage_without_the_secret(key: bytes) -> None:
    mine = ANY.keyed(secret_of(7, "any")).opened()
    judge = SealedGrader(mine)
    told = total = 0
    for split in SPLITS:
        tasks = mine.sample(split, [("own/say", 1)] * 60, "stage", split)
        found = attempted(TELL.replace("KEY", repr(key)), tasks, which=mine, judge=judge)
        told += sum(attempt.answer == split for attempt in found.attempts)
        total += len(tasks)
    judge.close()
    assert told / total < 0.4  # A guess of `train` alone is right in a quarter of the cases.


def test_keys_of_attempts_do_not_follow_from_the_seed() -> None:
    from moevolve.rollouts.runner import RolloutRequest

    request = RolloutRequest(
        variant="v", weights="w", program="p", tasks=tasks_of()[:4], stage=(7, 1, "gate")
    )
    assert set(request.job(PRIMER.secret).keys).isdisjoint(request.job().keys)
    assert request.job(PRIMER.secret).keys == request.job(PRIMER.secret).keys


# ---------------------------------------------------------------------- training and memory


def test_a_part_is_learned_only_where_it_is_right_for_what_was_asked() -> None:
    task = next(task for task in tasks_of("train") if PRIMER[task.skill].verb == "rev")
    right = [Attempt(task, task.answer or "", grade(task, task.answer or ""))]
    prompts = [f"rev:{a}{b}c=" for a in "abcdefghij" for b in "abcdefghij"]
    train = [prompt for prompt in prompts if PRIMER.split_of(prompt) == "train"]
    parts: list[Part] = []
    for prompt in train:
        payload = prompt[4:-1]
        parts += [(prompt, payload), (prompt, payload[::-1] + " "), (f"cnt:{payload}=", "6"), (prompt, "")]
    buffer = Buffer(10_000)
    assert buffer.add_parts(right, [parts], 1, PRIMER) == sum(p[4] == p[6] for p in train)
    assert all(VERBS[i.prompt[:3]].truth(i.prompt) == i.answer for i in buffer.items())  # type: ignore[misc]
    good = [(prompt, prompt[4:-1][::-1]) for prompt in prompts]
    assert buffer.add_parts(right, [good], 1, PRIMER) == len(train)
    wrong = [Attempt(task, "zz", grade(task, "zz"))]
    assert buffer.add_parts(wrong, [good], 1, PRIMER) == 0


def test_memory_says_nothing_of_a_task_that_is_judged() -> None:
    """A plan may put lessons before a question; they are of the train split, whatever a task asks for."""
    asked: list[str] = []

    def recall(request: RecallRequest) -> list[Lesson]:
        asked.append(request.query)
        return []

    tasks = tasks_of()[:4]
    attempted(plan('ask(f"{lessons(4)}{task.prompt}")'), tasks, recall=recall)
    assert sorted(asked) == sorted(task.prompt for task in tasks)
    assert all(split_of(query, bytes.fromhex(PRIMER.secret)) == "gate" for query in asked)


# ---------------------------------------------------------------------- the grader

Deed = Callable[[Task], str]
ANSWERS: dict[str, Deed] = {
    "the prompt": lambda task: task.prompt,
    "nothing": lambda task: "",
    "nothing but blanks": lambda task: " \n\t\u2003",
    "the answer twice": lambda task: f"{task.answer}{task.answer}",
    "the answer and more": lambda task: f"{task.answer}.",
    "the answer among others": lambda task: f"{task.answer} or not",
    "all letters": lambda task: "abcdefghij",
    "a prefix": lambda task: (task.answer or "")[:-1],
    "wide letters": lambda task: "".join(chr(ord(letter) + 0xFEE0) for letter in task.answer or ""),
    "zero-width letters between": lambda task: "\u200b".join(task.answer or "") + "\u200b",
    "a mark of direction": lambda task: f"\u202e{task.answer}",
    "NUL behind": lambda task: f"{task.answer}\0",
    "half a surrogate": lambda task: f"{task.answer}\ud800",
    "a combining accent": lambda task: f"{task.answer}\u0301",
    "nan": lambda task: "nan",
    "a verdict as JSON": lambda task: json.dumps([1.0, True, None, ""]),
    "a frame": lambda task: "\x02\0\0\0[]",
    "a million letters": lambda task: (task.answer or "") * 100_000,
    "True": lambda task: "True",
    "a format string": lambda task: "{answer}{task.answer}%s",
}


@pytest.mark.parametrize("deed", sorted(ANSWERS))
def test_no_answer_but_the_right_one_is_right(deed: str) -> None:
    judge = SealedGrader(PRIMER)
    from moevolve.rollouts.grading import Given

    tasks = tasks_of(levels=(2, 12))
    verdicts = judge.grade([Given(task, ANSWERS[deed](task), 0) for task in tasks], (1,))
    judge.close()
    assert not any(verdict.success for verdict in verdicts)
    assert all(verdict.failure in ("wrong", "malformed") for verdict in verdicts)


# ---------------------------------------------------------------------- the archive


def proposed(*texts: tuple[str, str]) -> int:
    genome = seed_genome()
    edits = [[Edit(path=path, text=text, operator="own", summary="")] for path, text in texts]
    return len(children(genome, edits, set(), lambda child: child.hash))


def test_copies_and_untried_edits_cannot_fill_the_archive() -> None:
    files = seed_genome().files
    assert proposed(*[("improve.py", f"{files['improve.py']}\n# copy {n}\n") for n in range(64)]) == 0
    assert proposed(*[("solve.py", f"{files['solve.py']}\n# {n}\n") for n in range(64)]) == 0
    assert proposed(*[("improve.py", f"{files['improve.py']}\nSPARE = {n}\n") for n in range(64)]) == UNTRIED
    assert proposed(*[("solve.py", f"{files['solve.py']}\nSPARE = {n}\n") for n in range(8)]) == 8
