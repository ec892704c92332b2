"""The scheduler: what a sample draws depends on nothing but itself, whoever else comes, goes or waits."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moevolve import Engine, _native
from moevolve.policy.sampling import Event, Sampling
from moevolve.policy.scheduler import Scheduler

MODELS = Path(__file__).parents[1] / "fixtures" / "model"
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ids = st.lists(st.integers(4, 19), min_size=1, max_size=40)
samplings = st.builds(
    Sampling,
    max_tokens=st.integers(0, 24),
    temperature=st.sampled_from([0.0, 0.7, 1.0, 1.6]),
    top_p=st.sampled_from([0.6, 1.0]),
    top_k=st.sampled_from([0, 5]),
    min_p=st.sampled_from([0.0, 0.05]),
    frequency_penalty=st.sampled_from([0.0, 0.4]),
    presence_penalty=st.sampled_from([0.0, -0.3]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    logit_bias=st.sampled_from([(), ((5, 2.0), (6, -100.0))]),
    top_logprobs=st.sampled_from([0, 3]),
    speculate=st.sampled_from([0, 1, 5]),
    ignore_eos=st.booleans(),
)
requests = st.tuples(ids, samplings, st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))


def model(threads: int = 1, **changes: object) -> Engine:
    """A tiny model with random weights that are far from uniform."""
    config = json.loads((MODELS / "odd" / "checkpoint" / "config.json").read_text())
    config |= {"initializer_range": 0.4, "max_position_embeddings": 160, "vocab_size": 20} | changes
    return Engine(_native.Engine.create(json.dumps(config), None, 5, threads))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return model(2)


@pytest.fixture(scope="module")
def texts() -> Engine:
    return Engine.load(MODELS / "text" / "checkpoint")


def drain(scheduler: Scheduler) -> list[Event]:
    events = []
    while scheduler.busy or scheduler.waiting:
        events += scheduler.round()
    return events + scheduler.round()


def joined(events: list[Event]) -> dict[tuple[int, int], tuple[list[object], str | None]]:
    """All that was drawn of each sample, and how it ended."""
    drawn: dict[tuple[int, int], list[object]] = defaultdict(list)
    ends: dict[tuple[int, int], str | None] = {}
    for event in events:
        place = event.request, event.sample
        assert place not in ends, "an event after the end"
        drawn[place] += event.drawn
        if event.finish is not None:
            ends[place] = event.finish
    return {place: (tokens, ends.get(place)) for place, tokens in drawn.items()}


def alone(engine: Engine, request: tuple[list[int], Sampling, list[int]]) -> list[object]:
    """What each sample draws when it is the only one there ever was."""
    prompt, sampling, keys = request
    out = []
    for key in keys:
        scheduler = Scheduler(engine, slots=1)
        scheduler.submit(prompt, sampling, keys=[key])
        ((one,),) = [list(joined(drain(scheduler)).values())]
        out.append(one)
    return out


@SLOW
@given(
    arrivals=st.lists(st.tuples(requests, st.integers(0, 6), st.none() | st.integers(0, 8)), max_size=7),
    slots=st.integers(1, 6),
    shared=ids,
    spare=st.integers(0, 8),
)
def test_neither_company_nor_cancelling_changes_what_a_sample_draws(engine, arrivals, slots, shared, spare):
    """Requests come after some rounds, some with a common beginning, and are cancelled after some rounds more."""
    block = Scheduler(engine, slots=1).limit // 10  # 160 positions are ten blocks.
    scheduler = Scheduler(engine, slots=slots, memory=block * (7 + spare))
    plan = []
    for at, ((prompt, sampling, keys), pause, life) in enumerate(arrivals):
        prompt = (shared * 3)[:40] + prompt if at % 2 else prompt
        plan.append((prompt, sampling, keys, pause, life))
    events: list[Event] = []
    numbers: dict[int, tuple[list[int], Sampling, list[int]]] = {}
    lives: dict[int, int] = {}

    def round_() -> None:
        nonlocal events
        assert scheduler.busy <= slots
        assert scheduler.memory <= scheduler.limit
        for number in [n for n, left in lives.items() if left == 0]:
            scheduler.cancel(number)
        for number in lives:
            lives[number] -= 1
        events += scheduler.round()

    for prompt, sampling, keys, pause, life in plan:
        number = scheduler.submit(prompt, sampling, keys=keys)
        numbers[number] = (prompt, sampling, keys)
        if life is not None:
            lives[number] = life
        for _ in range(pause):
            round_()
    while scheduler.busy or scheduler.waiting:
        round_()
    events += scheduler.round()

    told = joined(events)
    assert len(told) == sum(len(keys) for _, _, keys in numbers.values())
    for number, request in numbers.items():
        for sample, (tokens, finish) in enumerate(alone(engine, request)):
            drawn, end = told[number, sample]
            if end == "cancelled":
                assert number in lives
                assert drawn == tokens[: len(drawn)]
            else:
                assert (drawn, end) == (tokens, finish)


@SLOW
@given(request=requests, guesses=st.integers(1, 9))
def test_speculation_changes_nothing(engine, request, guesses):
    prompt, sampling, keys = request
    prompt = prompt * 2  # Something to look up.
    plain, guessed = (
        joined(run(engine, (prompt, msgspec_replace(sampling, speculate=n), keys))) for n in (0, guesses)
    )
    assert plain == guessed


def run(engine: Engine, request: tuple[list[int], Sampling, list[int]]) -> list[Event]:
    scheduler = Scheduler(engine)
    prompt, sampling, keys = request
    scheduler.submit(prompt, sampling, keys=keys)
    return drain(scheduler)


def msgspec_replace(sampling: Sampling, **changes: object) -> Sampling:
    import msgspec

    return msgspec.structs.replace(sampling, **changes)
