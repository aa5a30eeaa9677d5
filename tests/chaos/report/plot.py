"""Draws measurements over time as one SVG, with panels below each other on a common axis. Pure code."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT = 1_100, 64, 130  # pixels: whole width, left margin (values), right margin (names of series)
HEADER, PANEL, GAP = 200, 152, 38  # pixels: names of marks, height of a panel, space between two panels
NAME, SWATCH = 13, 12  # pixels: height of a name, length of the coloured line before it
ROW = 78  # pixels: names of marks alternate between two rows, so that neighbours do not overlap
TICKS, MINUTE_TICKS = 5, 15  # most intervals on the value axis and on the time axis
COLOURS = (  # the ten colours of matplotlib's tab10, which are easy to tell apart; reused after ten names
    *("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"),
)

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time.

    Attributes:
        name: the label; one name has the same colour in all panels.
        runs: lines of points (minutes, value); each run after the first follows a restart, which is drawn as a dot.
    """

    name: str
    runs: Sequence[Sequence[Point]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Series that share a value axis; the label names the measure and its unit."""

    label: str
    series: Sequence[Series]


@dataclass(frozen=True, slots=True)
class Mark:
    """An event, drawn as a thin vertical line through all panels, with its name."""

    at_min: float
    name: str


def plot(title: str, panels: Sequence[Panel], marks: Sequence[Mark], minutes: float, *, axis: str = "minutes") -> str:
    """The SVG; its horizontal axis goes from 0 to `minutes`, in the unit that `axis` names."""
    names = dict.fromkeys(series.name for panel in panels for series in panel.series)
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    bottom = HEADER + len(panels) * (PANEL + GAP)
    drawn = [_mark(mark, row % 2, bottom - GAP, minutes) for row, mark in enumerate(marks)]
    for number, panel in enumerate(panels):
        drawn += _panel(panel, HEADER + number * (PANEL + GAP), colours, minutes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + GAP}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f"{_text(8, 18, title, anchor='start', bold=True)}"
        f"{''.join(drawn)}{_text((LEFT + WIDTH - RIGHT) / 2, bottom + 4, axis, anchor='middle')}</svg>\n"
    )


def nice_step(span: float, most: int) -> float:
    """The smallest of …, 0.2, 0.5, 1, 2, 5, 10, … that divides a span into at most `most` intervals."""
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


def _mark(mark: Mark, row: int, bottom: float, minutes: float) -> str:
    x, top = _x(mark.at_min, minutes), HEADER - 20 - row * ROW
    return (
        f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#c8c8c8" stroke-width="0.7"/>'
        f'<text transform="translate({x + 3:.1f},{top - 2}) rotate(-90)" font-size="9" fill="#555">'
        f"{escape(mark.name)}</text>"
    )


def _panel(panel: Panel, top: float, colours: dict[str, str], minutes: float) -> Iterator[str]:
    largest = max((value for series in panel.series for run in series.runs for _, value in run), default=0.0) or 1.0
    step = nice_step(largest, TICKS)
    most = step * math.ceil(largest / step - 1e-9)
    yield _text(LEFT, top - 5, panel.label, anchor="start", bold=True)
    yield from _axes(top, step, most, minutes)
    for row, series in enumerate(panel.series):
        yield from _line(series, top, most, colours[series.name], minutes)
        yield _name(series.name, top + row * NAME, colours[series.name])


def _axes(top: float, step: float, most: float, minutes: float) -> Iterator[str]:
    bottom, right = top + PANEL, WIDTH - RIGHT
    for number in range(round(most / step) + 1):
        y = _y(number * step, top, most)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#e4e4e4" stroke-width="0.7"/>'
        yield _text(LEFT - 6, y + 4, f"{number * step:,.10g}")
    step_min = nice_step(minutes, MINUTE_TICKS)
    for number in range(int(minutes / step_min + 1e-9) + 1):
        x = _x(number * step_min, minutes)
        yield f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" stroke="#444"/>'
        yield _text(x, bottom + 15, f"{number * step_min:.10g}", anchor="middle")
    yield f'<path d="M{LEFT} {top}V{bottom}H{right}" fill="none" stroke="#444"/>'


def _line(series: Series, top: float, most: float, colour: str, minutes: float) -> Iterator[str]:
    for number, run in enumerate(series.runs):
        places = [(_x(minute, minutes), _y(value, top, most)) for minute, value in run]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>'
        if number and places:
            yield f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="2" fill="{colour}"/>'


def _name(name: str, top: float, colour: str) -> str:
    x = WIDTH - RIGHT + 10
    return (
        f'<line x1="{x}" y1="{top + 7}" x2="{x + SWATCH}" y2="{top + 7}" stroke="{colour}" stroke-width="2"/>'
        f"{_text(x + SWATCH + 5, top + 11, name, anchor='start')}"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "end", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _x(minute: float, minutes: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(minute / minutes, 1.0)


def _y(value: float, top: float, most: float) -> float:
    return top + PANEL * (1 - value / most)
