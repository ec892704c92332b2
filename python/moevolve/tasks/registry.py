"""Skills of a user's own: one decorated function each."""

from __future__ import annotations

from collections.abc import Callable

from moevolve.errors import UsageError
from moevolve.tasks.skill import LEVELS, Generator, Skill, check_path

_registered: dict[str, Skill] = {}


def skill(
    path: str, *, summary: str = "", levels: tuple[int, int] = LEVELS, alphabet: str | None = None
) -> Callable[[Generator], Generator]:
    """Registers a function `(rng, level) -> mv.Task` as a skill of the suite `user`.

        @mv.skill("text/rot13")
        def rot13(rng, level):
            plain = "".join(rng.choices(string.ascii_lowercase, k=level + 2))
            return mv.Task(prompt=f"rot13:{plain}=", answer=codecs.encode(plain, "rot13"))

    The function draws from `rng` alone, so that a seed names its task for ever. Defining the same function
    again (a notebook's cell, a reloaded module) replaces it.

    Args:
        path: the skill's place in the tree.
        summary: one line; the first line of the function's docstring when empty.
        levels: the lowest and the highest level that the function knows.
        alphabet: the characters answers are made of; None allows all.

    Raises:
        UsageError: the path or the levels cannot be used, or another function holds the path.
    """
    check_path(path)
    if not 1 <= levels[0] <= levels[1]:
        raise UsageError(f"skill {path}: levels {levels} must go from 1 or more upwards")

    def register(generator: Generator) -> Generator:
        there = _registered.get(path)
        if there is not None and _name(there.generator) != _name(generator):
            raise UsageError(f"skill {path} is taken by {_name(there.generator)}")
        first_line = (generator.__doc__ or "").strip().partition("\n")[0]
        line = summary or first_line or path.rpartition("/")[2].replace("_", " ")
        _registered[path] = Skill(
            path=path, summary=line, generator=generator, levels=levels, alphabet=alphabet
        )
        return generator

    return register


def registered() -> list[Skill]:
    """The user's skills, by path."""
    return [_registered[path] for path in sorted(_registered)]


def forget(path: str) -> None:
    """Takes a user's skill out again; no error when it is not there."""
    _registered.pop(path, None)


def _name(generator: Generator) -> str:
    return f"{getattr(generator, '__module__', '?')}.{getattr(generator, '__qualname__', repr(generator))}"
