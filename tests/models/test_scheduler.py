"""The scheduler: what a sample draws depends on nothing but itself, whoever else comes, goes or waits."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from moevolve import Engine
from moevolve.errors import CapacityError, UsageError
from moevolve.models.scheduler import Scheduler
from moevolve.protocol.sampling import Drawn, Event, Sampling, TokenRequest
from moevolve.randomness import key

MODELS = Path(__file__).parents[1] / "fixtures" / "model"
SLOW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

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
requests = st.builds(
    TokenRequest, ids, samplings, st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4)
)


def model(threads: int = 1, **changes: object) -> Engine:
    """A tiny model with random weights that are far from uniform."""
    config = json.loads((MODELS / "odd" / "checkpoint" / "config.json").read_text())
    config |= {"initializer_range": 0.4, "max_position_embeddings": 160, "vocab_size": 20} | changes
    return Engine.create(json.dumps(config), seed=5, threads=threads)


@pytest.fixture(scope="module", params=["trainable", "stored"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Each thread on samples of its own, and all threads on the products of one batch."""
    made = model(2, head_dim=16)
    if request.param == "trainable":
        return made
    folder = tmp_path_factory.mktemp("stored") / "model"
    made.save(folder, dtype="bf16")
    return Engine.load(folder, threads=2, weights="stored")


@pytest.fixture(scope="module")
def texts() -> Engine:
    return Engine.load(MODELS / "text" / "checkpoint")


def drain(scheduler: Scheduler) -> list[Event]:
    events = []
    while scheduler.busy or scheduler.waiting:
        events += scheduler.step()
    return events + scheduler.step()


def joined(events: list[Event]) -> dict[tuple[int, int], tuple[list[Drawn], str | None]]:
    """All that was drawn of each sample, and how it ended."""
    drawn: dict[tuple[int, int], list[Drawn]] = defaultdict(list)
    ends: dict[tuple[int, int], str | None] = {}
    for event in events:
        place = event.request, event.sample
        assert place not in ends, "an event after the end"
        drawn[place] += event.drawn
        if event.finish is not None:
            ends[place] = event.finish
    return {place: (tokens, ends.get(place)) for place, tokens in drawn.items()}


def alone(engine: Engine, request: TokenRequest) -> list[tuple[list[Drawn], str | None]]:
    """What each sample draws when it is the only one there ever was."""
    out: list[tuple[list[Drawn], str | None]] = []
    for one in request.keys:
        scheduler = Scheduler(engine, slots=1)
        scheduler.submit(replace(request, keys=[one]))
        out += joined(drain(scheduler)).values()
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
    for at, (request, pause, life) in enumerate(arrivals):
        longer = replace(request, prompt=(shared * 3)[:40] + request.prompt)
        plan.append((longer if at % 2 else request, pause, life))
    events: list[Event] = []
    numbers: dict[int, TokenRequest] = {}
    lives: dict[int, int] = {}

    def round_() -> None:
        nonlocal events
        assert scheduler.busy <= slots
        assert scheduler.memory <= scheduler.limit
        for number in [n for n, left in lives.items() if left == 0]:
            scheduler.cancel(number)
        for number in lives:
            lives[number] -= 1
        events += scheduler.step()

    for request, pause, life in plan:
        number = scheduler.submit(request)
        numbers[number] = request
        if life is not None:
            lives[number] = life
        for _ in range(pause):
            round_()
    while scheduler.busy or scheduler.waiting:
        round_()
    events += scheduler.step()

    told = joined(events)
    assert len(told) == sum(len(request.keys) for request in numbers.values())
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
    twice = replace(request, prompt=request.prompt * 2)  # Something to look up.
    plain, guessed = (
        joined(run(engine, replace(twice, sampling=replace(request.sampling, speculate=n))))
        for n in (0, guesses)
    )
    assert plain == guessed


