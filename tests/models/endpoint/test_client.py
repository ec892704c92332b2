"""Calls to a server that behaves, and to one that does not."""

from __future__ import annotations

import asyncio
import socket

import pytest
from scripted_endpoint import KEY, MODEL, FakeTime, serving

from moevolve.config import Config
from moevolve.errors import EndpointError
from moevolve.models.endpoint.client import Client
from moevolve.models.endpoint.exchange import Exchange
from moevolve.models.endpoint.pacing import PATIENCE, Pace
from moevolve.models.endpoint.secret import Secret
from moevolve.models.endpoint.speech import Speech
from moevolve.randomness import key


def always(action: str):
    return lambda body, tries: action


def first(action: str, times: int = 1):
    return lambda body, tries: action if tries < times else "ok"


def test_a_chat_request_says_what_is_wanted(ask, a_request):
    with serving() as server:
        [exchange] = ask(server, a_request(), system="Be brief.")
    assert exchange.texts == ["cba"] and exchange.failure is None
    [body] = server.seen
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "rev:abc="},
    ]
    assert (body["model"], body["n"], body["temperature"], body["max_tokens"]) == (MODEL, 1, 0.0, 16)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_completions_carry_the_bare_prompt(ask, a_request):
    with serving() as server:
        [exchange] = ask(server, a_request(), api="completions", token_field="max_completion_tokens")
    assert exchange.texts == ["cba"]
    assert server.seen[0]["prompt"] == "rev:abc=" and server.seen[0]["max_completion_tokens"] == 16


def test_usage_is_counted_as_reported(ask, a_request):
    with serving() as server:
        exchanges = ask(server, *(a_request(f"rev:{text}=", n=3, key=i) for i, text in enumerate("abcd")))
    assert sum(e.prompt_tokens for e in exchanges) == server.charged["prompt"]
    assert sum(e.cached_tokens for e in exchanges) == server.charged["cached"]
    assert sum(e.completion_tokens for e in exchanges) == server.charged["completion"]


def test_a_server_that_ignores_n_is_asked_for_the_rest(ask, a_request):
    with serving(most_n=2) as server:
        [exchange] = ask(server, a_request(n=5))
    assert exchange.texts == ["cba"] * 5 and exchange.calls == 3
    assert [body["n"] for body in server.seen] == [5, 3, 1]
    assert len({body["seed"] for body in server.seen}) == 3
    assert exchange.prompt_tokens == server.charged["prompt"]


def test_missing_usage_is_said(ask, a_request):
    with serving(always("unmetered")) as server:
        [exchange] = ask(server, a_request())
    assert exchange.texts == ["cba"]
    assert (exchange.unmetered, exchange.prompt_tokens, exchange.completion_tokens) == (1, 0, 0)


@pytest.mark.parametrize(
    ("misdeed", "kind"),
    [
        ("rate_limited", "rate_limited"),
        ("rate_limited_after", "rate_limited"),
        ("server_error", "server_error"),
        ("slow", "timeout"),
        ("drop", "dropped"),
        ("cut", "truncated"),
        ("half", "truncated"),
        ("garbage", "malformed"),
        ("html", "malformed"),
        ("empty", "malformed"),
    ],
)
def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_typed(ask, a_request, misdeed, kind):
    with serving(first(misdeed, 2)) as server:
        [exchange] = ask(server, a_request(), retries=2)
    assert exchange.texts == ["cba"] and exchange.failure is None
    assert (exchange.calls, exchange.faults) == (3, {kind: 2})
    with serving(always(misdeed)) as server:
        [exchange] = ask(server, a_request(), retries=2)
    assert exchange.texts == [] and exchange.failure == kind
    assert (exchange.calls, exchange.faults, len(server.seen)) == (3, {kind: 3}, 3)
    assert exchange.prompt_tokens == server.charged["prompt"]


def test_a_failure_leaves_its_siblings_alone(ask, a_request):
    def script(body, tries):
        return "server_error" if body["messages"][0]["content"] == "rev:b=" else "ok"

    with serving(script) as server:
        exchanges = ask(
            server, *(a_request(f"rev:{text}=", key=i) for i, text in enumerate("abc")), retries=1
        )
    assert [exchange.texts for exchange in exchanges] == [["a"], [], ["c"]]


