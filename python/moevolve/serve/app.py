"""The endpoints, and who may use them."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from moevolve.errors import MoevolveError
from moevolve.protocol.responses import ResponsesRequest
from moevolve.serve.completions import answer
from moevolve.serve.failures import RequestError, error_body, wrong
from moevolve.serve.jobs import chat_job, completion_job
from moevolve.serve.metrics import KIND, exposition
from moevolve.serve.program import ServedProgram, solved
from moevolve.serve.reading import Decoded, body_of, decode, json_response
from moevolve.serve.responses import Conversations, responded
from moevolve.serve.schemas import ChatRequest, CompletionRequest
from moevolve.serve.service import Service
from moevolve.serve.texts import (
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
    detokenized,
    embedded,
    tokenized,
)
from moevolve.serve.waiting import Left

LINGER = 2.0
"""Seconds for which the rest of a body that is refused is read and thrown away, so that its sender sees why."""

SMALL = 1 << 16
"""Bytes of a body that is read and checked at once; others wait for no larger one."""

HERE = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names under which a server without a token is reached: a web page that another name led here is turned away."""

NAMED = {"object": "model", "created": 0, "owned_by": "moevolve"}
"""What is said of every model."""

_ABSOLUTE = re.compile(r"(?i:https?)://([^/]*)(/.*)?")
"""A target with a server's name in it."""

Handler = Callable[[Request], Awaitable[Response]]


