"""Small charts as inline SVG. Colours are CSS variables of the page: one drawing serves both themes and print."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

# User units; the page scales a chart to its column, about one unit a pixel.
WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 42
# Colours that the page defines as --s0 ... A model keeps its colour, dash and mark through the whole report.
SLOTS = 6
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 4")
ROW, GROUP_GAP, NAMES = 21, 8, 160


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Range and ticks of an axis; `percent` writes shares as per cent."""

    label: str
    ticks: tuple[float, ...]
    percent: bool = False

    @property
    def low(self) -> float:
        """Least value shown."""
        return self.ticks[0]

    @property
    def high(self) -> float:
        """Greatest value shown."""
        return self.ticks[-1]

    def text(self, tick: float) -> str:
        """A tick's number, with no more digits than the ticks need."""
        if self.percent:
            return f"{100 * tick:.0f} %"
        step = self.ticks[1] - self.ticks[0]
        return f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series: x and y of equal length, None where there is no value; `low`, `high` draw a band; `marks` dots."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    slot: int
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    marks: bool = False


UNIT_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def fitted_axis(label: str, values: Iterable[float | None], *, most: int = 6, whole: bool = False) -> Axis:
    """An axis around the values, with round ticks (whole numbers only, if asked)."""
    known = [v for v in values if v is not None and math.isfinite(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    span = max(high - low, 1.0 if whole else 1e-3)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * s for s in (1, 2, 5, 10, 20) if span / (power * s) <= most - 1)
    step = max(1.0, round(step)) if whole else step
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return Axis(label=label, ticks=tuple(round(i * step, 10) for i in range(first, last + 1)))


def line_chart(lines: Sequence[Line], x: Axis, y: Axis, *, title: str, description: str, diagonal: bool = False) -> str:
    """Lines over two axes.

    Args:
        lines: what to draw, in order; a value outside an axis is drawn at its border.
        x: abscissa.
        y: ordinate.
        title: name for who cannot see the chart.
        description: what it shows, in a sentence.
        diagonal: draw the line of equal x and y.
    """
    parts = [_frame(x, y)]
    if diagonal:
        ends = (_x(0.0, x), _y(0.0, y), _x(1.0, x), _y(1.0, y))
        parts.append('<line class="ref" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*ends))
    parts += [_band(line, x, y) for line in lines if line.low]
    parts += [_path(line, x, y) for line in lines]
    return _svg("".join(parts), HEIGHT, title, description)


def interval_chart(
    groups: Sequence[tuple[str, Sequence[tuple[str, int, float, float, float]]]],
    label: str,
    *,
    title: str,
    description: str,
    reference: float | None = None,
) -> str:
    """Values with their intervals in rows, grouped: a forest plot.

    Args:
        groups: (heading, rows of (name, colour slot, value, low, high)).
        label: name of the quantity.
        title: name for who cannot see the chart.
        description: what it shows, in a sentence.
        reference: value to mark with a vertical line, if it lies on the axis.
    """
    x = fitted_axis(label, [v for _, rows in groups for row in rows for v in row[2:]], most=5)
    parts, top = [], TOP + 4.0
    for heading, rows in groups:
        parts.append(f'<text class="strong" x="0" y="{top + 12:.1f}">{escape(heading)}</text>')
        top += ROW
        for row in rows:
            parts.append(_interval(row, x, top))
            top += ROW
        top += GROUP_GAP
    ticks = "".join(
        f'<line class="grid" x1="{_x(t, x, NAMES):.1f}" y1="{TOP}" x2="{_x(t, x, NAMES):.1f}" y2="{top:.1f}"/>'
        f'<text class="num mid" x="{_x(t, x, NAMES):.1f}" y="{top + 15:.1f}">{x.text(t)}</text>'
        for t in x.ticks
    )
    if reference is not None and x.low < reference < x.high:
        at = _x(reference, x, NAMES)
        ticks += f'<line class="ref" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{top:.1f}"/>'
    name = f'<text class="mid" x="{(NAMES + WIDTH - RIGHT) / 2:.1f}" y="{top + 32:.1f}">{escape(label)}</text>'
    return _svg(ticks + "".join(parts) + name, math.ceil(top + 38), title, description)


def legend(entries: Iterable[tuple[str, int]], *, marks: bool = False) -> str:
    """The names of series beside a sample of their line, as HTML that wraps."""
    items = []
    for name, slot in entries:
        dot = f'<circle class="m s{slot % SLOTS}" cx="13" cy="6" r="3"/>' if marks else ""
        sample = f'<path class="l s{slot % SLOTS}"{_dash(slot)} d="M0 6H26"/>{dot}'
        items.append(f'<li><svg width="26" height="12" aria-hidden="true">{sample}</svg>{escape(name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _svg(body: str, height: int, title: str, description: str) -> str:
    head = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    box = f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}"'
    return f'<svg class="chart" {box}>{head}{body}</svg>'


def _x(value: float, axis: Axis, left: float = LEFT) -> float:
    share = min(1.0, max(0.0, (value - axis.low) / (axis.high - axis.low)))
    return left + share * (WIDTH - RIGHT - left)


def _y(value: float, axis: Axis) -> float:
    share = min(1.0, max(0.0, (value - axis.low) / (axis.high - axis.low)))
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _frame(x: Axis, y: Axis) -> str:
    """Grid lines, numbers and names of both axes."""
    foot, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in y.ticks:
        at = _y(tick, y)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{end}" y2="{at:.1f}"/>')
        parts.append(f'<text class="num end" x="{LEFT - 6}" y="{at + 4:.1f}">{y.text(tick)}</text>')
    for tick in x.ticks:
        at = _x(tick, x)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{foot}"/>')
        parts.append(f'<text class="num mid" x="{at:.1f}" y="{foot + 16}">{x.text(tick)}</text>')
    middle = (TOP + foot) / 2
    parts.append(f'<text class="mid" x="{(LEFT + end) / 2:.1f}" y="{HEIGHT - 6}">{escape(x.label)}</text>')
    parts.append(
        f'<text class="mid" transform="translate(12 {middle:.1f}) rotate(-90)" x="0" y="0">{escape(y.label)}</text>'
    )
    return "".join(parts)


def _dash(slot: int) -> str:
    dash = DASHES[slot % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _path(line: Line, x: Axis, y: Axis) -> str:
    steps, pen, dots = [], "M", []
    for a, b in zip(line.x, line.y, strict=True):
        if b is None:
            pen = "M"
            continue
        at = f"{_x(a, x):.1f} {_y(b, y):.1f}"
        steps.append(pen + at)
        pen = "L"
        if line.marks:
            left, top = at.split()
            dots.append(f'<circle class="m s{line.slot % SLOTS}" cx="{left}" cy="{top}" r="3"/>')
    stroke = f'<path class="l s{line.slot % SLOTS}"{_dash(line.slot)} d="{"".join(steps)}"/>' if steps else ""
    return stroke + "".join(dots)


def _band(line: Line, x: Axis, y: Axis) -> str:
    points = [
        (a, low, high)
        for a, low, high in zip(line.x, line.low, line.high, strict=True)
        if low is not None and high is not None
    ]
    upper = [f"{_x(a, x):.1f} {_y(high, y):.1f}" for a, _, high in points]
    lower = [f"{_x(a, x):.1f} {_y(low, y):.1f}" for a, low, _ in reversed(points)]
    return f'<path class="b s{line.slot % SLOTS}" d="M{"L".join(upper + lower)}Z"/>' if points else ""


def _interval(row: tuple[str, int, float, float, float], x: Axis, top: float) -> str:
    name, slot, value, low, high = row
    middle = top + ROW / 2
    ends = f'd="M{_x(low, x, NAMES):.1f} {middle:.1f}H{_x(high, x, NAMES):.1f}"'
    return (
        f'<text x="10" y="{middle + 4:.1f}">{escape(name)}</text><path class="l s{slot % SLOTS}" {ends}/>'
        f'<circle class="m s{slot % SLOTS}" cx="{_x(value, x, NAMES):.1f}" cy="{middle:.1f}" r="4"/>'
    )
