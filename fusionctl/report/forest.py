"""Values with their intervals in rows: forest plots, spreads of seeds, learned variances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fusionctl.report.charts import RIGHT, TOP, WIDTH, Axis, at_x, colour, fitted_axis, svg

ROW, GROUP_GAP, INDENT = 21, 8, 10
# Width of a plot below which more than four ticks would touch.
NARROW = 180
# Bounds of the column of names, and the mean width of a letter, in user units.
LEAST_NAMES, MOST_NAMES, LETTER = 70, 222, 6.7


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: a value, its interval if it has one, and the values it is the mean of, as smaller dots."""

    name: str
    slot: int | None
    value: float
    low: float | None = None
    high: float | None = None
    dots: Sequence[float] = ()

    @property
    def all(self) -> list[float]:
        """Everything that must lie on the axis."""
        return [v for v in (self.value, self.low, self.high, *self.dots) if v is not None]


def interval_chart(
    groups: Sequence[tuple[str, Sequence[Row]]],
    label: str,
    *,
    title: str,
    description: str,
    reference: float | None = None,
    axis: Axis | None = None,
) -> str:
    """Rows of values, grouped: a forest plot.

    Args:
        groups: (heading or "", rows).
        label: name of the quantity.
        title: name for who cannot see the chart.
        description: what it shows, in a sentence.
        reference: value to mark with a vertical line, if it lies on the axis.
        axis: shared with other charts; by default one around the values.
    """
    longest = max((len(row.name) for _, rows in groups for row in rows), default=0)
    left = min(MOST_NAMES, max(LEAST_NAMES, INDENT + LETTER * longest + 6))
    few = WIDTH - left < NARROW
    x = axis or fitted_axis(label, [v for _, rows in groups for row in rows for v in row.all], most=3 if few else 5)
    parts, top = [], TOP + 4.0
    for heading, rows in groups:
        if heading:
            parts.append(f'<text class="strong" x="0" y="{top + 12:.1f}">{escape(heading)}</text>')
            top += ROW
        for row in rows:
            parts.append(_row(row, x, left, top))
            top += ROW
        top += GROUP_GAP
    foot = _foot(x, left, top, reference)
    name = f'<text class="mid" x="{(left + WIDTH - RIGHT) / 2:.1f}" y="{top + 32:.1f}">{escape(label)}</text>'
    return svg(foot + "".join(parts) + name, math.ceil(top + 38), title, description)


def _foot(x: Axis, left: float, top: float, reference: float | None) -> str:
    """Grid, ticks and the line of reference."""
    lines = "".join(
        f'<line class="grid" x1="{at_x(t, x, left):.1f}" y1="{TOP}" x2="{at_x(t, x, left):.1f}" y2="{top:.1f}"/>'
        f'<text class="num mid" x="{at_x(t, x, left):.1f}" y="{top + 15:.1f}">{x.text(t)}</text>'
        for t in x.ticks
    )
    if reference is not None and x.low < reference < x.high:
        at = at_x(reference, x, left)
        lines += f'<line class="ref" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{top:.1f}"/>'
    return lines


def _row(row: Row, x: Axis, left: float, top: float) -> str:
    middle, hue = top + ROW / 2, colour(row.slot)
    parts = [f'<text x="{INDENT}" y="{middle + 4:.1f}">{escape(row.name)}</text>']
    if row.low is not None and row.high is not None:
        ends = f'd="M{at_x(row.low, x, left):.1f} {middle:.1f}H{at_x(row.high, x, left):.1f}"'
        parts.append(f'<path class="l {hue}" {ends}/>')
    dots = [f'<circle class="d {hue}" cx="{at_x(v, x, left):.1f}" cy="{middle:.1f}" r="2.5"/>' for v in row.dots]
    mark = f'<circle class="m {hue}" cx="{at_x(row.value, x, left):.1f}" cy="{middle:.1f}" r="4"/>'
    return "".join([*parts, mark, *dots])