def run(engine: Engine, request: TokenRequest) -> list[Event]:
    scheduler = Scheduler(engine)
    scheduler.submit(request)
    return drain(scheduler)


@SLOW
@given(several=st.lists(requests, max_size=4))
def test_a_batch_draws_what_the_scheduler_draws(engine, several):
    told = [sample for request in several for sample in alone(engine, request)]
    completed = [sample for samples in engine.complete(several) for sample in samples]
    for (drawn, finish), completion in zip(told, completed, strict=True):
        assert (completion.tokens, completion.finish) == ([one.token for one in drawn], finish)
        assert completion.logprobs[: len(drawn)] == [one.logprob for one in drawn]
        assert completion.top_logprobs == (
            tuple(one.top for one in drawn) if any(one.top for one in drawn) else ()
        )


def test_completions_are_those_of_the_engine(texts):
    prompts = ["ab", "cab=", "x" * 40]
    expected = texts.generate(prompts, n=3, max_tokens=20, seed=4)
    keys = [[key(4, "generate", index, sample) for sample in range(3)] for index in range(3)]
    found = Scheduler(texts, slots=2).complete(
        [
            TokenRequest(texts.encode(prompt), Sampling(max_tokens=20), keys[n])
            for n, prompt in enumerate(prompts)
        ]
    )
    assert [tuple(samples) for samples in found] == [tuple(samples) for samples in expected]


@SLOW
@given(
    start=st.integers(0, 25),
    length=st.integers(1, 5),
    chosen=st.integers(0, 2**32),
    speculate=st.sampled_from([0, 4]),
)
def test_a_stop_text_ends_a_sample_where_it_first_begins(texts, start, length, chosen, speculate):
    plain = Sampling(max_tokens=30, temperature=1.3, ignore_eos=True)
    prompt = texts.encode("ab")
    ((whole,),) = Scheduler(texts).complete([TokenRequest(prompt, plain, [chosen])])
    stop = whole.text[start : start + length]
    if not stop:
        return
    sampling = replace(plain, stop=("\u2603", stop), speculate=speculate)
    scheduler = Scheduler(texts)
    ((cut,),) = scheduler.complete([TokenRequest(prompt, sampling, [chosen])])
    assert (cut.text, cut.finish) == (whole.text[: whole.text.index(stop)], "stop")
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    assert cut.logprobs == whole.logprobs[: len(cut.tokens)]
    # The shortest beginning of the tokens whose text has the stop text in it.
    assert stop in texts.text(cut.tokens)
    assert stop not in texts.text(cut.tokens[:-1])
    # The slot is given back, and nothing more is told.
    assert drain(scheduler) == []
    assert (scheduler.busy, scheduler.waiting) == (0, 0)


def test_text_is_held_back_only_while_a_stop_text_may_begin_in_it(texts):
    sampling = Sampling(max_tokens=12, temperature=1.0, ignore_eos=True, stop=("never this",))
    scheduler = Scheduler(texts)
    scheduler.submit(TokenRequest(texts.encode("ab"), sampling, [3]))
    shown, drawn = "", []
    for event in drain(scheduler):
        drawn += [one.token for one in event.drawn]
        shown += event.text or ""
        missing = texts.text(drawn).removeprefix(shown)
        assert "never this".startswith(missing)
        assert event.finish is None or not missing


def test_stop_texts_need_a_tokenizer(engine):
    with pytest.raises(UsageError, match="stop at tokens"):
        Scheduler(engine).submit(TokenRequest([5], Sampling(max_tokens=1, stop=("a",)), [1]))


def test_alternatives_are_the_likeliest_tokens(engine):
    scheduler = Scheduler(engine)
    sampling = Sampling(max_tokens=6, temperature=0.0, top_logprobs=4, ignore_eos=True)
    scheduler.submit(TokenRequest([5, 6], sampling, [1]))
    for event in drain(scheduler):
        for one in event.drawn:
            assert len(one.top) == 4
            assert one.top[0] == (one.token, one.logprob)
            assert sorted(one.top, key=lambda entry: -entry[1]) == list(one.top)


