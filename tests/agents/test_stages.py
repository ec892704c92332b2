"""Each stage and join rule against a policy that is right on short payloads and wrong on long ones."""

from __future__ import annotations

import json

import plan
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moevolve.agents.operators import stages
from moevolve.agents.plans.expression import decode
from moevolve.agents.plans.run import attempts
from moevolve.config.roles import RoleSection
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import PublicTask
from moevolve.tasks import cutters
from moevolve.tasks.primer.cutters import CUTTERS


class Policy:
    """Answers as it is told to; keeps what it answered."""

    def __init__(self, text):
        self.text = text
        self.given = []

    def __call__(self, requests):
        replies = []
        for request in requests:
            texts = [self.text(request.prompt) for _ in range(request.n)]
            self.given += texts
            replies.append([Completion(text, [1] * len(text), [], "stop") for text in texts])
        return replies


def run(stage, policy, prompt, **parameters):
    """The answer of a stage as a plan, and nothing where the attempt fails."""
    task = plan.Task(prompt.partition(":")[0], "any/skill")
    made = decode(json.dumps(plan.node(getattr(stages, stage)(task, **parameters))))
    limits = RoleSection(requests=1000, tokens=10**6)
    [outcome] = attempts(
        {"any/skill": made},
        [PublicTask(prompt=prompt, skill="any/skill")],
        [1],
        Policy(policy),
        None,
        CUTTERS,
        limits,
    )
    assert outcome.failure is None, outcome.detail
    return outcome.answer


@pytest.mark.parametrize(
    ("prompt", "stage", "parameters"),
    [
        ("cae:abcdefghij=", "split", {"cut_at": "even", "join": "order"}),
        ("rev:abcdefghij=", "split", {"cut_at": "even", "join": "reversed"}),
        ("crv:abcdefghij=", "split", {"cut_at": "even", "join": "reversed"}),
        ("ddp:abbbbccddd=", "split", {"cut_at": "change", "join": "order"}),
        ("drv:abbbccddde=", "split", {"cut_at": "change", "join": "reversed"}),
        ("srt:jihgfedcba=", "split", {"cut_at": "range", "join": "order"}),
        ("srt:aabbabcabd=", "split", {"cut_at": "range", "join": "order"}),
        ("srv:acegibdfhj=", "split", {"cut_at": "range", "join": "reversed"}),
        ("par:3817462950=", "carry", {}),
        ("cnt:xoxxoxoxxxox=", "fold", {"through": "add", "glue": "+"}),
        ("add:4231342+3324231=", "columns", {}),
        ("sub:978675-132420=", "columns", {}),
    ],
)
@pytest.mark.parametrize("samples", [1, 3])
def test_splitting_and_joining_solves_what_is_too_long(oracle, prompt, stage, parameters, samples):
    from_truth = type(oracle)(limit=100).text(prompt)
    size = 2 if stage == "columns" else 4
    assert oracle.text(prompt) != from_truth
    assert run(stage, oracle.text, prompt, size=size, above=8, samples=samples, **parameters) == from_truth


def test_a_window_decides_between_long_numbers():
    def policy(prompt):
        left, right = prompt[len("cmp:") : -1].split(",")
        return max(left, right) if left == right or len(left) <= 2 else "?"

    for numbers in ("12345678,12345778", "91234567,81234567", "12345671,12345679", "5555,5555", "99,98"):
        expected = max(numbers.split(","))
        assert run("window", policy, f"cmp:{numbers}=", size=2, above=3, say=0, samples=1) == expected


@pytest.mark.parametrize("stage", ["split", "carry", "fold", "columns"])
def test_short_payloads_are_asked_directly(oracle, stage):
    more = {"split": {"cut_at": "even", "join": "order"}, "fold": {"through": "", "glue": ""}}.get(stage, {})
    seen = []

    def policy(prompt):
        seen.append(prompt)
        return oracle.text(prompt)

    assert run(stage, policy, "rev:abc=", size=2, above=3, samples=1, **more) == "cba"
    assert seen == ["rev:abc="]


