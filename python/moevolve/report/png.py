"""A chart as PNG, drawn from its SVG."""

from __future__ import annotations

from moevolve.errors import UsageError

ZOOM = 2.0
"""Pixels of a unit of the SVG."""


def of(svg: str) -> bytes:
    """The picture as PNG on white.

    Raises:
        UsageError: what draws it is not installed.
    """
    try:
        import resvg_py
    except ImportError:
        raise UsageError(
            "PNG needs resvg: pip install 'moevolve[png]'; a name that ends in .svg needs nothing"
        ) from None
    return resvg_py.svg_to_bytes(
        svg_string=svg.replace('font-family="system-ui, sans-serif"', 'font-family="sans-serif"'),
        background="white",
        zoom=ZOOM,
    )
