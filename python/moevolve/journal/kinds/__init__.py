"""The kinds of records, by what they tell of: a new kind is a struct in `records` and its functions in one file here."""

from moevolve.journal.kinds import course, generalise, growth, memory, ratings, scores, variants, watching
from moevolve.journal.kinds.registry import FOLDS, SENTENCES, TONES, Said, Tone

__all__ = [
    "FOLDS",
    "SENTENCES",
    "TONES",
    "Said",
    "Tone",
    "course",
    "generalise",
    "growth",
    "memory",
    "ratings",
    "scores",
    "variants",
    "watching",
]
