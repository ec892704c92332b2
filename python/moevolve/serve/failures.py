"""What a client is told when there is no answer: OpenAI's error shape, one status a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from moevolve.errors import MoevolveError, UsageError

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class RequestError(MoevolveError):
    """A request that is answered with a status instead of text.

    Args:
        status: the HTTP status.
        message: what is wrong and what to do.
        param: the field of the body that is wrong, where it is one.
        code: a word for programs.
        headers: more headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The response's JSON."""
        return error_body(self.status, str(self), self.param, self.code)


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def wrong(param: str, message: str, code: str | None = "invalid_value") -> RequestError:
    """A field with a value that cannot be."""
    return RequestError(400, f"{param}: {message}", param=param, code=code)


def unsupported(param: str, message: str) -> RequestError:
    """A field that asks for what is not built; ignoring it would change what the answer means."""
    return wrong(param, message, "unsupported_value")


@contextmanager
def about(param: str) -> Iterator[None]:
    """Tells what goes wrong inside as a fault of a field."""
    try:
        yield
    except UsageError as error:
        raise wrong(param, str(error).removeprefix(f"{param}: ")) from error


def not_finite(what: str) -> RequestError:
    """The model has no numbers for an answer."""
    return RequestError(
        500,
        f"the model's {what} are not finite: its weights are damaged, or have diverged in training",
        code="not_finite",
    )


def ending() -> RequestError:
    """The server was told to end."""
    return RequestError(
        503, "the server is shutting down", code="shutting_down", headers={"connection": "close"}
    )
