"""Every tone can be read on every shipped theme, on the pane, on the heading and under the cursor."""

import pytest
import synthetic_run as synthetic
from textual.color import Color
from textual.pilot import Pilot
from tui_harness import app_over, drive

from moevolve.journal.kinds import TONES
from moevolve_tui.plain import GLYPHS, lacks_glyphs, plain
from moevolve_tui.readable import CONTRAST, contrast, readable


def test_contrast_is_wcags() -> None:
    white, black = Color(255, 255, 255), Color(0, 0, 0)
    assert contrast(white, black) == pytest.approx(21.0)
    assert contrast(white, white) == 1.0
    assert contrast(Color(118, 118, 118), white) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("grey", range(0, 256, 15))
def test_any_colour_becomes_readable_on_any_grey(grey: int) -> None:
    background = Color(grey, grey, grey)
    for color in (Color(255, 0, 0), Color(0, 255, 0), Color(90, 90, 255), Color(grey, grey, grey)):
        assert contrast(readable(color, background), background) >= CONTRAST


def test_every_tone_on_every_theme_reaches_the_least_contrast() -> None:
    app = app_over(synthetic.recorded(synthetic.middle()))

    async def script(pilot: Pilot[str]) -> None:
        for name in app.available_themes:
            if name.startswith("ansi"):
                continue
            app.theme = name
            await pilot.pause()
            for widget in (app.panes[0], app.heading):
                for tone in TONES:
                    for cursor in (False, True):
                        style = widget._mixed(tone, cursor)
                        assert style.color is not None and style.bgcolor is not None
                        text, behind = (Color.from_rich_color(each) for each in (style.color, style.bgcolor))
                        # A terminal gets whole bytes: a hair is lost by rounding.
                        assert contrast(text, behind) >= CONTRAST - 0.05, (name, tone, cursor)

    drive(app, script)


def test_an_encoding_without_box_drawing_gets_plain_letters() -> None:
    assert lacks_glyphs("iso-8859-1") and lacks_glyphs("ascii") and lacks_glyphs(None)
    assert not lacks_glyphs("utf-8")
    for glyph, letter in GLYPHS.items():
        assert plain(glyph, "ascii") == letter and len(letter) == 1
    assert plain("⣿⠀日é", "iso-8859-1") == ". ?é"


def test_every_glyph_of_the_screens_has_a_plain_letter() -> None:
    app = app_over(synthetic.recorded(None, "finished", alive=False))

    async def script(pilot: Pilot[str]) -> None:
        for number in range(10):
            await pilot.press(str(number))
            await pilot.pause()
            drawn = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
            strange = {each for each in drawn if ord(each) > 127 and plain(each, "ascii") == "?"}
            assert not strange

    drive(app, script)
