"""Second tries: a program runs again with the replies that it had, and must say again what it said."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from moevolve.agents.process import Process
from moevolve.agents.transcripts import DIGEST, MESSAGE, Conversation, hear
from moevolve.agents.wire import Round, decode_round, encode


class Heard(msgspec.Struct):
    """A round of the first try as far as a second try is compared with it, and the reply to it, if there was one."""

    said: bytes
    """A digest: what a program says may be large."""
    told: bytes | None = None


def steady(conversation: Conversation, heard: Sequence[Heard]) -> bool:
    """Whether a second process says the same; what was found is kept with the conversation.

    Args:
        conversation: the first try, as far as it went.
        heard: its rounds.
    """
    found = conversation.kept("twice", lambda: b"1" if _same(conversation, heard) else b"0")
    return found == b"1"


def _same(conversation: Conversation, heard: Sequence[Heard]) -> bool:
    process = conversation.another()
    try:
        told: bytes | None = None
        for each in heard:
            again = _next(process, told)
            if again is None or said(again) != each.said:
                return False
            if each.told is None:
                return True
            told = each.told
        # The first try ended without another round, so the second must as well.
        return _next(process, told) is None
    finally:
        process.close()


def _next(process: Process, told: bytes | None) -> Round | None:
    """The next round after a reply; None where there is none, whatever the reason."""

    def message(process: Process) -> bytes:
        if told is not None:
            process.send(told)
        return process.receive()

    heard = hear(process, message)
    try:
        return decode_round(heard[1:]) if heard[:1] == MESSAGE else None
    except msgspec.DecodeError:
        return None


def said(told: Round) -> bytes:
    """Digest of what attempts ask, and how they ended; in which words a failure is told is no matter."""
    told = msgspec.structs.replace(
        told, done=[msgspec.structs.replace(each, detail="") for each in told.done]
    )
    return blake2b(encode(told), digest_size=DIGEST).digest()
