import math

import msgspec
import pytest
import synthetic_run as synthetic
from hypothesis import given
from hypothesis import strategies as st
from tui_harness import model_over

from moevolve.journal.drawing.braille import Canvas
from moevolve.journal.drawing.chart import Series, chart_lines, decimated
from moevolve.journal.drawing.curve import curve_lines, cycle_axis, value_axis
from moevolve.journal.drawing.lines import Line, fit, spread, text_of, width_of
from moevolve.journal.scores import Point
from moevolve.records import Interval, SkillScore
from moevolve_tui.drawing.heading import heading_lines
from moevolve_tui.drawing.rows import middle
from moevolve_tui.drawing.skills import bar, skill_line, tree_rows
from moevolve_tui.drawing.words import FATES
from moevolve_tui.model import RunModel
from moevolve_tui.pages.log import matches

MIDDLE = synthetic.middle()


def folded(count: int | None = None, status: str = "running") -> RunModel:
    return model_over(synthetic.recorded(count, status, alive=status == "running"))


def point(mean: float, half: float = 0.02, cycle: int = 0) -> Point:
    score = Interval(mean=mean, low=mean - half, high=mean + half, n=100)
    return Point(cycle=cycle, split="dev", when="cycle", score=score, seconds=0.0, variant="v")


@given(st.text(max_size=30), st.integers(0, 40))
def test_fit_gives_exactly_the_width(text: str, width: int) -> None:
    printable = "".join(letter for letter in text if letter.isprintable())
    line: Line = [(printable[:5], "plain"), (printable[5:], "good")]
    assert width_of(fit(line, width)) == width


def test_spread_puts_two_texts_at_the_ends_and_the_left_gives_way() -> None:
    assert text_of(spread([("left", "plain")], [("right", "plain")], 12)) == "left   right"
    assert text_of(spread([("long left", "plain")], [("right", "plain")], 9)) == "lon…right"


def test_braille_dots_stand_where_they_are_set() -> None:
    canvas = Canvas(1, 1)
    for x, y in ((0, 0), (1, 3)):
        canvas.dot(x, y, "curve")
    assert canvas.row(0) == [(chr(0x2800 + 0x01 + 0x80), "curve")]
    canvas.dot(5, 5, "curve")
    canvas.dot(-1, 0, "curve")
    assert canvas.row(0) == [(chr(0x2800 + 0x01 + 0x80), "curve")]


@pytest.mark.parametrize(("width", "height"), [(40, 9), (72, 24), (200, 60), (10, 3), (3, 1), (14, 4)])
@pytest.mark.parametrize("count", [0, 1, 3, 40, None])
def test_the_curve_fills_its_pane_at_any_size(width: int, height: int, count: int | None) -> None:
    lines = curve_lines(folded(count).view, width, height)
    assert len(lines) == height
    assert {width_of(line) for line in lines} == {width}


def test_the_curve_rises_with_the_score() -> None:
    lines = curve_lines(folded().view, 60, 20)
    marks = [
        (row, column)
        for row, line in enumerate(lines)
        for column, letter in enumerate(text_of(line))
        if letter == "◆"
    ]
    (final, right), (initial, left) = marks
    assert final < initial and right > left
    assert "w" in text_of(lines[-2]) and "p" in text_of(lines[-2])
    assert text_of(lines[-1]).split() == ["cycle", *map(str, range(9))]


def test_axis_labels_tell_the_value_of_their_row() -> None:
    low, high, step = value_axis([point(0.44), point(0.67)], rows=20)
    assert low <= 0.42 and high >= 0.69
    assert 3 <= (high - low) / step <= 8


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.integers(2, 50))
def test_the_value_axis_holds_every_interval_inside_zero_and_one(means: list[float], rows: int) -> None:
    points = [point(mean, half=0.0) for mean in means]
    low, high, step = value_axis(points, rows)
    assert 0 <= low < high <= 1 and step > 0
    assert low <= min(means) + 1e-9 and high >= max(means) - 1e-9


