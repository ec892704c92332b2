"""What a run starts from, as its first options say it: the command line and `mv.evolve` mean the same by them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moevolve.errors import UsageError


def preset_of(model: object, endpoint: object) -> str:
    """The preset where none is named: by what answers."""
    if endpoint is not None:
        return "endpoint"
    return "quickstart" if model is None else "real"


def policy_settings(
    model: str | Path | None = None,
    endpoint: str | None = None,
    key_env: str | None = None,
    prices: str | Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """What the options about a model, here or on a server, set: dotted key -> value.

    Args:
        model: a folder, a GGUF file or a run; with an endpoint the server's name of its model.
        endpoint: address of an OpenAI-compatible server that answers.
        key_env: environment variable that holds the server's key.
        prices: TOML file of its prices.
        device: what computes a model here: cpu, cuda:N or auto.

    Raises:
        UsageError: an option about a server without one, a device with one, or no model at the path.
    """
    if device is not None and endpoint is not None:
        raise UsageError("a server computes on devices of its own: leave the device out, or the endpoint")
    server = {
        "policy.endpoint": endpoint,
        "policy.key_env": key_env,
        "endpoint.prices": None if prices is None else str(Path(prices).resolve()),
    }
    given: dict[str, Any] = {key: value for key, value in server.items() if value is not None}
    if given and endpoint is None:
        raise UsageError(
            "a key's variable and prices belong to an endpoint: name its address too, --endpoint URL or endpoint=..."
        )
    if device is not None:
        given["policy.device"] = device
    if model is not None:
        if endpoint is None:
            given["policy.checkpoint"] = str(model_at(model))
        else:
            given["policy.model"] = str(model)
    return given


def model_at(path: str | Path) -> Path:
    """The absolute path of a model.

    Raises:
        UsageError: nothing is there.
    """
    found = Path(path).resolve()
    if not found.exists():
        raise UsageError(
            f"there is no model at {path}: a model is a folder with a config.json, a GGUF file, or a run"
        )
    return found


def limits(cycles: int | None, minutes: float | None) -> dict[str, Any]:
    """The end that the first options give a run, as settings: a file needs none of its own then."""
    return {key: value for key, value in (("cycles", cycles), ("minutes", minutes)) if value is not None}


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted key, whether they came so (`{"gate.alpha": 0.05}`) or in tables (`{"gate": {"alpha": 0.05}}`).

    Raises:
        UsageError: a key that is no text, or one that is set twice.
    """
    found: dict[str, Any] = {}
    for key, value in _leaves(settings, ""):
        if key in found:
            raise UsageError(f"settings: `{key}` is set twice")
        found[key] = value
    return found


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if not isinstance(key, str) or not key:
            raise UsageError(f"settings: a key is a text such as gate.alpha, not {key!r}")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", os.fspath(value) if isinstance(value, os.PathLike) else value
