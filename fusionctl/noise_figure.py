"""The figure of a robustness sweep as one SVG file: legible in light and dark, and the same curve gives the same bytes.

A row of panels a curve (what is corrupted), a column a metric on a subset; a column has one scale, so that the rows
can be compared. Every model has a colour, a dash and a mark of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from fusionctl.report.charts import Axis, fitted_axis
from fusionctl.report.names import (
    CORRUPTION_NAMES,
    KIND_NAMES,
    MODALITY_NAMES,
    SUBSET_NAMES,
    TASK_NAMES,
    TRAINED_NAMES,
    model_name,
)

Row = Mapping[str, Any]

METRICS = {"auroc": "AUROC", "auprc": "AUPRC"}
# What the abscissa counts, in per cent.
_SHARES = {
    "noise": "share with noise (%)",
    "film-missing": "share of films missing (%)",
    "film-stale": "share of stays (%)",
    "variables": "share of variables missing (%)",
    "gap": "share of the time missing (%)",
    "units": "share of stays (%)",
}
_SEVERITY = "severity (%)"
# User units, about a pixel each.
_WIDTH, _MARGIN, _PANEL, _HEIGHT = 960, 16, 232, 214
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 26, 42
_HEADING, _LINE, _LETTER = 26, 20, 7.0  # a row's heading, a line of the legend, and about the width of a letter
_MOST_TICKS = 7
_DASHES = ("", "6 3", "2 3", "9 3 2 3", "4 2 1 2 1 2", "1 3")
# Okabe and Ito's palette, told apart by all common kinds of colour vision; lighter or darker where a ground needs it.
_LIGHT = ("#0072b2", "#d55e00", "#007a57", "#b0487f", "#8a6d00", "#3a8fc4")
_DARK = ("#56b4e9", "#ff8c42", "#2fc79a", "#e59bc3", "#f0c24b", "#9ccdf0")
_STYLE = (
    "svg{{--paper:#fff;--ink:#1d242b;--soft:#57626d;--grid:#e4e8ec;{light}"
    "font:13px system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif}}"
    "@media (prefers-color-scheme:dark){{svg{{--paper:#14181c;--ink:#e8ecef;--soft:#a3aeb8;--grid:#2c343b;{dark}}}}}"
    "rect.paper{{fill:var(--paper)}}text{{fill:var(--ink)}}.soft{{fill:var(--soft);font-size:12px}}"
    ".h{{font-weight:600}}.title{{font-weight:600;font-size:16px}}.mid{{text-anchor:middle}}.end{{text-anchor:end}}"
    ".grid{{stroke:var(--grid)}}.axis{{stroke:var(--soft)}}.l{{fill:none;stroke-width:1.9}}.b{{fill-opacity:.11}}"
)


def title_of(row: Row) -> str:
    """What a curve is of, from one of its rows: the corruption, how, of what, and what the models were trained on."""
    kind = f", {KIND_NAMES[row['kind']]}" if row["kind"] else ""
    of = f": {MODALITY_NAMES[row['modality']]}" if row["corruption"] == "noise" else ""
    trained = f"; {TRAINED_NAMES[row['trained']]}" if row["trained"] != "clean" else ""
    return f"{CORRUPTION_NAMES[row['corruption']]}{kind}{of}{trained}"


def curve_key(row: Row) -> tuple[str, ...]:
    """What the rows of one curve have in common."""
    return tuple(row[name] for name in ("trained", "corruption", "kind", "modality"))


def draw(curve: Sequence[Row], *, task: str) -> bytes:
    """Draw metrics by level.

    Args:
        curve: rows of curve.parquet; value None where there is none.
        task: for the title.

    Returns:
        The SVG file's content.
    """
    models = list(dict.fromkeys(row["model"] for row in curve))
    rows = [row for row in curve if row["value"] is not None and row["metric"] in METRICS]
    columns = [(s, m) for s in SUBSET_NAMES for m in METRICS if any((r["subset"], r["metric"]) == (s, m) for r in rows)]
    axes = {column: _ordinate([r for r in rows if (r["subset"], r["metric"]) == column]) for column in columns}
    said = f"{TASK_NAMES.get(task, task)}: performance on corrupted test inputs"
    parts = [_text(_MARGIN, 28, said, "title"), *_legend(models)]
    top = 44 + _LINE * (1 + max((line for _, line in _places(models)), default=0))
    for key in dict.fromkeys(curve_key(row) for row in curve):
        mine = [row for row in rows if curve_key(row) == key]
        levels = sorted({row["level"] for row in curve if curve_key(row) == key})
        parts.append(_text(_MARGIN, top + 17, title_of(next(r for r in curve if curve_key(r) == key)), "h"))
        for place, column in enumerate(columns):
            inside = [row for row in mine if (row["subset"], row["metric"]) == column]
            panel = "".join(_panel(inside, models, levels, axes[column], column, key[1]))
            parts.append(f'<g transform="translate({_MARGIN + place * _PANEL} {top + _HEADING})">{panel}</g>')
        top += _HEADING + _HEIGHT
    note = "Shaded: 95 % intervals over resamples of the test patients. 0 % is the input as it is."
    parts.append(_text(_MARGIN, top + 14, note, "soft"))
    return _file(parts, top + 26, said).encode()


def _file(parts: Sequence[str], height: int, title: str) -> str:
    light, dark = ("".join(f"--s{i}:{c};" for i, c in enumerate(palette)) for palette in (_LIGHT, _DARK))
    slots = "".join(f".l.s{i}{{stroke:var(--s{i})}}.f.s{i}{{fill:var(--s{i})}}" for i in range(len(_LIGHT)))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    style = f"<style>{_STYLE.format(light=light, dark=dark)}{slots}</style>"
    paper = '<rect class="paper" width="100%" height="100%"/>'
    return "\n".join([f'{head} role="img">', f"<title>{escape(title)}</title>", style, paper, *parts, "</svg>", ""])


def _ordinate(rows: Sequence[Row]) -> Axis:
    return fitted_axis("", [row[name] for row in rows for name in ("value", "low", "high")])


def _panel(
    rows: Sequence[Row], models: Sequence[str], levels: Sequence[float], y: Axis, column: tuple[str, str], name: str
) -> Iterator[str]:
    """One panel: frame, then bands below lines."""
    most = levels[-1] or 1.0
    width, height = _PANEL - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(level: float, value: float) -> tuple[float, float]:
        share = (value - y.low) / (y.high - y.low)
        return _LEFT + width * level / most, _TOP + height * (1 - min(1.0, max(0.0, share)))

    subset, metric = column
    yield _text(_LEFT, 16, f"{METRICS[metric]}, {SUBSET_NAMES[subset][:1].lower()}{SUBSET_NAMES[subset][1:]}", "")
    for tick in y.ticks:
        _, ordinate = at(0, tick)
        yield f'<path class="grid" d="M{_LEFT} {ordinate:.1f}h{width}"/>'
        yield _text(_LEFT - 6, ordinate + 4, y.text(tick), "soft end")
    for level in _ticks(levels):
        abscissa, _ = at(level, y.low)
        yield _text(abscissa, _TOP + height + 16, f"{100 * level:.3g}", "soft mid")
    yield f'<path class="axis" d="M{_LEFT} {_TOP + height}h{width}"/>'
    yield _text(_LEFT + width / 2, _TOP + height + 33, _SHARES.get(name, _SEVERITY), "soft mid")
    lines = [(slot, sorted((r for r in rows if r["model"] == m), key=_level)) for slot, m in enumerate(models)]
    yield from (_band(slot, line, at) for slot, line in lines)
    for slot, line in lines:
        if line:
            points = [at(row["level"], row["value"]) for row in line]
            yield _path(slot, points) + "".join(_mark(slot, *point) for point in points)


def _level(row: Row) -> float:
    return float(row["level"])


def _ticks(levels: Sequence[float]) -> list[float]:
    """The levels to name: all, or every second, third, ... of many."""
    step = -(-len(levels) // _MOST_TICKS)
    return list(levels[::step])


def _band(slot: int, line: Iterable[Row], at: Any) -> str:
    known = [row for row in line if row["low"] is not None and row["high"] is not None]
    ends = [at(r["level"], r["low"]) for r in known] + [at(r["level"], r["high"]) for r in reversed(known)]
    return f'<path class="b f s{slot % len(_LIGHT)}" d="M{_points(ends)}Z"/>' if len(known) > 1 else ""


def _path(slot: int, points: Sequence[tuple[float, float]]) -> str:
    dash = _DASHES[(slot + slot // len(_LIGHT)) % len(_DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path class="l s{slot % len(_LIGHT)}"{dashed} d="M{_points(points)}"/>'


def _points(points: Iterable[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _mark(slot: int, x: float, y: float) -> str:
    """A disc, a square, a triangle or a diamond."""
    css = f'class="f s{slot % len(_LIGHT)}"'
    shapes = (
        f'<circle {css} cx="{x:.1f}" cy="{y:.1f}" r="2.9"/>',
        f'<path {css} d="M{x - 2.7:.1f} {y - 2.7:.1f}h5.4v5.4h-5.4Z"/>',
        f'<path {css} d="M{x:.1f} {y - 3.6:.1f}l3.5 6h-7Z"/>',
        f'<path {css} d="M{x:.1f} {y - 3.8:.1f}l3.8 3.8l-3.8 3.8l-3.8 -3.8Z"/>',
    )
    return shapes[slot % len(shapes)]


def _places(models: Sequence[str]) -> list[tuple[float, int]]:
    """Where each model's legend begins, and in which line."""
    places, x, line = [], float(_MARGIN), 0
    for name in models:
        width = 52 + _LETTER * len(model_name(name))
        if x + width > _WIDTH - _MARGIN and x > _MARGIN:
            x, line = float(_MARGIN), line + 1
        places.append((x, line))
        x += width
    return places


def _legend(models: Sequence[str]) -> Iterator[str]:
    for slot, (name, (x, line)) in enumerate(zip(models, _places(models), strict=True)):
        y = 52 + _LINE * line
        line_and_mark = _path(slot, [(x, y - 4), (x + 28, y - 4)]) + _mark(slot, x + 14, y - 4)
        yield line_and_mark + _text(x + 35, y, model_name(name), "")


def _text(x: float, y: float, text: str, css: str) -> str:
    classes = f' class="{css}"' if css else ""
    return f'<text{classes} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
