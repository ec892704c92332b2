"""A run whose policy is a server: what its configuration comes to, and its variants."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from moevolve.config import Config
from moevolve.errors import UsageError
from moevolve.journal.store import RunStore
from moevolve.journal.text import line
from moevolve.loop import resolve
from moevolve.loop.variants import VariantStore
from moevolve.loop.writing import is_proposers
from moevolve.models.endpoint.client import Client
from moevolve.models.endpoint.meter import Meter
from moevolve.models.endpoint.policy import Asker, EndpointPolicy
from moevolve.models.endpoint.prices import frozen
from moevolve.models.endpoint.secret import Secret
from moevolve.models.endpoint.speech import Speech
from moevolve.models.endpoint.tape import Tape
from moevolve.models.engine import Engine
from moevolve.protocol.policy import Policy
from moevolve.records import Metered
from moevolve.rollouts.wording import style_of

FIRST = "sealed initial"
"""Stage of the first evaluation: it says what the last one may cost."""


def settled(config: Config) -> Config:
    """The configuration as it will be on record: prices in place of their file, a wording, and an arm that
    needs no weights.

    Raises:
        UsageError: the arm is about training.
        ConfigError: the price file cannot be used.
    """
    if config.arm in ("weights", "sft"):
        raise UsageError(
            f"arm {config.arm} trains weights, and an endpoint's are out of reach: "
            f"use arm program, or a checkpoint instead of the endpoint"
        )
    assert config.policy.model is not None, "this run has no endpoint"
    style, chats = config.wording.style, config.endpoint.api == "chat"
    if style in ("chat", "plain") and not chats:
        raise UsageError(f'wording.style = "{style}" needs endpoint.api = "chat"')
    if style == "auto":
        style = style_of(resolve.suite(config)) if chats else "bare"
    model, config = config.policy.model, resolve.with_embedder(config, "hashed-ngrams")
    resolve.embedder(config)
    return msgspec.structs.replace(
        config,
        wording=msgspec.structs.replace(config.wording, style=style),
        arm="program" if config.arm == "full" else config.arm,
        endpoint=frozen(config.endpoint, model),
    )


def speech(config: Config) -> Speech:
    """How the run's model is spoken to; the configuration is a settled one."""
    assert config.policy.model is not None, "this run has no endpoint"
    return Speech(config.policy.model, config.endpoint, resolve.wording(config))


def client(config: Config) -> Client:
    """The client of the run's server; it reads the key, and tells long waits and refused fields on stderr.

    Raises:
        UsageError: the key's variable is not set, or the HTTP library is missing.
    """

    def tell(text: str) -> None:
        sys.stderr.write(f"moevolve: {line(text)}\n")
        sys.stderr.flush()

    return Client(config, Secret.read(config.policy.key_env), speech(config), tell=tell)


class EndpointVariants(VariantStore):
    """Programs of a run whose weights are a server's: one policy for every variant.

    Args:
        store: the run, open for writing.
        config: the run's configuration.
        asker: the client, or who stands in for it.
        tape: the run's exchanges.
        cursor: journal entries before what is done now.
    """

    def __init__(self, store: RunStore, config: Config, asker: Asker, tape: Tape, cursor: int) -> None:
        self._store = store
        self._meanings = {}
        records = [entry.record for entry in store.entries(0, cursor)] if cursor else []
        past = [record for record in records if isinstance(record, Metered) and not is_proposers(record)]
        said = speech(config)
        self._meter = Meter(config.endpoint, said, past)
        self._policy = EndpointPolicy(config, said, asker, tape, self._meter, tape.before(cursor))
        for record in past:
            if record.stage == FIRST:
                self._meter.keep_back(record)

    @property
    def weights(self) -> str:
        """What stands for the weights' hash."""
        return self._policy.weights

    def keep(self, engine: Engine) -> str:
        raise UsageError("this run's policy is an endpoint: it has no weights to keep")

    def weights_file(self, weights: str) -> None:
        """Nothing: the server has its weights."""

    def policies(self, weights: Sequence[str]) -> dict[str, Policy]:
        """The one policy there is, whatever it is called."""
        return dict.fromkeys(weights, self._policy)

    def engine(self, weights: str) -> Engine:
        raise UsageError("this run's policy is an endpoint: it has no weights to load")

    def bill(self, cycle: int, stage: str) -> list[Metered]:
        """What the server was asked since the last bill."""
        record = self._meter.bill(cycle, stage)
        if record is not None and stage == FIRST:
            self._meter.keep_back(record)
        return [] if record is None else [record]

    def release(self) -> None:
        """Frees what was laid aside for the last evaluation."""
        self._meter.release()
