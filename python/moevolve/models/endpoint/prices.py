"""What tokens cost: a price file read strictly, and money as exact decimal numbers."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec

from moevolve.config import EndpointSection, nearest
from moevolve.config.files import parse_toml, read_text
from moevolve.errors import ConfigError

Amount = Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]
MILLION = Decimal(10**6)


class ModelPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money for 10^6 tokens."""

    input: Amount
    output: Amount
    cached: Amount | None = None


class PriceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A price file: `currency = "USD"` and one `[models."name"]` table a model."""

    models: dict[str, ModelPrice]
    currency: Annotated[str, msgspec.Meta(min_length=1, max_length=16)] = "USD"


class Price(msgspec.Struct, frozen=True):
    """Money for one token of each kind, exactly as it was written in decimal."""

    input: Decimal
    cached: Decimal
    output: Decimal
    currency: str

    def cost(self, prompt: int, cached: int, completion: int) -> Decimal:
        """Money for `prompt` tokens, `cached` of them from the server's cache, and `completion` tokens."""
        return (prompt - cached) * self.input + cached * self.cached + completion * self.output


def price_of(section: EndpointSection) -> Price | None:
    """The run's prices; None where it has none."""
    if section.price_input is None or section.price_output is None:
        return None
    cached = section.price_input if section.price_cached is None else section.price_cached
    return Price(_each(section.price_input), _each(cached), _each(section.price_output), section.currency)


def frozen(section: EndpointSection, model: str) -> EndpointSection:
    """The section with the model's prices in place of the file that says them.

    Raises:
        ConfigError: the file cannot be read, is no price file, or does not know the model.
    """
    if section.prices is None:
        return section
    path = Path(section.prices)
    try:
        found = msgspec.convert(parse_toml(read_text(path)), PriceFile)
    except OSError as error:
        raise ConfigError(f"the price file {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the price file {path} is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(
            f'{path}: {error}; a price file holds `currency` and [models."name"] tables with `input`, `output` '
            f"and perhaps `cached`, money for 10^6 tokens"
        ) from None
    if model not in found.models:
        raise ConfigError(
            f"{path} has no price of `{model}`{nearest(model, list(found.models))}: "
            f"it knows {', '.join(found.models) or 'no model'}"
        )
    price = found.models[model]
    return msgspec.structs.replace(
        section,
        prices=None,
        currency=found.currency,
        price_input=price.input,
        price_cached=price.cached,
        price_output=price.output,
    )


def _each(million: float) -> Decimal:
    # The shortest decimal that reads as this float is what was written.
    return Decimal(repr(float(million))) / MILLION
