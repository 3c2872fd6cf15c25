"""Section of the report on discrimination: ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusionctl.report import html, results, tables
from fusionctl.report.charts import UNIT_TICKS, Axis, Line, legend, line_chart
from fusionctl.report.html import Html
from fusionctl.report.names import SUBSET_NAMES, distinct, model_name, short
from fusionctl.report.parts import Fold, Note, Part

SUBSETS = ("all", "paired")
KINDS = {"roc": ("ROC", "False positive rate", "True positive rate"), "pr": ("Precision", "Recall", "Precision")}


def discrimination(metrics: Mapping[str, Any]) -> list[Part]:
    """ROC and precision-recall curves of the drawn models; of several labels the mean, and each on request."""
    slots, labels = results.colours(metrics), metrics["labels"]
    models = results.drawn(metrics)
    used: dict[str, int] = {}
    means: list[Html] = []
    for subset in SUBSETS:
        if not tables.enough(metrics["subsets"][subset]):
            continue
        for kind in KINDS:
            lines = _mean_lines(metrics, subset, kind, models, slots)
            used |= {line.name: line.slot for line in lines if line.slot is not None}
            drawable = sum(tables.drawable(metrics["subsets"][subset], label) for label in labels)
            mean = f", mean of {drawable} labels" if len(labels) > 1 else ""
            if lines:
                means.append(_curve_chart(kind, lines, f"{KINDS[kind][0]}: {SUBSET_NAMES[subset].lower()}{mean}"))
    if not means:
        return []
    left_out = [model_name(m) for m in distinct(metrics["models"]) if m not in models]
    note = [Note(f"In the tables, but not drawn, to keep the lines apart: {', '.join(left_out)}.")] if left_out else []
    names = legend([(name, used[name]) for name in sorted(used, key=used.__getitem__)])
    folds: list[Part] = []
    if len(labels) > 1:
        figures = [chart for kind in KINDS for label in labels if (chart := _label_chart(metrics, kind, label, models))]
        folds = [Fold("Curves of every label, all stays", [html.charts(figures, names, small=True)])] if figures else []
    return [*note, html.charts(means, names), *folds]


def _mean_lines(
    metrics: Mapping[str, Any], subset: str, kind: str, models: Sequence[str], slots: Mapping[str, int]
) -> list[Line]:
    """Of each model the mean over the labels at each abscissa."""
    entry, lines = metrics["subsets"][subset], []
    labels = [label for label in metrics["labels"] if tables.drawable(entry, label)]
    for model in models:
        found = [curve for label in labels if (curve := entry["models"][model]["labels"][label][kind])]
        if found and len(found) == len(labels):
            # A precision of too few calls is not given; the mean stands where every label has one.
            mean = [None if any(v is None for v in at) else sum(at) / len(at) for at in zip(*found, strict=True)]
            lines.append(Line(name=model_name(model), x=metrics["grid"], y=mean, slot=slots[model]))
    return lines


def _curve_chart(kind: str, lines: Sequence[Line], title: str) -> Html:
    _, x, y = KINDS[kind]
    axes = Axis(label=x, ticks=UNIT_TICKS), Axis(label=y, ticks=UNIT_TICKS)
    description = f"{y} by {x.lower()} for {len(lines)} models."
    chart = line_chart(lines, *axes, title=title, description=description, diagonal=kind == "roc")
    return html.figure(title, "", chart)


def _label_chart(metrics: Mapping[str, Any], kind: str, label: str, models: Sequence[str]) -> Html | None:
    entry, slots = metrics["subsets"]["all"], results.colours(metrics)
    if not tables.drawable(entry, label):
        return None
    curves = {model: entry["models"][model]["labels"][label][kind] for model in models}
    lines = [
        Line(name=model_name(m), x=metrics["grid"], y=curve, slot=slots[m]) for m, curve in curves.items() if curve
    ]
    return _curve_chart(kind, lines, f"{KINDS[kind][0]}: {short(label)}") if lines else None
