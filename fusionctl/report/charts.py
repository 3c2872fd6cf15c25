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
# A curve's points that lie on the line of their neighbours within this many units are left out.
TOLERANCE = 0.15


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
        return f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}".replace("-", "−")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series: x and y of equal length, None where there is no value; `low`, `high` draw a band; `marks` dots.

    `slot` chooses colour and dash; None is the grey dashed line of what models are compared with.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    slot: int | None
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
        ends = (at_x(0.0, x), _y(0.0, y), at_x(1.0, x), _y(1.0, y))
        parts.append('<line class="ref" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*ends))
    parts += [_band(line, x, y) for line in lines if line.low]
    parts += [_path(line, x, y) for line in lines]
    return svg("".join(parts), HEIGHT, title, description)


def legend(entries: Iterable[tuple[str, int | None]], *, marks: bool = False) -> str:
    """The names of series beside a sample of their line, as HTML that wraps."""
    items = []
    for name, slot in entries:
        dot = f'<circle class="m {colour(slot)}" cx="13" cy="6" r="3"/>' if marks else ""
        sample = f'<path class="l {colour(slot)}"{_dash(slot)} d="M0 6H26"/>{dot}'
        items.append(f'<li><svg width="26" height="12" aria-hidden="true">{sample}</svg>{escape(name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def svg(body: str, height: int, title: str, description: str) -> str:
    """A drawing of the charts' width, with its name for who cannot see it."""
    head = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    box = f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}"'
    return f'<svg class="chart" {box}>{head}{body}</svg>'


def at_x(value: float, axis: Axis, left: float = LEFT) -> float:
    """Where a value lies on the abscissa; outside of the axis: at its border."""
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
        at = at_x(tick, x)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{foot}"/>')
        parts.append(f'<text class="num mid" x="{at:.1f}" y="{foot + 16}">{x.text(tick)}</text>')
    middle = (TOP + foot) / 2
    parts.append(f'<text class="mid" x="{(LEFT + end) / 2:.1f}" y="{HEIGHT - 6}">{escape(x.label)}</text>')
    parts.append(
        f'<text class="mid" transform="translate(12 {middle:.1f}) rotate(-90)" x="0" y="0">{escape(y.label)}</text>'
    )
    return "".join(parts)


def colour(slot: int | None) -> str:
    """The style class of a slot's colour."""
    return "base" if slot is None else f"s{slot % SLOTS}"


def _dash(slot: int | None) -> str:
    if slot is None:
        return ""
    # The second six models have the colours of the first, with other dashes.
    dash = DASHES[(slot + slot // SLOTS) % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _path(line: Line, x: Axis, y: Axis) -> str:
    """The line in as many pieces as gaps leave, and its dots."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(line.x, line.y, strict=True):
        if b is None:
            pieces.append([])
        else:
            pieces[-1].append((at_x(a, x), _y(b, y)))
    steps = ["M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in thinned(piece)) for piece in pieces if piece]
    stroke = f'<path class="l {colour(line.slot)}"{_dash(line.slot)} d="{"".join(steps)}"/>' if steps else ""
    dots = [(a, b) for piece in pieces for a, b in piece] if line.marks else []
    mark = f'<circle class="m {colour(line.slot)}" '
    return stroke + "".join(f'{mark}cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in dots)


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points without those that the lines between the others pass within TOLERANCE (Ramer 1972)."""
    kept, open_ranges = {0, len(points) - 1}, [(0, len(points) - 1)]
    while open_ranges:
        first, last = open_ranges.pop()
        (ax, ay), (bx, by) = points[first], points[last]
        length = math.hypot(bx - ax, by - ay)
        off = [
            (abs((bx - ax) * (ay - py) - (ax - px) * (by - ay)) / length if length else math.hypot(px - ax, py - ay), i)
            for i, (px, py) in enumerate(points[first + 1 : last], first + 1)
        ]
        farthest, at = max(off, default=(0.0, 0))
        if farthest > TOLERANCE:
            kept.add(at)
            open_ranges += [(first, at), (at, last)]
    return [points[i] for i in sorted(kept)]


def _band(line: Line, x: Axis, y: Axis) -> str:
    points = [
        (a, low, high)
        for a, low, high in zip(line.x, line.low, line.high, strict=True)
        if low is not None and high is not None
    ]
    upper = [f"{at_x(a, x):.1f} {_y(high, y):.1f}" for a, _, high in points]
    lower = [f"{at_x(a, x):.1f} {_y(low, y):.1f}" for a, low, _ in reversed(points)]
    return f'<path class="b {colour(line.slot)}" d="M{"L".join(upper + lower)}Z"/>' if points else ""
