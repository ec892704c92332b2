"""Means and medians, near the limit of floating point as elsewhere."""

from __future__ import annotations

import statistics
import sys
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from moevolve.journal.averages import mean, median

LIMIT = sys.float_info.max
ANY = st.lists(st.floats(-LIMIT, LIMIT) | st.sampled_from([LIMIT, -LIMIT, 1.5e308]), min_size=1, max_size=9)
ORDINARY = st.lists(st.floats(-1e200, 1e200), min_size=1, max_size=9)


@given(ANY)
def test_they_lie_where_exact_arithmetic_has_them(values: list[float]) -> None:
    exact = sum(map(Fraction, values), Fraction()) / len(values)
    ordered = sorted(map(Fraction, values))
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    close = Fraction(max(map(abs, values))) * Fraction(1, 2**50) + Fraction(1, 10**300)
    assert abs(Fraction(mean(values)) - exact) <= close
    assert abs(Fraction(median(values)) - middle) <= close


@given(ORDINARY)
def test_ordinary_numbers_keep_their_bits(values: list[float]) -> None:
    assert mean(values) == statistics.fmean(values) and median(values) == statistics.median(values)
