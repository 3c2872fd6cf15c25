"""Sections of the report on probabilities: calibration before and after rescaling, and what acting on them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from fusionctl.disclosure import SMALLEST_COUNT, safe_bins
from fusionctl.report import html, results, tables
from fusionctl.report.charts import Axis, Line, fitted_axis, legend, line_chart
from fusionctl.report.html import Html
from fusionctl.report.names import distinct, model_name, number, short
from fusionctl.report.parts import Cell, Figure, Fold, Note, Part, Rows, Table

BINS_NOTE = (
    "On the dashed line the observed share equals the predicted probability. Bins of equal size, joined until each "
    f"holds {SMALLEST_COUNT} stays with and {SMALLEST_COUNT} without the outcome."
)
TOO_FEW = f"Too few outcomes for a curve: a dot rests on {SMALLEST_COUNT} stays with and {SMALLEST_COUNT} without it."
MEASURES = {
    "brier": "Brier score",
    "ece": "ECE",
    "slope": "Slope",
    "intercept": "Intercept",
    "in_the_large": "In the large",
}
MEASURES_NOTE = (
    "Best are a Brier score and an expected calibration error (ECE) of 0, a slope of 1, intercepts of 0. A slope below "
    "1: predictions too extreme. In the large below 0: too high on average. After: logits divided by one temperature "
    "that was fitted on the validation stays."
)
DECISION_NOTE = (
    "Net benefit of acting on a model from a probability on, in true positives per 100 stays, a needless action "
    "counted by the odds of that probability (from 20 % on: a quarter). Acting on nobody has 0. "
    "A model is worth using where its line is above 0 and above that of acting on everyone. Probabilities are taken as "
    "the models give them, before temperature scaling."
)
CURVES = {"curve": "before", "curve_after": "after temperature scaling"}
ACT_ON_ALL = "Act on everyone"


def calibration(metrics: Mapping[str, Any]) -> list[Part]:
    """Observed against predicted before and after temperature scaling, and how good both are."""
    found = metrics.get("calibration", {})
    everyone = metrics["subsets"]["all"]
    labels = [label for label in metrics["labels"] if tables.drawable(everyone, label)]
    models = [model for model in distinct(metrics["models"]) if found.get(model)]
    if not models or not labels or not tables.enough(everyone):
        return []
    chosen = [model for model in results.drawn(metrics) if model in models]
    several = len(metrics["labels"]) > 1
    figures = {key: [f for label in labels if (f := _chart(metrics, label, chosen, key))] for key in CURVES}
    slots = results.colours(metrics)
    names = legend([(model_name(m), slots[m]) for m in chosen], marks=True)
    few = [] if any(figures.values()) else [Note(TOO_FEW)]
    if not several:
        drawn = [Note(BINS_NOTE), html.charts([f for each in figures.values() for f in each], names)]
        return [*(few or drawn), Note(MEASURES_NOTE), _measures(found, models, labels[0])]
    folds = [
        Fold(f"Curve of every label, {CURVES[key]}", [html.charts(each, names, small=True)])
        for key, each in figures.items()
        if each
    ]
    by_label: list[Part] = [_medians(found, models, labels), _by_label(found, models, labels)]
    return [Note(MEASURES_NOTE), *by_label, *(few or [Note(BINS_NOTE)]), *folds]


def _chart(metrics: Mapping[str, Any], label: str, models: Sequence[str], key: str) -> Html | None:
    slots, lines = results.colours(metrics), []
    for model in models:
        bins = safe_bins(metrics["calibration"][model].get(label, {}).get(key) or [])
        x, y = [b["predicted"] for b in bins], [b["observed"] for b in bins]
        if bins:
            lines.append(Line(name=model_name(model), x=x, y=y, slot=slots[model], marks=True))
    if max((len(line.x) for line in lines), default=0) < 2:  # a dot is no curve
        return None
    values = [0.0, *(v for line in lines for v in (*line.x, *line.y) if v is not None)]
    axes = [fitted_axis(name, values) for name in ("Predicted probability", "Observed share")]
    what = f"{short(label)}, {CURVES[key]}" if len(metrics["labels"]) > 1 else CURVES[key].capitalize()
    description = f"Observed share by mean predicted probability, {len(lines)} models."
    chart = line_chart(lines, *axes, title=f"Calibration: {what}", description=description, diagonal=True)
    return html.figure(what, "", chart)


def _measures(found: Mapping[str, Any], models: Sequence[str], label: str) -> Table:
    """Of a single label: two rows by model, before and after."""
    rows: list[list[Cell]] = []
    for model in models:
        entry = found[model].get(label)
        if entry:
            name = f"{model_name(model)}|after, temperature {number(entry['temperature'], 2)}"
            rows += [_measured(f"{model_name(model)}|before", entry), _measured(name, entry.get("after") or {})]
    header, name = ["Model", *MEASURES.values()], "Calibration before and after temperature scaling"
    return Table(name=name, header=header, groups=[("", rows)], stack=True)


def _measured(name: str, entry: Mapping[str, Any]) -> list[Cell]:
    return [name, *(_measure(entry, key) for key in MEASURES)]


def _measure(entry: Mapping[str, Any], key: str) -> Cell:
    value = entry.get(key)
    return Figure.of(value) if isinstance(value, Mapping) else Figure(value=value)


def _medians(found: Mapping[str, Any], models: Sequence[str], labels: Sequence[str]) -> Table:
    """Of several labels: the median over them."""
    rows: list[list[Cell]] = []
    for model in models:
        entries = [found[model][label] for label in labels if found[model].get(label)]
        afters = [entry.get("after") or {} for entry in entries]
        rows += [_median_row(f"{model_name(model)}|before", entries), _median_row(f"{model_name(model)}|after", afters)]
    name = f"Calibration: median over {len(labels)} labels"
    return Table(name=name, header=["Model", *MEASURES.values()], groups=[("", rows)], stack=True, caption=True)


def _median_row(name: str, entries: Sequence[Mapping[str, Any]]) -> list[Cell]:
    cells: list[Cell] = [name]
    for key in MEASURES:
        values = [v for entry in entries if (v := _value(entry.get(key))) is not None]
        cells.append(Figure(value=median(values) if values else None))
    return cells


def _value(entry: Any) -> float | None:
    found: float | None = entry["value"] if isinstance(entry, Mapping) else entry
    return found


def _by_label(found: Mapping[str, Any], models: Sequence[str], labels: Sequence[str]) -> Fold:
    groups: list[tuple[str, Rows]] = []
    for model in models:
        rows: list[list[Cell]] = []
        for label in labels:
            entry = found[model].get(label) or {}
            after = entry.get("after") or {}
            afters = (_measure(after, key) for key in ("brier", "ece", "slope"))
            rows.append([*_measured(label, entry), number(entry.get("temperature"), 2), *afters])
        groups.append((model_name(model), rows))
    header = ["Label", *MEASURES.values(), "Temperature", "Brier, after", "ECE, after", "Slope, after"]
    title = "Calibration of every label"
    return Fold(title, [Table(name=title, header=header, groups=groups)])


def decision(metrics: Mapping[str, Any]) -> list[Part]:
    """Decision curves: of a single label in the open, of several on request."""
    found, everyone = metrics.get("decision") or {}, metrics["subsets"]["all"]
    labels = [label for label in metrics["labels"] if tables.drawable(everyone, label)]
    models = [m for m in results.drawn(metrics) if _decided(found.get("models", {}).get(m))]
    figures = [f for label in labels if (f := _decision_chart(metrics, label, models))] if models else []
    if not figures or not tables.enough(everyone):
        return []
    slots = results.colours(metrics)
    names = legend([*((model_name(m), slots[m]) for m in models), (ACT_ON_ALL, None)])
    note = Note(DECISION_NOTE)
    if len(metrics["labels"]) == 1:
        return [note, html.charts(figures, names)]
    return [note, Fold("Decision curve of every label", [html.charts(figures, names, small=True)])]


def _decided(curves: Mapping[str, Sequence[float | None]] | None) -> bool:
    """Whether a model has any net benefit: one that lacks predictions has none."""
    return any(value is not None for curve in (curves or {}).values() for value in curve)


def _decision_chart(metrics: Mapping[str, Any], label: str, models: Sequence[str]) -> Html | None:
    found, slots = metrics["decision"], results.colours(metrics)
    x, top = found["thresholds"], metrics["subsets"]["all"]["prevalence"][label]
    curves = {model: found["models"][model].get(label) for model in models}
    # Below this the lines only tell that acting does harm; how much would flatten all that matters.
    least = -0.15 * top
    lines = [
        Line(name=model_name(m), x=x, y=_above(curve, least), slot=slots[m])
        for m, curve in curves.items()
        if curve and any(v is not None for v in curve)
    ]
    if not lines:
        return None
    lines.append(Line(name=ACT_ON_ALL, x=x, y=_above(found["all"][label], least), slot=None))
    lines = [replace(line, y=[None if v is None else 100 * v for v in line.y]) for line in lines]
    values = [0.0, 100 * top, *(v for line in lines for v in line.y if v is not None)]
    title = "Decision curve" if len(metrics["labels"]) == 1 else short(label)
    ends = [0.0, *x]
    across = Axis(label="Probability from which one acts", ticks=fitted_axis("", ends).ticks, percent=True)
    description = f"Net benefit by the probability from which one acts, {len(lines) - 1} models and acting on everyone."
    chart = line_chart(lines, across, fitted_axis("Net benefit per 100", values), title=title, description=description)
    return html.figure(title, "", chart)


def _above(curve: Sequence[float | None], least: float) -> list[float | None]:
    """The curve to its first point that is absent or below the least value shown; what follows is of no use."""
    end = next((i for i, v in enumerate(curve) if v is None or v < least), len(curve))
    return [v if i < end else None for i, v in enumerate(curve)]
