"""Draws a bar chart as SVG for docs/."""

from collections.abc import Mapping
from html import escape

ROW, LABEL, BAR, WIDTH = 22, 300, 420, 800  # pixels: height of a row, width of names, longest bar, whole width


def chart(title: str, values: Mapping[str, float]) -> str:
    """The SVG: one bar with its name and value for each item, in the order of the mapping."""
    largest = max(values.values())
    rows = [
        f'<g transform="translate({LABEL},{28 + ROW * row})">'
        f'<text x="-8" y="12" text-anchor="end">{escape(name)}</text>'
        f'<rect width="{(length := max(1.0, BAR * value / largest)):.0f}" height="16" fill="#4878a8"/>'
        f'<text x="{length + 6:.0f}" y="12">{value:,.0f}</text></g>'
        for row, (name, value) in enumerate(values.items())
    ]
    height = 40 + ROW * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/><text x="8" y="16" font-weight="bold">'
        f"{escape(title)}</text>{''.join(rows)}</svg>\n"
    )
