"""Price files, and money to the last digit."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moevolve.config import EndpointSection
from moevolve.errors import ConfigError
from moevolve.journal.figures import money
from moevolve.models.endpoint.prices import frozen, price_of

FILE = """
currency = "EUR"
[models."small-1"]
input = 0.15
cached = 0.075
output = 0.6
[models.big]
input = 3
output = 15
"""


@pytest.fixture
def section(tmp_path: Path):
    def write(text: str = FILE) -> EndpointSection:
        (tmp_path / "prices.toml").write_text(text)
        return EndpointSection(prices=str(tmp_path / "prices.toml"))

    return write


def test_the_models_own_prices_are_kept_and_the_file_is_not(section) -> None:
    kept = frozen(section(), "small-1")
    assert kept.prices is None
    assert (kept.currency, kept.price_input, kept.price_cached, kept.price_output) == (
        "EUR",
        0.15,
        0.075,
        0.6,
    )
    assert frozen(kept, "small-1") == kept


def test_cached_tokens_cost_as_much_as_others_unless_the_file_says_less(section) -> None:
    price = price_of(frozen(section(), "big"))
    assert price is not None and price.cached == price.input == Decimal("0.000003")


def test_money_is_exact(section) -> None:
    price = price_of(frozen(section(), "small-1"))
    assert price is not None
    assert price.cost(1_000_003, 1, 7) == Decimal("0.1500003") + Decimal("0.000000075") + Decimal("0.0000042")
    assert money(price.cost(1_000_003, 1, 7)) == "0.150004575"


@given(st.decimals(0, 999, places=6), st.integers(0, 10**9))
def test_a_price_is_what_was_written(written: Decimal, tokens: int) -> None:
    price = price_of(EndpointSection(price_input=float(written), price_output=0.0))
    assert price is not None and price.cost(tokens, 0, 0) == written * tokens / 10**6


def test_without_prices_there_is_no_money() -> None:
    assert price_of(EndpointSection()) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input = 1", "unknown field|missing required"),
        ("[models.x]\ninput = 1", "output"),
        ("[models.x]\ninput = 1\noutput = 2\ncache = 1", "cache"),
        ("[models.x]\ninput = -1\noutput = 2", ">= 0"),
        ('[models.x]\ninput = "1"\noutput = 2', "float"),
        ("[models.x", "not TOML"),
        ("[models.small]\ninput = 1\noutput = 2", "did you mean `small`"),
    ],
)
def test_a_wrong_price_file_says_what_is_wrong(section, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        frozen(section(text), "small-1")


def test_a_missing_price_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none.toml"):
        frozen(EndpointSection(prices=str(tmp_path / "none.toml")), "x")
