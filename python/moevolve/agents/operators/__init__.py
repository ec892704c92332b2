"""Operators that edit a program, shipped read-only into the sandbox for `improve.py` to compose.

`survey` reads a brief, `probe` tries routes on the policy, `routes` edits `solve.py`, `tuning` edits the
constants of `improve.py` and `learn.py`. Standard library only: this package runs inside the sandbox.
"""

from . import probe, routes, source, space, stages, survey, tuning
from .source import Inapplicable

__all__ = ["Inapplicable", "probe", "routes", "source", "space", "stages", "survey", "tuning"]