@pytest.mark.parametrize(
    ("settings", "about"), [({"retries": 100}, 600), ({"retries": 9, "outage": 40.0}, 40)]
)
def test_a_server_that_stays_silent_ends_the_run_before_every_request_was_tried_to_its_end(
    ask, a_request, still, settings, about
):
    requests = [a_request(key=key) for key in range(50)]
    with (
        serving(always("server_error")) as server,
        pytest.raises(EndpointError, match="answered nothing for"),
    ):
        ask(server, *requests, concurrency=1, **settings)
    assert about <= still.now < about + 60


def test_a_server_that_answers_now_and_then_is_not_silent(ask, a_request, still):
    with serving(first("server_error", 4)) as server:
        exchanges = ask(
            server, *(a_request(f"rev:{i}=", key=i) for i in range(40)), concurrency=1, outage=20.0
        )
    assert still.now > 60 and all(exchange.failure is None for exchange in exchanges)


def test_time_in_which_nobody_asks_is_no_silence(a_request, still):
    calls = iter(range(4))
    found: dict[int, Exchange] = {}
    with serving(lambda body, tries: "ok" if next(calls) == 3 else "server_error") as server:
        given = {"policy.endpoint": server.url, "policy.model": MODEL, "endpoint.retries": 1}
        config = Config.load("small", given)
        pace = Pace(None, still.clock, still.wait)
        client = Client(config, Secret(KEY, "TEST_KEY"), Speech(MODEL, config.endpoint), pace)
        client.ask([a_request(key=1)], found.__setitem__)
        assert found[0].failure == "server_error"
        still.now += 3600.0  # Weights are trained, say.
        client.ask([a_request(key=2)], found.__setitem__)
        client.close()
    assert found[0].texts == ["cba"] and found[0].faults == {"server_error": 1}


def test_a_server_that_says_when_to_come_again_is_not_silent(ask, a_request, still):
    with serving(always("rate_limited_after")) as server:
        [exchange] = ask(server, a_request(), retries=5, outage=1.0)
    assert exchange.failure == "rate_limited" and still.now > 1.0


def test_a_server_that_says_nothing_runs_out_of_time(ask, a_request):
    with serving(always("hang")) as server:
        [exchange] = ask(server, a_request(), retries=0, timeout=0.2)
    assert exchange.failure == "timeout"


def test_nobody_at_the_address_is_refused(ask, a_request):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        [exchange] = ask(f"http://127.0.0.1:{closed.getsockname()[1]}/v1", a_request(), retries=1)
    assert exchange.failure == "refused" and exchange.faults == {"refused": 2}


def test_a_refused_prompt_is_not_asked_again(ask, a_request):
    with serving(always("refuse")) as server:
        [exchange] = ask(server, a_request())
    assert exchange.failure == "rejected" and exchange.calls == 1
    assert "this prompt is not allowed" in exchange.detail


def test_a_prompt_that_a_filter_stopped_fails_alone(ask, a_request):
    def script(body, tries):
        return "flag" if body["messages"][-1]["content"] == "rev:b=" else "ok"

    with serving(script) as server:
        exchanges = ask(server, *(a_request(f"rev:{text}=", key=i) for i, text in enumerate("abc")))
    assert [exchange.failure for exchange in exchanges] == [None, "content_filter", None]
    assert exchanges[1].calls == 1 and "flagged" in exchanges[1].detail


@pytest.mark.parametrize(
    ("misdeed", "advice"),
    [("unauthorised", "key_env"), ("broke", "quota"), ("unknown", "no such address or model")],
)
def test_what_no_further_try_can_mend_ends_the_run(ask, a_request, misdeed, advice):
    with serving(always(misdeed)) as server, pytest.raises(EndpointError, match=advice):
        ask(server, a_request(), a_request("rev:x="))
    assert len(server.seen) <= 2


def test_retry_after_is_heeded_by_every_request(ask, a_request, still):
    with serving(first("rate_limited_after")) as server:
        ask(server, a_request(), concurrency=1)
    assert still.now >= 7
    assert len(server.seen) == 2