def test_a_score_that_is_no_number_does_not_poison_the_axis() -> None:
    view = folded(40).view
    nan = Interval(mean=math.nan, low=math.nan, high=math.inf, n=0)
    view.curve.append(msgspec.structs.replace(view.curve[-1], score=nan))
    assert len(curve_lines(view, 40, 10)) == 10


def test_a_long_curve_is_drawn_from_as_many_points_as_can_be_told_apart() -> None:
    view = folded(40).view
    view.curve[:] = [point(0.4 + cycle / 10_000, cycle=cycle) for cycle in range(5000)]
    lines = curve_lines(view, 60, 10)
    assert "4" in text_of(lines[-1]) and {width_of(line) for line in lines} == {60}


def test_the_cycle_axis_shows_a_near_plan_and_grows_towards_a_far_one() -> None:
    near, far, open_end = folded(40).view, folded(40).view, folded(40).view
    far.planned, open_end.planned = 1000, None
    assert cycle_axis(near, ended=False) == 8
    assert cycle_axis(far, ended=False) == 24
    assert cycle_axis(open_end, ended=False) == 4
    assert cycle_axis(folded().view, ended=True) == 8.5


def test_the_tree_lists_branches_before_their_leaves() -> None:
    rows = tree_rows(folded().view)
    assert [row.name for row in rows if not row.leaf] == ["compose", "number", "text"]
    assert [row.name for row in rows if row.depth == 1][:3] == [
        "caesar_reverse",
        "dedupe_reverse",
        "sort_reverse",
    ]
    text = next(row for row in rows if row.name == "text")
    below = [row.now for row in rows[-4:] if row.now is not None]
    assert text.now == pytest.approx(sum(below) / 4)


@pytest.mark.parametrize("width", [48, 78, 120])
def test_a_skill_line_shows_its_change_with_interval_and_level(width: int) -> None:
    rows = {row.name: fit(skill_line(row, width), width) for row in tree_rows(folded().view)}
    assert ".50 > .98" in text_of(rows["reverse"])
    tones = {name: [tone for text, tone in row if ">" in text] for name, row in rows.items()}
    assert tones["reverse"] == ["good"] and tones["subtract"] == ["quiet"]
    assert text_of(rows["reverse"]).startswith("+") and text_of(rows["subtract"]).startswith(" ")
    assert {width_of(line) for line in rows.values()} == {width}


def test_colour_says_only_that_a_change_leaves_its_interval() -> None:
    view = folded().view
    skill = view.skills["text/reverse"]
    for after, n, tone in ((0.55, 40, "quiet"), (0.95, 40, "good"), (0.05, 40, "bad"), (0.95, 1, "quiet")):
        skill.first = {"dev": SkillScore(score=0.5, n=n)}
        skill.newest = {"dev": SkillScore(score=after, n=n)}
        row = next(row for row in tree_rows(view) if row.name == "reverse")
        assert [each for text, each in skill_line(row, 80) if ">" in text] == [tone]


def test_skills_before_any_score_are_listed_without_one() -> None:
    rows = tree_rows(folded(1).view)
    assert len(rows) == 15
    assert "–" in text_of(skill_line(rows[1], 37))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(4, 24))
def test_a_bar_has_its_width_whatever_it_shows(before: float, now: float, width: int) -> None:
    assert width_of(bar(before, now, width, "good")) == width


def test_every_fate_has_a_mark() -> None:
    from moevolve.journal.variants import FATES as ALL

    assert set(FATES) == set(ALL)


def test_the_heading_says_who_how_far_and_how_good_with_a_gain_between_like_splits() -> None:
    top, below, stage = (text_of(line) for line in heading_lines(folded(MIDDLE), 244.0, 100))
    assert top.startswith("● running  first  full, seed 11") and "cycle 4/8" in top
    assert top.endswith("4:04 +4:44")
    assert "Dev .443 ±.035 > .550 ±.035, +.107 [+.06, +.16] n=480." in below
    assert "Sealed .443 ±.020, again at the end." in below
    assert "gate, weights" in stage


