"""Reads a request's body within the limits, and writes JSON back."""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moevolve.protocol.responses import Unsaid
from moevolve.serve.failures import RequestError, wrong
from moevolve.serve.fields import check_others
from moevolve.serve.interactions import client_name
from moevolve.serve.limits import Limits

_PATH = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What is raised by a body that is no JSON."""


class Body(Protocol):
    """What a body is decoded into."""

    __struct_fields__: ClassVar[tuple[str, ...]]

    def check(self) -> None:
        """Refuses what cannot be, or is not built.

        Raises:
            RequestError: names the field.
        """
        ...


Decoded = TypeVar("Decoded", bound=Body)


async def body_of(request: Request, limits: Limits) -> bytes:
    """A request's body, within its limits.

    Raises:
        RequestError: 408, 413 or 415.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise RequestError(
            415, f"send the body as it is, not in {coding[:40]!r}", code="unsupported_encoding"
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # More than tidiness: a web page of somebody else's can send other types here without being asked.
        raise RequestError(
            415, "send JSON, with `Content-Type: application/json`", code="unsupported_media_type"
        )
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() else 0
    received = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            more = size <= limits.body
            while more and len(received) <= limits.body:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise RequestError(499, "the client left")
                received += message.get("body", b"")
                more = message.get("more_body", False)
    except TimeoutError as error:
        raise RequestError(
            408,
            f"no whole body within {limits.body_seconds:g} seconds",
            code="timeout",
            headers={"connection": "close"},
        ) from error
    if size > limits.body or len(received) > limits.body:
        raise RequestError(
            413,
            f"a body has at most {limits.body} bytes",
            code="body_too_large",
            headers={"connection": "close"},
        )
    return bytes(received)


def decode(body: bytes, kind: type[Decoded], *, ignore_unknown: bool = False) -> Decoded:
    """A checked request; unknown fields are refused unless they are to be ignored.

    Raises:
        RequestError: it is no JSON, or a field is wrong; names the field.
    """
    try:
        asked = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        found = _PATH.search(str(error))
        param = found.group(1) if found else None
        raise RequestError(
            400, str(error).replace(" - at `$.", " - at `"), param=param or None, code="invalid_type"
        ) from error
    except BROKEN as error:
        raise _no_json(error) from error
    try:
        # What no field takes has been skipped unread.
        given = msgspec.json.decode(body, type=dict[str, Any])
    except BROKEN as error:
        raise _no_json(error) from error
    check_others(given, kind.__struct_fields__, ignore_unknown=ignore_unknown)
    try:
        asked.check()
    except Unsaid as error:
        raise wrong(error.field, error.reason, error.code) from None
    return asked


def _no_json(error: Exception) -> RequestError:
    return RequestError(400, f"the body is no JSON object: {error}", code="invalid_json")


def json_response(value: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def client_of(request: Request, user: str | None) -> str:
    """Who asks: the token's name; where tokens have none, what the client calls its user, or else its address."""
    named = request.scope.get("moevolve.client")
    if named is not None:
        return client_name(named)
    if user:
        return client_name(user)
    return client_name(request.client.host if request.client else "unknown")
