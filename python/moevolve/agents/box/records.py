"""Attempts in boxes on record: what each asked, how it ended, and what it left, kept for good.

A run that goes on takes an attempt that is on record as it is. A replay runs it again and compares each request by its
digest (*re-executed*); what then differs, or cannot run here, is taken from the record and its answer judged again
(*re-graded*). Either way the policy is asked what it was asked, so that both come to the same journal.
"""

from __future__ import annotations

import zlib
from hashlib import blake2b
from pathlib import Path

import msgspec

from moevolve.agents.transcripts import DIGEST, Transcripts
from moevolve.protocol.requests import PublicTask

FILE = "attempts.tape"
"""Inside a run's folder."""
MOST_WORKSPACE = 8 << 20
"""Bytes of a workspace that go on record."""


class Words(msgspec.Struct, frozen=True):
    """Whose words attempts get."""

    policy: str = ""
    """Content hash of the weights, or the server's model."""
    together: bool = False
    """One attempt's reply is made of what others ask in its round."""


class Recorded(msgspec.Struct, frozen=True):
    """One attempt: its requests in the order of their first answers, and its end."""

    requests: list[tuple[str, bytes]]
    """(kind, arguments as canonical JSON)."""
    answer: str | None
    failure: str | None
    detail: str
    files: dict[str, bytes] | None = None
    """Of its workspace, where they were not too large."""


class Repeats(msgspec.Struct):
    """What became of a replay's attempts in boxes."""

    execute: bool = True
    """Whether they run again."""
    executed: int = 0
    """Ran again, asked the same, and ended the same."""
    graded: int = 0
    """Taken from the record."""
    drift: int = 0
    """Requests that a second run made and the first did not, or the other way round."""
    reasons: dict[str, int] = {}
    """Why attempts were taken from the record, with how many."""

    def take(self, reason: str) -> None:
        """Counts an attempt that is taken from the record."""
        self.graded += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(Recorded).decode


class Records:
    """A run's attempts in boxes.

    Args:
        file: where they are kept; None keeps nothing.
        source: the record of the run that is replayed.
        repeats: how a replay goes about it, and what becomes of it.
    """

    def __init__(
        self, file: Path | None = None, source: Path | None = None, repeats: Repeats | None = None
    ) -> None:
        self.repeats = repeats or Repeats()
        self._own = Transcripts(file)
        self._source = Transcripts(source) if source is not None and source.is_file() else None

    def own(self, place: bytes) -> Recorded | None:
        """An attempt of this run."""
        return _read(self._own.find(place))

    def former(self, place: bytes) -> Recorded | None:
        """An attempt of the run that is replayed."""
        return None if self._source is None else _read(self._source.find(place))

    def keep(self, place: bytes, attempt: Recorded) -> None:
        """Puts an attempt on record."""
        self._own.keep(place, zlib.compress(_encode(attempt), 1))

    def close(self) -> None:
        """Lets go of the files."""
        self._own.close()
        if self._source is not None:
            self._source.close()


def place(program: str, task: PublicTask, key: int, limits: object, words: Words) -> bytes:
    """Where an attempt stands: its program, task, key and limits, and whose words it gets."""
    files = sorted(dict(task.files).items())
    parts = (program, task.prompt, task.skill, task.messages, files, key, limits, words)
    return blake2b(_encode(parts), digest_size=DIGEST, person=b"moevolve.box").digest()


def _read(data: bytes | None) -> Recorded | None:
    return None if data is None else _decode(zlib.decompress(data))
