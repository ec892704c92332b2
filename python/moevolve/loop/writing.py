"""Who writes edits beside the programs themselves: another model than the policy's, and a command, both on record."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from moevolve.config import Config
from moevolve.config.schema import PolicySection
from moevolve.errors import StoreError
from moevolve.journal.store import RunStore
from moevolve.journal.writer import JournalWriter
from moevolve.proposers.command import Command, Written
from moevolve.protocol.policy import Policy
from moevolve.records import Metered, Timing

if TYPE_CHECKING:
    from moevolve.models.endpoint.client import Client

STAGE = "proposer"
"""First word of the stages of what the other model charges."""
TABLE = "commands"
"""What a command wrote, by the digest of what it was told."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(Written).decode


class Writers:
    """The other model and the command of a run, as far as it has them.

    Args:
        config: the run's configuration.
        store: the run, open for writing.
        journal: how far it is.
        recorded: another run that exchanges and outputs are taken from, so that a replay asks nobody.
    """

    def __init__(
        self, config: Config, store: RunStore, journal: JournalWriter, recorded: RunStore | None
    ) -> None:
        self._config = config
        self._store = store
        self._recorded = recorded
        self._client: Client | None = None
        self.model: Policy | None = None
        """The other model; None where the run's own policy writes."""
        self._bill: Callable[[int, str], Metered | None] = lambda cycle, stage: None
        if config.proposer.endpoint is not None:
            self._connect(journal)

    def _connect(self, journal: JournalWriter) -> None:
        from moevolve.models.endpoint.client import Client
        from moevolve.models.endpoint.meter import Meter
        from moevolve.models.endpoint.policy import EndpointPolicy, Nobody
        from moevolve.models.endpoint.secret import Secret
        from moevolve.models.endpoint.speech import Speech
        from moevolve.models.endpoint.tape import Tape

        section, store = self._config.proposer, self._store
        assert section.model is not None, "an endpoint has a model"
        asked = msgspec.structs.replace(
            self._config,
            policy=PolicySection(endpoint=section.endpoint, model=section.model, key_env=section.key_env),
            endpoint=section.server,
        )
        speech = Speech(section.model, section.server)
        if self._recorded is None:
            self._client = Client(asked, Secret.read(section.key_env), speech)
        tape = Tape(store, lambda: journal.cursor, self._recorded)
        records = [entry.record for entry in store.entries(0, journal.cursor)] if journal.cursor else []
        past = [record for record in records if isinstance(record, Metered) and is_proposers(record)]
        meter = Meter(section.server, speech, past)
        self.model = EndpointPolicy(
            asked, speech, self._client or Nobody(), tape, meter, tape.before(journal.cursor)
        )
        self._bill = meter.bill

    def bill(self, cycle: int, stage: str) -> list[Metered]:
        """What the other model charged since the last bill."""
        record = self._bill(cycle, f"{STAGE} {stage}")
        return [] if record is None else [record]

    def command(self) -> Command:
        """The run's command; in a replay one that runs nothing."""
        section = self._config.proposer
        return Command(
            section.command if self._recorded is None else (), section.seconds, self._find, self._keep
        )

    def close(self) -> None:
        """Lets go of the other model's server."""
        if self._client is not None:
            self._client.close()

    def _find(self, name: str) -> Written | None:
        kept = self._store.get(TABLE, name)
        if kept is None and self._recorded is not None:
            kept = self._recorded.get(TABLE, name)
            if kept is not None:
                self._store.batch([], Timing(at=0.0), puts=[(TABLE, name, kept)])
        try:
            return None if kept is None else _decode(kept)
        except msgspec.DecodeError as error:
            raise StoreError(
                f"what a command wrote is torn in the record of {self._store.path}: {error}"
            ) from error

    def _keep(self, name: str, written: Written) -> None:
        self._store.batch([], Timing(at=0.0), puts=[(TABLE, name, _encode(written))])


def is_proposers(record: Metered) -> bool:
    """Whether a bill is of the model that writes edits, and not of the policy."""
    return record.stage.startswith(f"{STAGE} ")
