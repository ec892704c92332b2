"""The account of a run, and its limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.config import EndpointSection
from moevolve.errors import SpendingLimitError
from moevolve.models.endpoint.exchange import Exchange
from moevolve.models.endpoint.meter import KEPT_BACK, Meter
from moevolve.models.endpoint.speech import EACH, OVERHEAD, Speech
from moevolve.protocol.completion import Completion
from moevolve.protocol.requests import GenerateRequest
from moevolve.protocol.sampling import Sampling

SAID = Speech("m", EndpointSection())
READ = 36 + OVERHEAD + EACH
"""Tokens that the prompt of `request` is taken for."""
PRICED = EndpointSection(price_input=1.0, price_cached=0.5, price_output=2.0)


def request(prompt: str = "x" * 36, n: int = 1, most: int = 100, key: int = 1) -> GenerateRequest:
    return GenerateRequest(
        attempt=0, prompt=prompt, sampling=Sampling(max_tokens=most, temperature=1.0), n=n, key=key
    )


def exchange(prompt: int = 10, completion: int = 5, **more: Any) -> Exchange:
    return Exchange(
        completions=[Completion("x", [], [], "stop")],
        prompt_tokens=prompt,
        completion_tokens=completion,
        **more,
    )


figures = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))


@given(st.lists(figures, min_size=1, max_size=20), st.integers(0, 20))
def test_bills_add_up_however_stages_are_cut(calls: list[tuple[int, int, int]], cut: int) -> None:
    meter = Meter(PRICED, SAID)
    found = []
    for place, (prompt, cached, completion) in enumerate(calls):
        if place == cut:
            found.append(meter.bill(1, "first"))
        made = exchange(prompt, completion, cached_tokens=min(cached, prompt))
        meter.use(str(place), request(), made)
    found.append(meter.bill(1, "second"))
    bills = [bill for bill in found if bill is not None]
    assert sum(bill.prompt_tokens for bill in bills) == sum(prompt for prompt, _, _ in calls)
    assert sum(Decimal(bill.cost or 0) for bill in bills) == sum(
        ((p - min(c, p)) + min(c, p) * Decimal("0.5") + w * 2) / Decimal(10**6) for p, c, w in calls
    )


def test_nothing_asked_is_no_bill() -> None:
    meter = Meter(PRICED, SAID)
    assert meter.bill(1, "dev") is None
    meter.reuse()
    bill = meter.bill(1, "dev")
    assert bill is not None and (bill.requests, bill.reused, bill.cost) == (0, 1, "0")


def test_without_prices_a_bill_has_no_money() -> None:
    meter = Meter(EndpointSection(), SAID)
    meter.use("a", request(), exchange())
    bill = meter.bill(1, "dev")
    assert bill is not None and bill.cost is None and bill.prompt_tokens == 10


def test_bills_vouch_for_what_was_said() -> None:
    seals = []
    for texts in (["yes"], ["no"]):
        meter = Meter(PRICED, SAID)
        meter.use("a", request(), Exchange(completions=[Completion(text, [], [], "stop") for text in texts]))
        seals.append(meter.bill(1, "dev"))
    assert seals[0] is not None and seals[1] is not None and seals[0].exchanges != seals[1].exchanges


@given(st.lists(st.integers(0, 100), min_size=1, max_size=40), st.integers(1, 4000))
def test_a_token_limit_is_never_passed(answers: list[int], limit: int) -> None:
    meter = Meter(EndpointSection(most_tokens=limit), SAID)
    wanted = [(str(place), request(key=place)) for place in range(len(answers))]
    asked = spent = 0
    try:
        for part in meter.affordable(wanted):
            for name, one in part:
                meter.use(name, one, exchange(READ, answers[int(name)]))
                spent += READ + answers[int(name)]
                asked += 1
    except SpendingLimitError:
        assert spent + READ + 100 > limit
    else:
        assert asked == len(answers)
    assert spent <= limit


def test_what_is_not_metered_counts_as_the_most_it_can_be_against_a_limit_only() -> None:
    meter = Meter(EndpointSection(most_tokens=2 * (READ + 100) - 1), SAID)
    meter.use("a", request(), exchange(0, 0, unmetered=1))
    with pytest.raises(SpendingLimitError):
        list(meter.affordable([("b", request())]))
    bill = meter.bill(1, "dev")
    assert bill is not None and (bill.prompt_tokens, bill.unmetered) == (0, 1)


def test_the_last_evaluation_has_its_share_kept_back() -> None:
    section = EndpointSection(most_tokens=1000)
    meter = Meter(section, SAID)
    meter.use("a", request(), exchange(200, 50))
    first = meter.bill(0, "sealed initial")
    assert first is not None
    meter.keep_back(first)
    room = 1000 - 250 - KEPT_BACK * 250
    wanted = [("b", request(most=room - READ + 1))]
    with pytest.raises(SpendingLimitError):
        list(meter.affordable(wanted))
    meter.release()
    assert list(meter.affordable(wanted)) == [wanted]


def test_a_run_that_goes_on_starts_from_what_it_spent() -> None:
    before = Meter(PRICED, SAID)
    before.use("a", request(), exchange(900, 50))
    bill = before.bill(0, "sealed initial")
    assert bill is not None
    after = Meter(EndpointSection(most_tokens=1000), SAID, [bill])
    assert after.generated == 50
    with pytest.raises(SpendingLimitError):
        list(after.affordable([("b", request())]))