def test_the_heading_says_how_to_go_on_after_a_stop() -> None:
    lines = heading_lines(folded(MIDDLE, "stopped"), 1.0, 80)
    assert "`moevolve resume` goes on" in text_of(lines[2])


def test_an_error_has_lines_of_its_own_and_is_whole() -> None:
    model = folded(MIDDLE, "failed")
    model.error = (
        "no space is left on the device that holds the journal of this run, 12 of 16 GiB are taken by weights, "
        * 2
    )
    lines = heading_lines(model, 1.0, 80)
    assert len(lines) == 5 and all(tone == "bad" for line in lines[2:] for text, tone in line if text.strip())
    assert "no space is left on the device" in text_of(lines[2])


def test_a_long_name_loses_its_middle_and_keeps_both_ends() -> None:
    assert middle("quickstart-9-9bb0e5ea", 14).startswith("quick") and middle(
        "quickstart-9-9bb0e5ea", 14
    ).endswith("9bb0e5ea"[-6:])
    assert width_of([(middle("quickstart-9-9bb0e5ea", 14), "plain")]) == 14


@given(st.integers(1, 400), st.integers(3, 60), st.booleans())
def test_a_chart_fills_its_room_whatever_it_shows(width: int, height: int, log: bool) -> None:
    values = [(0.0, 1.0), (1.0, math.nan), (2.0, -1.0), (3.0, math.inf), (4.0, 1e-9), (5.0, 1e9)]
    lines = chart_lines(
        [Series("a", values, bands=[(0.0, math.inf)] * 6)], width, height, log=log, cursor=2.0
    )
    assert len(lines) == height and {width_of(line) for line in lines} == {width}


def test_a_decimated_curve_keeps_its_peaks() -> None:
    points = [(float(x), 0.0) for x in range(10_000)]
    points[4321] = (4321.0, 9.0)
    kept = decimated(points, 100)
    assert len(kept) <= 300 and 4321 in kept and kept[-1] == 9_999


def test_axis_labels_never_stand_on_neighbouring_rows() -> None:
    for height in range(5, 40):
        lines = [text_of(line) for line in curve_lines(folded().view, 72, height)]
        marked = [row for row, line in enumerate(lines) if "┤" in line]
        assert all(b - a > 1 for a, b in zip(marked, marked[1:], strict=False))


def test_many_promotions_in_a_column_are_a_number() -> None:
    view = folded(MIDDLE).view
    view.promotions[:] = [(1, "program")] * 7
    assert "7" in text_of(curve_lines(view, 60, 12)[-2]) and "pp" not in text_of(
        curve_lines(view, 60, 12)[-2]
    )


RUNNING = folded(MIDDLE)


@given(st.integers(1, 250))
def test_the_heading_keeps_to_its_width(width: int) -> None:
    assert {width_of(line) for line in heading_lines(RUNNING, 244.0, width)} == {width}


def test_the_filter_wants_every_word_in_any_case() -> None:
    text = "PROMOTED weights v0003"
    assert matches(text, "promoted v0003") and matches(text, "") and not matches(text, "promoted v0004")


def test_a_score_before_a_run_went_on_stays_at_its_cycle() -> None:
    """It was the last one then; the cycles after it stand to its right."""
    view = folded().view
    ended = curve_lines(view, 80, 20)
    assert "◆" in "".join(text_of(line)[-3:] for line in ended)
    final = view.curve[-1]
    for cycle in range(final.cycle + 1, 2 * final.cycle):
        view.curve.append(msgspec.structs.replace(final, cycle=cycle, split="dev", when="cycle"))
    view.cycle = 2 * final.cycle
    later = curve_lines(view, 80, 20)
    places = [text_of(line).find("◆", 20) for line in later if "◆" in text_of(line)[20:]]
    assert places and all(30 < place < 60 for place in places)
