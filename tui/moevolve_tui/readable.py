"""Colours that can be read: each tone is moved away from its background until WCAG's contrast is reached."""

from __future__ import annotations

from textual.color import Color

CONTRAST = 4.5
"""Least ratio of luminances of a text and its background (WCAG 2.2, AA)."""
_STEPS = 24


def luminance(color: Color) -> float:
    """Relative luminance of sRGB, as WCAG defines it."""

    def linear(channel: int) -> float:
        value = channel / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    return 0.2126 * linear(color.r) + 0.7152 * linear(color.g) + 0.0722 * linear(color.b)


def contrast(a: Color, b: Color) -> float:
    """The ratio of two colours, from 1 to 21."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def readable(color: Color, background: Color) -> Color:
    """The colour, or the first one between it and black or white that reaches `CONTRAST` on the background. A terminal's own
    colours stay as they are: nobody here knows what they look like."""
    if color.ansi is not None or background.ansi is not None:
        return color
    if contrast(color, background) >= CONTRAST:
        return color
    white, black = Color(255, 255, 255), Color(0, 0, 0)
    end = white if contrast(white, background) >= contrast(black, background) else black
    for step in range(1, _STEPS + 1):
        mixed = color.blend(end, step / _STEPS)
        if contrast(mixed, background) >= CONTRAST:
            return mixed
    return end