def application(
    service: Service,
    *,
    tokens: Mapping[str, str | None] | None = None,
    hosts: frozenset[str] = HERE,
    routes: Sequence[Route] = (),
    program: ServedProgram | None = None,
    ignore_unknown: bool = False,
) -> ASGIApp:
    """The server as an ASGI application.

    Args:
        service: the model.
        tokens: what clients must send as `Authorization: Bearer TOKEN`, each with the client's name where it has one;
            None lets everyone in who asks for `hosts`.
        routes: more endpoints.
        hosts: names and addresses of this server, which count where there is no token.
        program: what answers chats with the model of its name.
        ignore_unknown: leave fields alone that this server does not know, instead of refusing them.
    """
    kept = Conversations()

    async def read(request: Request, kind: type[Decoded]) -> Decoded:
        body = await body_of(request, service.limits)
        decoded = partial(decode, body, kind, ignore_unknown=ignore_unknown)
        return decoded() if len(body) <= SMALL else await asyncio.to_thread(decoded)

    def for_program(model: str | None) -> bool:
        """Whether a request for a model is one for the program: without weights here it is the one that answers."""
        return program is not None and (
            model == program.name or (model is None and service.absent is not None)
        )

    async def completions(request: Request) -> Response:
        body = await read(request, CompletionRequest)
        if program is not None and for_program(body.model):
            raise wrong("model", f"{program.name!r} answers chats: ask /v1/chat/completions")
        return await answer(service, request, body, len(body.prompts), completion_job)

    async def chat(request: Request) -> Response:
        body = await read(request, ChatRequest)
        if program is not None and for_program(body.model):
            return await solved(service, program, request, body)
        return await answer(service, request, body, 1, chat_job)

    async def responses(request: Request) -> Response:
        body = await read(request, ResponsesRequest)
        if program is not None and for_program(body.model):
            raise wrong("model", f"{program.name!r} answers chats: ask /v1/chat/completions")
        client = str(request.scope.get("moevolve.client") or "")
        return await responded(service, request, body, kept, client)

    async def response(request: Request) -> Response:
        client = str(request.scope.get("moevolve.client") or "")
        return json_response(kept.take(request.path_params["name"], client).response)

    async def embeddings(request: Request) -> Response:
        return json_response(await embedded(service, request.receive, await read(request, EmbeddingRequest)))

    async def tokenize(request: Request) -> Response:
        return json_response(await tokenized(service, await read(request, TokenizeRequest)))

    async def detokenize(request: Request) -> Response:
        return json_response(await detokenized(service, await read(request, DetokenizeRequest)))

    async def metrics(request: Request) -> Response:
        return Response(exposition(service), headers={"content-type": KIND})

    def listed() -> list[dict[str, Any]]:
        found = [_model(service)] if service.absent is None else []
        if program is not None:
            champion = {"variant": program.champion.variant, "suite": program.suite.name}
            beside = found[0] if found else {**NAMED, "weights": program.champion.weights}
            found.append({**beside, "id": program.name, "chat": True, "program": champion})
        return found

    async def models(request: Request) -> Response:
        return json_response({"object": "list", "data": listed()})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        for found in listed():
            if found["id"] == name:
                return json_response(found)
        raise RequestError(
            404,
            f"there is no model {name!r} here: {', '.join(repr(each['id']) for each in listed())} is served",
            code="model_not_found",
        )

    async def health(request: Request) -> Response:
        if service.failure is not None:
            return json_response(error_body(503, str(service.failure)), 503)
        return json_response({"status": "ending" if service.ending else "ok"}, 503 if service.ending else 200)

    async def usage(request: Request) -> Response:
        return json_response(figures(service))

    model_routes = [
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/v1/responses", responses, methods=["POST"]),
        Route("/v1/responses/{name}", response),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        Route("/metrics", metrics),
        Route("/health", health),
        Route("/v1/usage", usage),
    ]
    app = Starlette(
        routes=[*model_routes, *routes],
        exception_handlers={
            RequestError: _refused,
            HTTPException: _not_found,
            MoevolveError: _failed,
            Left: _unread,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    return _Door(app, tokens, hosts)


def figures(service: Service) -> dict[str, Any]:
    """What the server holds and has done."""
    schedulers = [deployment.driver.scheduler for deployment in service.deployments]
    return {
        "model": service.name,
        "weights": None if service.absent is not None else service.current.weights,
        "slots": service.slots,
        "busy": sum(scheduler.busy for scheduler in schedulers),
        "waiting": sum(scheduler.waiting for scheduler in schedulers),
        "queue": service.limits.queue,
        "memory": sum(scheduler.memory for scheduler in schedulers),
        "memory_limit": service.memory_limit,
        "draining": max(0, len(schedulers) - 1),
        **msgspec.structs.asdict(service.counts),
    }


class _Refusal(Response):
    """An error. Where the body was not read, its sender may still be sending: it gets the time to see the answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.status_code not in (408, 413):
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER if self.status_code == 413 else 0):
                more = True
                while more:
                    message = await receive()
                    more = message["type"] == "http.request" and message.get("more_body", False)
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Door:
    """Turns away who has no token or came under another name."""

    def __init__(self, app: ASGIApp, tokens: Mapping[str, str | None] | None, hosts: frozenset[str]) -> None:
        self._app = app
        self._tokens = None if tokens is None else [(token.encode(), name) for token, name in tokens.items()]
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host")
        if (whole := _ABSOLUTE.match(scope["path"])) is not None:
            # What a proxy is sent: the name in the target counts before the header's (RFC 9112, 3.2.2).
            host = whole[1].encode()
            scope["path"] = whole[2] or "/"
        try:
            if self._tokens is not None:
                if scope["path"] != "/health":
                    scope["moevolve.client"] = self._client(self._tokens, headers.get(b"authorization", b""))
            elif (
                host is not None or scope["http_version"] != "1.0"
            ):  # no web page sends HTTP/1.0 without a name
                self._strange(host or b"")
        except RequestError as error:
            await _refusal(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _strange(self, host: bytes) -> None:
        name = host.decode("latin-1").lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name not in self._hosts:
            raise RequestError(
                403,
                f"this server without a token does not answer for the host {name!r}: see `moevolve serve --token-env`",
                code="unknown_host",
            )

    def _client(self, tokens: Sequence[tuple[bytes, str | None]], sent: bytes) -> str | None:
        """The name of the client whose token this is; all are compared, so that time tells nothing."""
        scheme, _, token = sent.partition(b" ")
        found = [name for known, name in tokens if hmac.compare_digest(token.strip(), known)]
        if scheme.lower() == b"bearer" and found:
            return found[0]
        raise RequestError(
            401,
            "a token is needed: send `Authorization: Bearer TOKEN`",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


def is_loopback(host: str) -> bool:
    """Whether an address to bind to can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _model(service: Service) -> dict[str, Any]:
    engine = service.current.engine
    return {
        **NAMED,
        "id": service.name,
        "weights": service.current.weights,
        "context": engine.positions,
        "chat": engine.chat_template is not None,
    }


def _refusal(error: RequestError) -> Response:
    return _Refusal(
        msgspec.json.encode(error.body()), error.status, headers=error.headers, media_type="application/json"
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError), "registered for these"
    return _refusal(error)


async def _unread(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody is there to read it


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for these"
    path = request.url.path[:200]
    what = {404: f"there is nothing at {path}", 405: f"{request.method} is not for {path}"}
    message = what.get(error.status_code, error.detail)
    return _refusal(RequestError(error.status_code, message, headers=error.headers))


async def _failed(request: Request, error: Exception) -> Response:
    told = str(error) if isinstance(error, MoevolveError) else f"a defect: {type(error).__name__}"
    return _refusal(RequestError(500, told))