def test_an_answer_with_which_a_server_takes_leave_is_kept_and_nothing_more_is_asked(ask, a_request, still):
    with serving(always("last")) as server:
        [exchange] = ask(server, a_request())
        assert exchange.texts == ["cba"]
    got: dict[int, Exchange] = {}
    with serving(always("last")) as server, pytest.raises(EndpointError, match="left alone for 29 minutes"):
        ask(server, a_request(), a_request("rev:x="), done=got)
    assert [exchange.texts for exchange in got.values()] == [["cba"]] and len(server.seen) == 1


def test_calls_that_are_out_when_a_server_takes_leave_come_to_their_end(ask, a_request):
    actions = {"rev:a=": "ok", "rev:b=": "last", "rev:c=": "late"}
    requests = [a_request(f"rev:{text}=", key=i) for i, text in enumerate("abcd")]
    got: dict[int, Exchange] = {}
    with (
        serving(lambda body, tries: actions[body["messages"][-1]["content"]]) as server,
        pytest.raises(EndpointError, match="resume the run later"),
    ):
        ask(server, *requests, done=got, concurrency=2)
    assert {place: exchange.texts for place, exchange in got.items()} == {0: ["a"], 1: ["b"], 2: ["c"]}


def test_no_call_is_made_once_a_failure_has_ended_the_run_and_those_that_are_out_are_kept(ask, a_request):
    actions = {"rev:b=": "unauthorised", "rev:c=": "late"}
    requests = [a_request(f"rev:{text}=", key=i) for i, text in enumerate("abcdefgh")]
    got: dict[int, Exchange] = {}
    with (
        serving(lambda body, tries: actions.get(body["messages"][-1]["content"], "ok")) as server,
        pytest.raises(EndpointError, match="key_env"),
    ):
        ask(server, *requests, done=got, concurrency=2)
    assert {place: exchange.texts for place, exchange in got.items()} == {0: ["a"], 2: ["c"]}
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("action", "words", "kept"), [("last", "left alone", ["cba"]), ("unauthorised", "key_env", [])]
)
def test_what_a_request_has_come_to_is_on_record_when_the_run_ends(ask, a_request, action, words, kept):
    begun: list[Exchange] = []

    class Witness:
        def begin(self, place: int, so_far: Exchange) -> None:
            begun.append(so_far)

        def sent(self, place: int) -> None:
            pass

    with serving(always(action), most_n=1) as server, pytest.raises(EndpointError, match=words):
        ask(server, a_request(n=2), witness=Witness())
    assert [(exchange.calls, exchange.texts) for exchange in begun] == [(0, []), (1, kept)]
    assert begun[-1].unmetered == 0


def test_waits_between_tries_grow_and_depend_on_the_request_alone(ask, a_request, still):
    with serving(always("server_error")) as server:
        ask(server, a_request(key=5), retries=4)
    waits = list(still.waits)
    assert [round(wait / (0.5 * 2**tries), 3) for tries, wait in enumerate(waits)] == [
        round(_spread(5, tries + 1), 3) for tries in range(4)
    ]


def _spread(request_key: int, tries: int) -> float:
    from moevolve.randomness import rng

    return rng(request_key, "back off", tries).uniform(0.5, 1.5)


def test_calls_keep_to_the_rate_that_was_agreed(ask, a_request, still):
    with serving() as server:
        ask(server, *(a_request(key=key(place)) for place in range(13)), per_minute=6)
    assert still.now == pytest.approx(120)


def test_the_key_never_comes_back(ask, a_request):
    with serving(always("echo")) as server:
        [failed] = ask(server, a_request(), retries=0)
    with serving(always("repeat")) as server:
        [answered] = ask(server, a_request(), retries=0)
    assert KEY not in failed.detail and "[key]" in failed.detail
    assert answered.texts == ["[key]"]


def test_a_wish_to_be_left_alone_for_too_long_holds_nobody_up() -> None:
    still = FakeTime()
    pace = Pace(None, still.clock, still.wait)
    pace.hold(PATIENCE + 1)
    asyncio.run(pace.turn())
    assert still.clock() == 0
    pace.hold(7)
    asyncio.run(pace.turn())
    assert still.clock() == pytest.approx(7)
