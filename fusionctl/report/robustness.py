"""Section of the report on robustness: curves by corruption, areas, and the layout of the paper's Tables 5 and 6."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fusionctl.disclosure import shown, tells_small
from fusionctl.report import html, results, tables
from fusionctl.report.charts import SLOTS, Axis, Line, fitted_axis, legend, line_chart
from fusionctl.report.html import Html
from fusionctl.report.names import (
    CORRUPTION_NAMES,
    DASH,
    KIND_NAMES,
    METRIC_NAMES,
    MODALITY_NAMES,
    SUBSET_NAMES,
    TRAINED_NAMES,
    model_name,
)
from fusionctl.report.paper import Paper, noise_rows
from fusionctl.report.parts import Cell, Figure, Fold, Heading, Note, Part, Rows, Table

SUBSETS = ("all", "paired")
DRAWN = ("auroc", "auprc")
NOTE = (
    "The same models on test input that was corrupted, the same input for every model. Level: for noise the share of "
    "time steps and pixels, otherwise the severity, from 0 (as it was) to 100 %. Band: 95 % interval."
)
AREA_NOTE = (
    "What AUROC has above 0.5, and AUPRC above the prevalence, as a share of the same on the uncorrupted input, "
    "averaged over the levels: 1 is no loss, 0 no better than guessing. No share where a model is not clearly better "
    "than guessing to begin with. One that starts lower can keep more of what it has, so read it beside the curves."
)
DIFFERENCE_NOTE = (
    "The first model's area minus the second's, on the same resamples of patients. Above 0: the first keeps more of "
    "its performance. Holm: p corrected over all comparisons of that column, of all kinds of corruption."
)
# What tells one panel of curves from another.
PANEL = ("trained", "corruption", "kind", "modality")
Panel = tuple[str, ...]
Entries = Sequence[Mapping[str, Any]]


def robustness(metrics: Mapping[str, Any], found: Mapping[str, Any] | None, paper: Paper | None) -> list[Part]:
    """Small multiples by corruption, areas, their differences, and every number on request.

    Args:
        metrics: of the evaluation: whose models have which colour, which subsets may be shown.
        found: the robustness stage's metrics.json, `{curve, area, area_differences, ..}`; None where there is none.
        paper: its figures, if they may be shown.
    """
    subsets = [s for s in SUBSETS if tables.enough(metrics["subsets"][s])]
    rows = [r for r in (found or {}).get("curve", []) if r["subset"] in subsets and r["value"] is not None]
    if not found or not rows:
        return []
    panels = list(dict.fromkeys(_panel(row) for row in rows))
    slots = _colours(metrics, rows)
    title = _titles(panels)
    drawn = {
        (subset, metric): _charts(rows, panels, subset, metric, slots, title) for subset in subsets for metric in DRAWN
    }
    first, *others = subsets
    parts: list[Part] = [Note(NOTE), *_stale(found), *_not_drawn(slots)]
    for metric in DRAWN:
        if drawn[first, metric]:
            parts += [Heading(f"{METRIC_NAMES[metric]}, {SUBSET_NAMES[first].lower()}")]
            parts += [html.charts(drawn[first, metric], _legend(rows, first, slots), small=True)]
    for subset in others:
        charts = [chart for metric in DRAWN for chart in drawn[subset, metric]]
        if charts:
            title_of = f"Curves of the {SUBSET_NAMES[subset].lower()}"
            parts.append(Fold(title_of, [html.charts(charts, _legend(rows, subset, slots), small=True)]))
    parts += _areas(found.get("area", []), subsets, title)
    parts += _differences(found.get("area_differences", []), subsets, title)
    return [*parts, *(_numbers(rows, panel, title(panel), paper) for panel in panels)]


def _stale(found: Mapping[str, Any]) -> list[Part]:
    """How many stays have an older film to fall back on; without it that curve says little."""
    films = found.get("films") or {}
    if not any(row["corruption"] == "film-stale" for row in found["curve"]) or "with_earlier_film" not in films:
        return []
    earlier, stays = films["with_earlier_film"], films["stays"]
    few = tells_small(earlier, stays - earlier)
    said = f"{shown(earlier)} of {shown(stays)} test stays" if not few else "Some test stays"
    return [Note(f"{said} with a film have an earlier one of the patient; for the others nothing changes.")]


def _not_drawn(slots: Mapping[str, int]) -> list[Part]:
    left_out = [model_name(model) for model, slot in slots.items() if slot >= SLOTS]
    return [Note(f"In the tables, but not drawn, to keep the lines apart: {', '.join(left_out)}.")] if left_out else []


def _panel(row: Mapping[str, Any]) -> Panel:
    return tuple(str(row.get(key) or "") for key in PANEL)


def _colours(metrics: Mapping[str, Any], rows: Entries) -> dict[str, int]:
    """The report's colours, for the models that are in the curves; others follow."""
    known = results.colours(metrics)
    known |= {m: len(known) + i for i, m in enumerate(sorted({row["model"] for row in rows} - set(known)))}
    names = sorted({row["model"] for row in rows}, key=known.__getitem__)
    if len(names) <= SLOTS and any(known[m] >= SLOTS for m in names):
        return {model: slot for slot, model in enumerate(names)}
    return {model: known[model] for model in names}


def _legend(rows: Entries, subset: str, slots: Mapping[str, int]) -> Html:
    """The models that have a curve on a subset."""
    there = {row["model"] for row in rows if row["subset"] == subset}
    found = [(model_name(m), slot) for m, slot in slots.items() if m in there and slot < SLOTS]
    return Html(legend(found, marks=True))


