"""A run's tools: the suite's, each call once in a run and its result on record, so that a replay calls nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from moevolve.agents.kinds.tools import ToolFailure
from moevolve.errors import DivergedError, StoreError
from moevolve.journal.store import RunStore
from moevolve.protocol import packing
from moevolve.protocol.messages import Tool
from moevolve.protocol.requests import ToolRequest
from moevolve.records import Timing
from moevolve.tasks.suite import Suite
from moevolve.tasks.task import Task
from moevolve.tasks.tools.process import CallFailed
from moevolve.tasks.tools.toolbox import Tools

TABLE = "calls"
"""Results by the digest of a call and of all calls before it in its attempt."""
DESCRIBED = "tools"
"""What the run's tools are, in the same table."""
NAMED = "names"
"""How the calls of the run are named, in the same table: `OF_ATTEMPTS`, nothing where an older version wrote it."""
OF_ATTEMPTS = b"of attempts"


class _Row(msgspec.Struct, frozen=True):
    result: Any = None
    error: str | None = None
    lost: bool = False


_decode = msgspec.msgpack.Decoder(_Row, ext_hook=packing.wide).decode


class RecordedTools:
    """A toolbox whose results are kept in a run's store.

    Args:
        process: the suite's tools themselves; None in a replay.
        tools: what may be called.
        store: the run, open for writing.
        source: another run that results are taken from.
    """

    def __init__(
        self,
        process: Tools | None,
        tools: Sequence[Tool],
        store: RunStore,
        source: RunStore | None = None,
    ) -> None:
        self.tools = tools
        self._process = process
        self._store = store
        self._source = source
        self._name = _naming(store)
        self._former_name = _naming(source) if source is not None else digest

    def call(self, requests: Sequence[ToolRequest]) -> list[Any | ToolFailure]:
        """Results in the order of the calls.

        Raises:
            DivergedError: a replay calls what the run did not.
        """
        found: list[Any | ToolFailure] = []
        puts = []
        for request in requests:
            name = self._name(request)
            kept = self._store.get(TABLE, name)
            if kept is None and self._source is not None:
                kept = self._source.get(TABLE, self._former_name(request))
            if kept is None:
                kept = packing.encode(self._made(request))
                puts.append((TABLE, name, kept))
                fresh = True
            else:
                fresh = False
            try:
                row = _decode(kept)
            except msgspec.DecodeError as error:
                raise StoreError(
                    f"the result of {request.tool} on record in {self._store.path} is torn: {error}"
                ) from error
            if not fresh and not row.lost and self._process is not None:
                self._process.seen(request)
            found.append(row.result if row.error is None else ToolFailure(row.error, lost=row.lost))
        if puts:
            self._store.batch([], Timing(at=0.0), puts=puts)
        return found

    def expect(self, session: int, task: Task) -> None:
        """Says which task the attempt of a key is at, for its environment."""
        if self._process is not None:
            self._process.expect(session, task)

    def release(self, sessions: Iterable[int]) -> None:
        """Ends the servers of attempts that are over."""
        if self._process is not None:
            self._process.release(sessions)

    def close(self) -> None:
        """Ends the tools' processes."""
        if self._process is not None:
            self._process.close()

    def _made(self, request: ToolRequest) -> _Row:
        if self._process is None:
            raise DivergedError(f"the replay calls the tool {request.tool} as the run never did")
        try:
            return _Row(result=self._process.call(request))
        except CallFailed as error:
            return _Row(error=str(error), lost=error.lost)


def granted(suite: Suite, store: RunStore, recorded: RunStore | None) -> RecordedTools | None:
    """A suite's tools, where it has any; in a replay of the run `recorded` they are described and not called."""
    if not suite.tools and not suite.servers and suite.environments is None:
        return None
    if recorded is not None and (known := _described(recorded)) is not None:
        return RecordedTools(None, known, store, recorded)
    process = Tools(suite.tools, suite.servers, suite.folder, suite.environments)
    tools = _described(store)
    if tools is None:
        tools = process.tools
        described = (TABLE, DESCRIBED, msgspec.json.encode(tools))
        store.batch([], Timing(at=0.0), puts=[described, (TABLE, NAMED, OF_ATTEMPTS)])
    if recorded is None:
        return RecordedTools(process, tools, store)
    process.close()
    return RecordedTools(None, tools, store, recorded)


def _described(store: RunStore) -> Sequence[Tool] | None:
    """A run's tools as they are on record: a server that offers others later changes nothing."""
    kept = store.get(TABLE, DESCRIBED)
    return None if kept is None else msgspec.json.decode(kept, type=tuple[Tool, ...])


def digest(request: ToolRequest) -> str:
    """The name of a call on record: what it asks, of which world, and what that was asked before."""
    body = packing.encode((request.key, request.tool, request.arguments, request.session, request.past))
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _older_digest(request: ToolRequest) -> str:
    """The name of a call in a run in which variants that drew alike shared their results."""
    body = packing.encode((request.key, request.tool, request.arguments))
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _naming(store: RunStore) -> Callable[[ToolRequest], str]:
    """How a run names its calls: a run that is gone on with keeps to it."""
    older = store.get(TABLE, DESCRIBED) is not None and store.get(TABLE, NAMED) is None
    return _older_digest if older else digest
