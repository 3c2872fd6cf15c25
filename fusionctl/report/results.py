"""Section of the report about how well the models do, and which of them are drawn in which colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from fusionctl.report import html, tables
from fusionctl.report.charts import SLOTS
from fusionctl.report.forest import Row, interval_chart
from fusionctl.report.html import Html
from fusionctl.report.names import (
    DASH,
    METRIC_NAMES,
    SUBSET_NAMES,
    TUNED_NAMES,
    distinct,
    duration,
    model_name,
    size,
)
from fusionctl.report.parts import Cell, Figure, Fold, Note, Part, Rows, Table

FOREST = "A dot for each value and a line for its 95 % interval; the numbers are in the table above."


def colours(metrics: Mapping[str, Any]) -> dict[str, int]:
    """A colour slot for every model: first the models that curves are drawn of, so that theirs differ."""
    models = metrics["models"]
    chosen = drawn(metrics)
    return {model: slot for slot, model in enumerate([*chosen, *(m for m in models if m not in chosen)])}


def drawn(metrics: Mapping[str, Any]) -> list[str]:
    """The models of the charts of curves: the first, and those best by AUROC, at most one for each colour."""
    models, subset = distinct(metrics["models"]), metrics["subsets"]["all"]
    score = {m: tables.known_value(subset["models"][m]["metrics"], "auroc") for m in models}
    # A model of the films alone has no value on all stays, but is what the others are judged against.
    ranked = sorted(models[1:], key=lambda m: (score[m] is None, -(score[m] or 0.0)))
    chosen = set(models) if len(models) <= SLOTS else {models[0], *ranked[: SLOTS - 1]}
    return [model for model in models if model in chosen]


def results(
    metrics: Mapping[str, Any], parameters: Mapping[str, int], seconds: Mapping[str, float] | None = None
) -> list[Part]:
    """The paper's layout: a row by model, grouped by stays; F1 at chosen thresholds; intervals as a drawing.

    Args:
        metrics: metrics.json of the evaluation.
        parameters: of each model that has weights.
        seconds: how long each model was trained, its encoders' own training not counted.
    """
    rows = tables.result_rows(metrics)
    sizes = [parameters.get(model) for model in metrics["models"]]
    header = ["Model", *METRIC_NAMES.values(), *(["Parameters"] if any(sizes) else [])]
    groups = []
    for subset, members in groupby(rows, key=lambda row: row["subset"]):
        found = list(members)
        groups.append((_group(subset, found[0]["counts"], len(metrics["labels"])), _rows(found, parameters, header)))
    return [
        Table(name="Results by stays and model", header=header, groups=groups, stack=True),
        _forest(metrics, rows),
        *_tuned(metrics, rows),
        *_times(metrics["models"], seconds or {}),
    ]


def _rows(found: Sequence[Mapping[str, Any]], parameters: Mapping[str, int], header: Sequence[str]) -> Rows:
    rows: list[list[Cell]] = []
    for row in found:
        name = f"{model_name(row['model'])}|{row['note']}" if row["note"] else model_name(row["model"])
        last = [size(parameters.get(row["model"]))] if header[-1] == "Parameters" else []
        rows.append([name, *(_figure(row, metric) for metric in METRIC_NAMES), *last])
    return rows


def _times(models: Sequence[str], seconds: Mapping[str, float]) -> list[Part]:
    """How long the models were trained; an ensemble is not trained."""
    rows: Rows = [[model_name(model), duration(seconds[model])] for model in models if model in seconds]
    name = "Time of training, without that of the encoders"
    return [Fold("Time of training", [Table(name=name, header=["Model", "Time"], groups=[("", rows)])])] if rows else []


def _figure(row: Mapping[str, Any], metric: str) -> Cell:
    return Figure.of(row["metrics"].get(metric)) if row["metrics"] else DASH


def _group(subset: str, counts: Mapping[str, str], n_labels: int) -> str:
    several = f"mean prevalence of {n_labels} labels {counts['prevalence']}"
    outcome = several if n_labels > 1 else f"{counts['outcomes']} with the outcome ({counts['prevalence']})"
    shown = [f"{counts['stays']} stays", f"{counts['patients']} patients", outcome, counts["note"]]
    return f"{SUBSET_NAMES[subset]}|{', '.join(fact for fact in shown if fact and DASH not in fact)}"


def _forest(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Html:
    slots, figures = colours(metrics), []
    for metric, reference in (("auroc", 0.5), ("auprc", None)):
        groups = []
        for subset, members in groupby(rows, key=lambda row: row["subset"]):
            found = [entry for row in members if (entry := _interval(row, metric, slots))]
            groups += [(SUBSET_NAMES[subset], found)] if found else []
        if groups:
            name = METRIC_NAMES[metric]
            title = f"{name} by stays and model"
            chart = interval_chart(groups, name, title=title, description=FOREST, reference=reference)
            figures.append(html.figure(name, "dot: value; line: 95 % interval", chart))
    return html.charts(figures)


def _interval(row: Mapping[str, Any], metric: str, slots: Mapping[str, int]) -> Row | None:
    """A row of the interval chart; None where there is no value or no interval."""
    entry = row["metrics"][metric] if row["metrics"] else {}
    value, low, high = (entry.get(key) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return None
    return Row(name=model_name(row["model"]), slot=slots[row["model"]], value=value, low=low, high=high)


def _tuned(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Part]:
    """F1 at the threshold of each model and label that was best on the validation stays."""
    found = [
        row for row in rows if row["metrics"] and tables.known_value(row["metrics"], "binary_f1_tuned") is not None
    ]
    if not found:
        return []
    groups: list[tuple[str, Rows]] = [
        (
            SUBSET_NAMES[subset],
            [
                [model_name(r["model"]), _threshold(metrics, r["model"]), *(_figure(r, m) for m in TUNED_NAMES)]
                for r in members
            ],
        )
        for subset, members in groupby(found, key=lambda row: row["subset"])
    ]
    header = ["Model", "Threshold", *(name.replace(", tuned", "") for name in TUNED_NAMES.values())]
    note = Note(
        f"The table above calls a stay positive from a probability of {metrics['threshold']:g} on, as the paper does. "
        "With rare outcomes few probabilities are that high; here the threshold is the one with the greatest F1 on the "
        "validation stays."
    )
    table = Table(name="F1 at thresholds chosen on validation stays", header=header, groups=groups, stack=True)
    return [Fold("F1 at thresholds chosen on validation stays", [note, table])]


def _threshold(metrics: Mapping[str, Any], model: str) -> str:
    values = [v for v in metrics.get("thresholds", {}).get(model, {}).values() if v is not None]
    if not values:
        return DASH
    # Two digits: the threshold itself is one stay's probability.
    return f"{values[0]:.2f}" if len(values) == 1 else f"{min(values):.2f} to {max(values):.2f}"
