"""Tests of tests.chaos.report.plot: what is drawn where, and how axes are divided."""

import re
from xml.etree import ElementTree

import pytest

from tests.chaos.report.plot import HEADER, LEFT, PANEL, RIGHT, WIDTH, Mark, Panel, Series, nice_step, plot

SVG = "{http://www.w3.org/2000/svg}"
PANELS = [
    Panel("memory, MB", [Series("facade", [[(0, 10), (10, 20)]]), Series("node <1>", [[(0, 5)], [(5, 5), (10, 5)]])]),
    Panel("threads", [Series("facade", [[(0, 3), (10, 3)]])]),
]


def drawn() -> ElementTree.Element:
    """The plot of two panels and a mark."""
    return ElementTree.fromstring(plot("Soak & more", PANELS, [Mark(5, "kill")], 10))  # noqa: S314 (made here)


def test_every_series_is_a_line_with_its_name_in_one_colour() -> None:
    """A name has one colour in all panels, and characters that SVG reserves are escaped."""
    lines = [(line.get("stroke"), line.get("points")) for line in drawn().iter(f"{SVG}polyline")]
    facade, node, *_ = dict.fromkeys(colour for colour, _ in lines)

    assert [facade, node, node, facade] == [colour for colour, _ in lines]
    texts = [text.text for text in drawn().iter(f"{SVG}text")]
    assert {"Soak & more", "memory, MB", "threads", "facade", "node <1>", "kill", "minutes"} <= set(texts)


def test_values_are_drawn_to_scale() -> None:
    """The first minute is at the left, the last one at the right, and the largest value at the top."""
    points = next(drawn().iter(f"{SVG}polyline")).get("points", "")
    right = WIDTH - RIGHT

    assert f"{LEFT:.1f},{HEADER + PANEL / 2:.1f} {right:.1f},{HEADER:.1f}" == points


def test_a_fault_is_a_line_through_all_panels_and_a_restart_is_a_dot() -> None:
    """A mark is drawn at its minute, and each run of a series except the first begins with a dot."""
    middle = (LEFT + WIDTH - RIGHT) / 2
    heights = [
        float(line.get("y2", "0"))
        for line in drawn().iter(f"{SVG}line")
        if line.get("x1") == line.get("x2") == f"{middle:.1f}"
    ]

    assert max(heights) > HEADER + 2 * PANEL
    assert [f"{middle:.1f}"] == [dot.get("cx") for dot in drawn().iter(f"{SVG}circle")]


def test_a_plot_without_samples_has_axes() -> None:
    """A soak that ends at once has a plot, too."""
    empty = plot("Soak", [Panel("threads", []), Panel("posts", [Series("posts", [[]])])], [], 0.1)

    assert [""] == re.findall(r'points="([^"]*)"', empty)
    assert empty.endswith("</svg>\n")


@pytest.mark.parametrize(
    ("span", "most", "step"), [(60, 15, 5), (0.4, 15, 0.05), (10, 5, 2), (101, 5, 50), (1, 5, 0.2), (3_000, 5, 1_000)]
)
def test_axes_are_divided_at_round_numbers(span: float, most: int, step: float) -> None:
    """The steps are 1, 2 or 5 times a power of ten, and their number is limited."""
    assert pytest.approx(step) == nice_step(span, most)