@given(st.text("abcdef", min_size=1, max_size=40), st.integers(1, 9))
def test_even_parts_are_even(payload, size):
    parts = cutters.even(payload, size)
    assert "".join(parts) == payload
    assert max(map(len, parts)) <= size
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.text("abc", min_size=1, max_size=40), st.integers(1, 9))
def test_no_run_is_cut(payload, size):
    parts = cutters.change(payload, size)
    assert "".join(parts) == payload
    assert all(before[-1] != after[0] for before, after in zip(parts, parts[1:], strict=False))


@given(st.text("abcdefghij", min_size=1, max_size=40), st.integers(1, 9))
def test_ranges_are_in_order_and_complete(payload, size):
    parts = cutters.by_range(payload, size)
    assert sorted("".join(parts)) == sorted(payload)
    assert all(max(before) < min(after) for before, after in zip(parts, parts[1:], strict=False))


@settings(max_examples=200)
@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from("+-"), st.integers(2, 4))
def test_columns_are_exact_where_the_parts_are(left, right, sign, size):
    left, right = max(left, right), min(left, right)
    verb = {"+": "add", "-": "sub"}[sign]

    def exact(prompt):
        first, second = prompt[len("add:") : -1].split(sign)
        return str(int(first) + int(second) if sign == "+" else int(first) - int(second))

    expected = left + right if sign == "+" else left - right
    assert run("columns", exact, f"{verb}:{left}{sign}{right}=", size=size, above=0, samples=1) == str(
        expected
    )


def test_steps_add_digit_by_digit(oracle):
    policy = type(oracle)(limit=100).text
    assert run("steps", policy, "add:1234+567=") == "1801"
    assert run("steps", policy, "sub:1234-507=") == "727"
    assert run("steps", policy, "add:12+0=") == "12"


def test_votes_take_the_most_frequent():
    answers = iter(["no", "yes", "yes", "no", "yes"])
    assert run("vote", lambda prompt: next(answers), "rev:ab=", samples=4, temperature=1.0) == "yes"
    answers = iter(["no", "yes"])
    assert run("vote", lambda prompt: next(answers), "rev:ab=", samples=1, temperature=1.0) == "no"


def test_retry_asks_again_after_an_empty_answer():
    answers = iter(["", "ok", "ok"])
    assert run("retry", lambda prompt: next(answers), "rev:ab=", samples=2, temperature=1.0) == "ok"


def test_doubt_splits_when_the_votes_disagree(oracle):
    parameters = {"samples": 4, "temperature": 1.0, "size": 4, "cut_at": "even", "join": "reversed"}
    assert run("doubt", oracle.text, "rev:abcdef=", agreement=0.9, **parameters) == "fedcba"
    answers = iter(["a", "b", "c", "d", "e"])

    def unsure(prompt):
        return next(answers) if prompt == "rev:abcdefghij=" else oracle.text(prompt)

    assert run("doubt", unsure, "rev:abcdefghij=", agreement=0.9, **parameters) == "jihgfedcba"


def test_verified_prefers_the_answer_that_inverts():
    asked = iter(["dcab", "dcba", "dcab"])
    back = {"rev:dcba=": "abcd", "rev:dcab=": "bacd"}
    policy = lambda prompt: back[prompt] if prompt in back else next(asked)  # noqa: E731
    assert run("verified", policy, "rev:abcd=", samples=2, temperature=1.0, through="rev") == "dcba"


def test_swapped_asks_both_orders(oracle):
    assert run("swapped", oracle.text, "cmp:12,93=", samples=2, temperature=0.5) == "93"


def test_chain_goes_through_the_programs_own_routes(host, oracle):
    from moevolve.agents.genome import seed_genome
    from moevolve.agents.operators import routes

    split = {"size": 4, "above": 8, "cut_at": "even", "samples": 1}
    chosen = {
        "crv": ("chain", {"verbs": ("cae", "rev")}),
        "cae": ("split", split | {"join": "order"}),
        "rev": ("split", split | {"join": "reversed"}),
    }
    seed = seed_genome()
    text, _ = routes.add(seed.files["solve.py"], chosen)
    behaviour = host.behaviour(type(seed)(files=seed.files | {"solve.py": text}), {"crv": "crv"}, 1)
    task = PublicTask(prompt="crv:abcdefghij=", skill="crv")
    plans = behaviour.expressions(CUTTERS)
    [outcome] = attempts(plans, [task], [1], oracle, None, CUTTERS, RoleSection())
    assert (outcome.answer, outcome.failure) == ("kjihgfedcb", None)
