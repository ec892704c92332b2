"""What readers know of each kind of record: how it is said, and what it changes in the view of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from moevolve.journal.view import RunView

Tone = Literal[
    "plain",
    "head",
    "quiet",
    "faint",
    "good",
    "bad",
    "warn",
    "curve",
    "band",
    "sealed",
    "weights",
    "program",
    "mark",
]
"""How a text is meant; which colour that has is the screen's business."""
TONES: tuple[Tone, ...] = get_args(Tone)
Said = tuple[str, Tone]
Kind = TypeVar("Kind")

SENTENCES: dict[type, Callable[[Any], Said]] = {}
FOLDS: dict[type, Callable[[RunView, Any, int, float], None]] = {}


def says(kind: type[Kind]) -> Callable[[Callable[[Kind], Said]], Callable[[Kind], Said]]:
    """Registers the sentence of a kind of record: one line of harmless text, and its tone."""

    def register(sentence: Callable[[Kind], Said]) -> Callable[[Kind], Said]:
        SENTENCES[kind] = sentence
        return sentence

    return register


Fold = Callable[["RunView", Kind, int, float], None]


def folds(kind: type[Kind]) -> Callable[[Fold[Kind]], Fold[Kind]]:
    """Registers what a kind of record changes, given the view, the record, its sequence number and its time."""

    def register(fold: Fold[Kind]) -> Fold[Kind]:
        FOLDS[kind] = fold
        return fold

    return register