def test_what_can_never_fit_is_refused_and_leaves_nothing_behind(engine):
    block = Scheduler(engine, slots=1).limit // 10
    scheduler = Scheduler(engine, memory=2 * block)
    fits, large = Sampling(max_tokens=8), Sampling(max_tokens=80)
    with pytest.raises(CapacityError, match=str(2 * block)):
        scheduler.complete([TokenRequest([5] * 8, fits, [1]), TokenRequest([5] * 8, large, [1])])
    drain(scheduler)
    assert (scheduler.busy, scheduler.waiting, scheduler.memory) == (0, 0, 0)
    with pytest.raises(CapacityError):
        Scheduler(engine, memory=0)
    with pytest.raises(UsageError):
        Scheduler(engine, slots=0)


def test_completing_keeps_what_others_draw_for_the_next_round(engine):
    request = TokenRequest([5, 6, 7], Sampling(max_tokens=9), [1, 2])
    expected = alone(engine, request)
    scheduler = Scheduler(engine)
    number = scheduler.submit(request)
    scheduler.complete([TokenRequest([8, 9], Sampling(max_tokens=20, ignore_eos=True), [3])])
    told = joined(drain(scheduler))
    assert [told[number, sample] for sample in range(2)] == expected


def test_threads_submit_and_cancel_while_another_makes_rounds(engine):
    """Eight threads with forty requests each, a quarter of them cancelled: every sample ends once, as it would alone."""
    sampling = Sampling(max_tokens=6)
    prompts = [[5 + n, 6, 7 + n] for n in range(8)]
    expected = [alone(engine, TokenRequest(prompt, sampling, [1, 2])) for prompt in prompts]
    scheduler = Scheduler(engine, slots=6)
    numbers: list[dict[int, int]] = [{} for _ in prompts]
    doomed: set[int] = set()

    def client(at: int) -> None:
        for turn in range(40):
            number = scheduler.submit(TokenRequest(prompts[at], sampling, [1, 2]))
            numbers[at][number] = turn
            if turn % 4 == 0:
                doomed.add(number)
                scheduler.cancel(number)

    threads = [threading.Thread(target=client, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    events = []
    while any(thread.is_alive() for thread in threads) or scheduler.busy or scheduler.waiting:
        events += scheduler.step()
    events += scheduler.step()
    told = joined(events)
    assert len(told) == 8 * 40 * 2
    for at, mine in enumerate(numbers):
        for number in mine:
            for sample in range(2):
                drawn, end = told[number, sample]
                if end == "cancelled":
                    assert number in doomed
                else:
                    assert (drawn, end) == expected[at][sample]


def test_an_engine_outlives_its_schedulers_and_they_its_owner(engine):
    """A swap: the old scheduler drains on its own engine while the new one already answers on another."""
    other = model(1, initializer_range=0.3)
    request = TokenRequest([5, 6, 7], Sampling(max_tokens=12, ignore_eos=True), [1])
    expected = [alone(one, request)[0] for one in (engine, other)]
    schedulers = [Scheduler(engine), Scheduler(other)]
    numbers = [one.submit(request) for one in schedulers]
    del other
    events: list[list[Event]] = [[], []]
    while any(one.busy or one.waiting for one in schedulers):
        for heard, one in zip(events, schedulers, strict=True):
            heard += one.step()
    assert [joined(heard)[number, 0] for heard, number in zip(events, numbers, strict=True)] == expected


def test_texts_are_read_and_written_while_the_engine_is_at_work(texts):
    request = TokenRequest([5, 6], Sampling(max_tokens=200), range(4000))
    work = threading.Thread(target=texts.complete, args=([request],))
    work.start()
    decoded = 0
    while work.is_alive():
        texts.decode(texts.encode("ab"))
        decoded += 1
    assert decoded > 20
