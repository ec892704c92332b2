import pytest

from moevolve.journal import figures
from moevolve.records import Interval


@pytest.mark.parametrize(
    ("value", "text"), [(0.484, ".48"), (1.0, "1.00"), (0.0, ".00"), (-0.25, "-.25"), (float("nan"), "–")]
)
def test_score(value: float, text: str) -> None:
    assert figures.score(value) == text


def test_gain_carries_its_sign() -> None:
    assert [figures.gain(value) for value in (0.041, -0.02, 0.0)] == ["+.041", "-.020", "+.000"]


def test_interval_is_mean_and_half_width() -> None:
    assert figures.interval(Interval(mean=0.5, low=0.48, high=0.52, n=9)) == ".500 ±.020"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (42.9, "0:42"), (725, "12:05"), (10812, "3:00:12"), (float("inf"), "–"), (-1, "–")],
)
def test_duration(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(950, "950"), (12_400, "12.4k"), (2_000_000, "2M"), (0, "0")])
def test_amount(count: int, text: str) -> None:
    assert figures.amount(count) == text


def test_counted_knows_one_from_many() -> None:
    assert [figures.counted(count, "lesson") for count in (1, 1204)] == ["1 lesson", "1,204 lessons"]
