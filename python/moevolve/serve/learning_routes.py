"""The endpoints of a server that learns: feedback, what is kept, cycles, and the way back."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from moevolve.errors import CapacityError, StoreError, UsageError
from moevolve.serve.failures import RequestError, wrong
from moevolve.serve.interactions import client_name
from moevolve.serve.learning import Learning
from moevolve.serve.limits import Limits
from moevolve.serve.reading import body_of, client_of, decode, json_response

OPERATOR = "operator"
"""Name of the token that may see and do everything."""
LONGEST = 65_536
"""Characters of a correction."""


class FeedbackAsked(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/feedback."""

    id: str
    score: float
    choice: int = 0
    correction: str | None = None
    user: str | None = None

    def check(self) -> None:
        if not 0 <= self.score <= 1:
            raise wrong("score", "it lies between 0 and 1")
        if self.correction is not None and not 0 < len(self.correction) <= LONGEST:
            raise wrong("correction", f"1 to {LONGEST} characters")


class RollbackAsked(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/rollback."""

    variant: str | None = None

    def check(self) -> None:
        pass


def learning_routes(learning: Learning, limits: Limits) -> list[Route]:
    """Routes beside those that serve the model."""

    async def feedback(request: Request) -> Response:
        asked = decode(await body_of(request, limits), FeedbackAsked)
        client = client_of(request, asked.user)
        try:
            await learning.judge(asked.id, asked.choice, client, asked.score, asked.correction)
        except CapacityError as error:
            raise RequestError(409, str(error), param="id", code="enough_feedback") from error
        except UsageError as error:
            raise RequestError(404, str(error), param="id", code="not_found") from error
        return json_response({"id": asked.id, "choice": asked.choice, "client": client})

    async def listed(request: Request) -> Response:
        return json_response({"object": "list", "data": await learning.listed(_scope(request))})

    async def erase(request: Request) -> Response:
        client = request.query_params.get("client")
        own = _scope(request)
        if own is not None and client not in (None, own):
            raise _forbidden()
        return json_response({"erased": await learning.erase(None, own or client)})

    async def erase_one(request: Request) -> Response:
        gone = await learning.erase([request.path_params["id"]], _scope(request))
        if not gone:
            raise RequestError(404, "there is no such interaction, or it is not yours", code="not_found")
        return json_response({"erased": gone})

    async def state(request: Request) -> Response:
        return json_response(await learning.state())

    async def learn(request: Request) -> Response:
        _operator(request)
        started = learning.learn()
        return json_response({"started": started, "running": True}, 202 if started else 409)

    async def rollback(request: Request) -> Response:
        _operator(request)
        body = await body_of(request, limits)
        asked = decode(body or b"{}", RollbackAsked)
        try:
            champion = await learning.roll_back(asked.variant)
        except StoreError as error:
            raise RequestError(500, str(error)) from error
        except UsageError as error:
            raise RequestError(409, str(error), code="no_rollback") from error
        told: dict[str, Any] = {"champion": champion.variant, "weights": champion.weights}
        return json_response(told)

    return [
        Route("/v1/feedback", feedback, methods=["POST"]),
        Route("/v1/interactions", listed, methods=["GET"]),
        Route("/v1/interactions", erase, methods=["DELETE"]),
        Route("/v1/interactions/{id}", erase_one, methods=["DELETE"]),
        Route("/v1/learning", state, methods=["GET"]),
        Route("/v1/learning", learn, methods=["POST"]),
        Route("/v1/rollback", rollback, methods=["POST"]),
    ]


def _scope(request: Request) -> str | None:
    """Whose interactions the client may see: its own where tokens have names, all for the operator and without names."""
    named = request.scope.get("moevolve.client")
    return None if named in (None, OPERATOR) else client_name(named)


def _operator(request: Request) -> None:
    if _scope(request) is not None:
        raise _forbidden()


def _forbidden() -> RequestError:
    return RequestError(403, f"this is for the token called {OPERATOR!r}", code="not_operator")