def _titles(panels: Sequence[Panel]) -> Callable[[Panel], str]:
    """A panel's title, with no more than tells it from the others."""
    several = {key: len({panel[i] for panel in panels}) > 1 for i, key in enumerate(PANEL)}

    def title(panel: Panel) -> str:
        trained, corruption, kind, modality = panel
        name = CORRUPTION_NAMES.get(corruption, corruption)
        if corruption == "noise":
            name = f"{KIND_NAMES.get(kind, kind).capitalize()} noise in {MODALITY_NAMES.get(modality, modality)}"
        return f"{name}, {TRAINED_NAMES.get(trained, trained)}" if several["trained"] else name

    return title


def _charts(
    rows: Entries,
    panels: Sequence[Panel],
    subset: str,
    metric: str,
    slots: Mapping[str, int],
    title: Callable[[Panel], str],
) -> list[Html]:
    """A chart for every panel, all on one ordinate."""
    chosen = [r for r in rows if (r["subset"], r["metric"]) == (subset, metric) and slots[r["model"]] < SLOTS]
    if not chosen:
        return []
    y = fitted_axis(METRIC_NAMES[metric], [row[key] for row in chosen for key in ("value", "low", "high")])
    x = replace(fitted_axis("Level of corruption", [row["level"] for row in chosen], most=6), percent=True)
    found = [(panel, [row for row in chosen if _panel(row) == panel]) for panel in panels]
    return [_chart(title(panel), of_panel, slots, x, y) for panel, of_panel in found if of_panel]


def _chart(title: str, rows: Entries, slots: Mapping[str, int], x: Axis, y: Axis) -> Html:
    lines = []
    for model, slot in slots.items():
        mine = sorted((row for row in rows if row["model"] == model), key=lambda row: row["level"])
        if mine:
            levels, values, low, high = ([row[key] for row in mine] for key in ("level", "value", "low", "high"))
            lines.append(Line(name=model, x=levels, y=values, slot=slot, low=low, high=high, marks=True))
    description = f"{y.label} by level of corruption, {len(lines)} models."
    return html.figure(title, "", line_chart(lines, x, y, title=f"{title}: {y.label}", description=description))


def _areas(areas: Entries, subsets: Sequence[str], title: Callable[[Panel], str]) -> list[Part]:
    groups = _grouped(areas, subsets, title, lambda row: model_name(row["model"]), signed=False)
    if not groups:
        return []
    name = "Share of performance kept under corruption"
    table = Table(name=name, header=["Model", *_columns(subsets)], groups=groups, stack=True)
    return [Heading(name), Note(AREA_NOTE), table]


def _differences(pairs: Entries, subsets: Sequence[str], title: Callable[[Panel], str]) -> list[Part]:
    named = lambda row: f"{model_name(row['a'])} − {model_name(row['b'])}"  # noqa: E731
    groups = _grouped(pairs, subsets, title, named, signed=True)
    if not groups:
        return []
    name = "Differences between models in what they keep"
    table = Table(name=name, header=["Models", *_columns(subsets)], groups=groups, stack=True)
    return [Fold(name, [Note(DIFFERENCE_NOTE), table])]


def _columns(subsets: Sequence[str]) -> list[str]:
    return [f"{METRIC_NAMES[metric]}, {SUBSET_NAMES[subset].lower()}" for subset in subsets for metric in DRAWN]


def _grouped(
    entries: Entries,
    subsets: Sequence[str],
    title: Callable[[Panel], str],
    named: Callable[[Mapping[str, Any]], str],
    *,
    signed: bool,
) -> list[tuple[str, Rows]]:
    """A group of rows by panel: an entry's name, and its number in each column."""
    groups: list[tuple[str, Rows]] = []
    for panel in dict.fromkeys(_panel(entry) for entry in entries):
        cells: dict[str, dict[tuple[str, str], Cell]] = {}
        for entry in entries:
            if _panel(entry) == panel and entry["value"] is not None:
                at = entry["subset"], entry["metric"]
                cells.setdefault(named(entry), {})[at] = Figure.of(entry, signed=signed)
        rows: list[list[Cell]] = [
            [name, *(of_name.get((s, m), DASH) for s in subsets for m in DRAWN)] for name, of_name in cells.items()
        ]
        groups += [(title(panel), rows)] if rows else []
    return groups


def _numbers(rows: Entries, panel: Panel, title: str, paper: Paper | None) -> Fold:
    """Every metric of every model by level, in the layout of the paper's Tables 5 and 6."""
    mine = [row for row in rows if _panel(row) == panel]
    inner: list[Part] = []
    for subset in SUBSETS:
        found = [row for row in mine if row["subset"] == subset]
        if found:
            beside = paper if subset == "all" and panel[1:] == ("noise", "additive", "both") else None
            groups = [_level(found, level, panel[0], beside) for level in sorted({row["level"] for row in found})]
            name = f"{title}: {SUBSET_NAMES[subset].lower()}"
            header = ["Model", *METRIC_NAMES.values()]
            inner.append(Table(name=name, header=header, groups=groups, stack=True, caption=True))
    return Fold(f"The numbers: {title[:1].lower()}{title[1:]}", inner)


def _level(rows: Entries, level: float, trained: str, paper: Paper | None) -> tuple[str, Rows]:
    lines: list[list[Cell]] = []
    at_level = [row for row in rows if row["level"] == level]
    for model in dict.fromkeys(row["model"] for row in at_level):
        entries = {row["metric"]: row for row in at_level if row["model"] == model}
        lines.append([model_name(model), *(Figure.of(entries.get(metric)) for metric in METRIC_NAMES)])
        if theirs := noise_rows(trained, level, model, paper):
            lines.append(["The paper", *(Figure.of(theirs[metric]) for metric in METRIC_NAMES)])
    return f"{100 * level:g} %" if level else "Not corrupted", lines
