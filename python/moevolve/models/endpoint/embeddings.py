"""Vectors that a server makes of texts, each asked for once: a run that goes on, and a replay, take what is on file."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from moevolve.errors import EndpointError, UsageError
from moevolve.models.endpoint.client import loopback
from moevolve.models.endpoint.secret import Secret

BATCH = 64
"""Texts of one call."""
TRIES = 4
LARGEST = 64 << 20
"""Bytes of an answer; a larger one is none."""
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Statuses after which another call may help."""


class Kept(Protocol):
    """A file of vectors by place."""

    def find(self, place: bytes) -> bytes | None: ...

    def keep(self, place: bytes, said: bytes) -> bytes: ...


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Vector]


class ServedEmbeddings:
    """Vectors of an OpenAI-compatible server's model.

    Args:
        address: the server's, up to its /v1.
        model: its name of the model.
        secret: its key.
        tape: where vectors are kept; None keeps nothing.
        former: the tape of a run that is done again: the server is not asked then.
        timeout: most seconds of a call.
        wait: seconds before the second try of a call, twice as many before each later one.

    Raises:
        UsageError: the HTTP library is not installed.
    """

    def __init__(
        self,
        address: str,
        model: str,
        secret: Secret,
        tape: Kept | None = None,
        former: Kept | None = None,
        *,
        timeout: float = 120.0,
        wait: float = 1.0,
    ) -> None:
        try:
            import httpx2
        except ImportError:
            raise UsageError(
                "an endpoint for memory needs an HTTP library: pip install 'moevolve[endpoint]'"
            ) from None
        self.name = f"server's {model}"[:160]
        self._address = address.rstrip("/") + "/embeddings"
        self._model, self._secret, self._tape, self._former = model, secret, tape, former
        self._wait = wait
        self._http = httpx2.Client(headers=secret.headers(), timeout=timeout, trust_env=not loopback(address))

    def embed(self, texts: Sequence[str]) -> list[array[float]]:
        """A vector of each text.

        Raises:
            EndpointError: the server does not answer, or with something else; or the text is not on the record of the run
                that is done again.
        """
        places = [self._place(text) for text in texts]
        known = {place: self._known(place) for place in places}
        missing = [at for at, place in enumerate(places) if known[place] is None]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            if self._former is not None:
                raise EndpointError(f"no vector of {texts[batch[0]][:60]!r} is on the run's record")
            for at, vector in zip(batch, self._asked([texts[at] for at in batch]), strict=True):
                said = vector.tobytes()
                known[places[at]] = said if self._tape is None else self._tape.keep(places[at], said)
        return [_floats(known[place] or b"") for place in places]

    def _known(self, place: bytes) -> bytes | None:
        found = self._tape.find(place) if self._tape is not None else None
        if found is None and self._former is not None:
            found = self._former.find(place)
            if found is not None and self._tape is not None:
                self._tape.keep(place, found)
        return found

    def _place(self, text: str) -> bytes:
        digest = blake2b(digest_size=16, person=b"moevolve.embed")
        for part in (self._model, text):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.digest()

    def _asked(self, texts: Sequence[str]) -> list[array[float]]:
        """The server's vectors, after as many tries as are granted."""
        said = msgspec.json.encode({"model": self._model, "input": [text or " " for text in texts]})
        detail = ""
        for again in range(TRIES):
            if again:
                time.sleep(self._wait * 2 ** (again - 1))
            status, body = self._call(said)
            if status == 200:
                return self._read(body, len(texts))
            detail = self._secret.hidden(body[:200].decode("utf-8", "replace"))
            if status not in (0, *AGAIN):
                break
        raise EndpointError(f"{self._address} gives no vectors: {status or 'no answer'}, {detail}")

    def _call(self, said: bytes) -> tuple[int, bytes]:
        """Status and body of one call; status 0 where there was no answer."""
        import httpx2

        headers = {"Content-Type": "application/json"}
        body = bytearray()
        try:
            with self._http.stream("POST", self._address, content=said, headers=headers) as answer:
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > LARGEST:
                        break
        except httpx2.HTTPError as error:
            return 0, f"{type(error).__name__}: {error}".encode()
        return answer.status_code, self._secret.hide(bytes(body))

    def _read(self, body: bytes, count: int) -> list[array[float]]:
        try:
            data = msgspec.json.decode(body, type=_Answer).data if len(body) <= LARGEST else []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EndpointError(f"{self._address} answers no vectors: {error}") from None
        vectors = {each.index: array("f", each.embedding) for each in data}
        if sorted(vectors) != list(range(count)) or len({len(each) for each in vectors.values()}) != 1:
            raise EndpointError(
                f"{self._address} answers {len(data)} vectors of one length for {count} texts"
            )
        return [vectors[index] for index in range(count)]


def _floats(said: bytes) -> array[float]:
    vector = array("f")
    vector.frombytes(said)
    return vector
