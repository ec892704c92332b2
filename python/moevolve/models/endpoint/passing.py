"""Exchanges of somebody who keeps none: they are there while one task is solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moevolve.models.endpoint.exchange import Exchange


class Passing:
    """In place of a run's tape.

    Args:
        waited: called before each call to the server; raises where nobody waits for its answer any more.
    """

    def __init__(self, waited: Callable[[], None]) -> None:
        self._waited = waited
        self._exchanges: dict[str, Exchange] = {}

    def find(self, digest: str) -> Exchange | None:
        """The exchange of a request that was made before."""
        return self._exchanges.get(digest)

    def keep(self, exchanges: Sequence[tuple[str, Exchange]]) -> None:
        """Takes exchanges that have ended."""
        self._exchanges |= exchanges

    def begin(self, digest: str, so_far: Exchange) -> None:
        """A call is about to be made."""
        self._waited()

    def sent(self, digest: str) -> None:
        """The call is out."""

    def settle(self) -> None:
        """Nothing is under way."""

    def begun(self, digest: str) -> Exchange | None:
        """No other process has begun anything."""
        return None

    def refused(self) -> dict[str, str]:
        """Fields that the server was found to refuse: the client knows them."""
        return {}
