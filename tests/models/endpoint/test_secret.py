"""The key is nowhere but in the header."""

from __future__ import annotations

import pickle

import pytest

from moevolve.config import Config
from moevolve.errors import ConfigError, UsageError
from moevolve.models.endpoint.secret import Secret

KEY = "sk-0123456789"


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
    assert Secret.read("SOME_KEY").headers() == {"Authorization": f"Bearer {KEY}"}
    assert Secret.read(None).headers() == {}


@pytest.mark.parametrize("value", [None, "", "  ", "schlüssel", "a\nb"])
def test_a_variable_without_a_usable_key_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(UsageError, match="SOME_KEY"):
        Secret.read("SOME_KEY")


def test_a_secret_shows_and_saves_nothing() -> None:
    secret = Secret(KEY, "SOME_KEY")
    assert KEY not in repr(secret) and KEY not in str(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_a_body_comes_back_without_the_key() -> None:
    secret = Secret(KEY, "SOME_KEY")
    assert secret.hide(f'{{"said": "Bearer {KEY}"}}'.encode()) == b'{"said": "Bearer [key]"}'
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    assert secret.hide(f'{{"said": "{spelled}", "n": 1}}'.encode()) == b'{"said":"[key]","n":1}'
    assert secret.hide(b"\\" + KEY.encode()) == b"\\[key]"
    assert secret.hide(b"[" * 10**5 + b"\\") == b"[" * 10**5 + b"\\"
    assert Secret("", "").hide(b"anything") == b"anything"


@pytest.mark.parametrize(
    "policy",
    [
        {"key_env": KEY},
        {"endpoint": f"http://user:{KEY}@host/v1"},
        {"endpoint": f"http://host/v1?api_key={KEY}"},
        {"api_key": KEY},
    ],
)
def test_a_key_in_the_configuration_is_refused_and_not_repeated(policy: dict[str, str]) -> None:
    given = {"endpoint": "http://host/v1", "model": "m"} | policy
    with pytest.raises(ConfigError) as error:
        Config.load("small", {f"policy.{name}": value for name, value in given.items()})
    assert KEY not in str(error.value)
