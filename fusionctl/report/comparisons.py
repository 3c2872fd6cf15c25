"""Sections of the report on how far models differ: paired differences, and the spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusionctl.report import html, results, tables
from fusionctl.report.forest import Row, interval_chart
from fusionctl.report.html import Html
from fusionctl.report.names import DASH, METRIC_NAMES, SUBSET_NAMES, model_name, number
from fusionctl.report.parts import Cell, Figure, Fold, Note, Part, Rows, Table

# The metrics of a comparison by label; the two F1 of a single label differ by little else than their threshold.
COMPARED = ("auroc", "auprc")
OWN_NOTE = " An ensemble against the seeds it is made of is corrected apart."


def comparisons(metrics: Mapping[str, Any]) -> list[Part]:
    """Paired differences on the same resamples, for the mean over labels, and by label with Holm and DeLong."""
    groups, folds = [], []
    every: list[Mapping[str, Any]] = []
    for name, subset in metrics["subsets"].items():
        pairs = subset.get("comparisons", []) if tables.enough(subset) else []
        rows: list[list[Cell]] = [
            [_pair(pair), *(Figure.of(pair["metrics"].get(m), signed=True) for m in METRIC_NAMES)] for pair in pairs
        ]
        every += pairs
        groups += [(SUBSET_NAMES[name], rows)] if rows else []
        folds += [_by_label(name, pairs, metrics["labels"])] if pairs else []
    if not groups:
        return []
    note = Note(
        "The first model minus the second on the same resamples of patients, with the 95 % interval of that "
        "difference. p is two-sided; Holm: p after Holm's correction for all comparisons of that column and those "
        f"stays.{OWN_NOTE if any(p.get('own_ensemble') for p in every) else ''}"
    )
    name = "Paired differences between models"
    return [note, Table(name=name, header=["Models", *METRIC_NAMES.values()], groups=groups, stack=True), *folds]


def _pair(pair: Mapping[str, Any]) -> str:
    return f"{model_name(pair['a'])} − {model_name(pair['b'])}"


def _by_label(subset: str, pairs: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Fold:
    header = ["Label", *(METRIC_NAMES[m] for m in COMPARED), "AUROC, DeLong", "z"]
    groups: list[tuple[str, Rows]] = []
    for pair in pairs:
        rows: list[list[Cell]] = []
        for label in labels:
            entry = pair["labels"].get(label, {})
            rows.append([label, *(Figure.of(entry.get(m), signed=True) for m in COMPARED), *_delong(entry)])
        groups.append((_pair(pair), rows))
    said = "Differences by label, with DeLong's test" if len(labels) > 1 else "DeLong's test"
    name = f"{said}: {SUBSET_NAMES[subset].lower()}"
    note = Note(
        "Holm: corrected over the labels of one pair and one metric, not over the pairs: with many pairs expect some "
        "below 0.05 by chance. DeLong's test (1988) is a cross-check only: it takes stays for independent, "
        "though some are of one patient."
    )
    return Fold(name, [note, Table(name=name, header=header, groups=groups, stack=True)])


def _delong(entry: Mapping[str, Any]) -> list[Cell]:
    found = entry.get("delong") or {}
    difference = Figure(value=found.get("difference"), p=found.get("p"), signed=True)
    return [difference, number(found.get("z"), 2, signed=True)]


def seeds(metrics: Mapping[str, Any]) -> list[Part]:
    """How far models trained with other seeds lie apart."""
    groups: list[tuple[str, Rows]] = []
    for subset in metrics["subsets"]:
        if not tables.enough(metrics["subsets"][subset]):
            continue
        rows: list[list[Cell]] = []
        for model, entry in metrics.get("seeds", {}).items():
            found = entry["subsets"].get(subset, {})
            cells = [_spread(found.get(metric)) for metric in METRIC_NAMES]
            if any(cell != DASH for cell in cells):
                rows.append([f"{model_name(model)}|{entry['n']} seeds", *cells])
        groups += [(SUBSET_NAMES[subset], rows)] if rows else []
    if not groups:
        return []
    note = Note(
        "Mean, standard deviation and range over models that differ in nothing but the seed. A difference between two "
        "systems that is smaller than this spread may be chance of training."
    )
    header = ["Model", *METRIC_NAMES.values()]
    return [note, Table(name="Spread over seeds", header=header, groups=groups, stack=True), _seed_charts(metrics)]


def _spread(entry: Mapping[str, Any] | None) -> Cell:
    values = [v for v in (entry or {}).get("values", []) if v is not None]
    if not entry or not values or entry["mean"] is None:
        return DASH
    return f"{number(entry['mean'])} (± {number(entry['sd'])}, {min(values):.3f}–{max(values):.3f})"


def _seed_charts(metrics: Mapping[str, Any]) -> Html:
    slots, figures = results.colours(metrics), []
    for metric in COMPARED:
        groups = []
        for subset in metrics["subsets"]:
            rows = []
            for model, entry in metrics["seeds"].items():
                found = entry["subsets"].get(subset, {}).get(metric) or {}
                values = [v for v in found.get("values", []) if v is not None]
                if values and tables.enough(metrics["subsets"][subset]):
                    rows.append(Row(name=model_name(model), slot=slots.get(model, 0), value=found["mean"], dots=values))
            groups += [(SUBSET_NAMES[subset], rows)] if rows else []
        if groups:
            title = f"{METRIC_NAMES[metric]} by seed"
            chart = interval_chart(groups, METRIC_NAMES[metric], title=title, description="A dot for each seed.")
            figures.append(html.figure(title, "large dot: mean; small dots: single seeds", chart))
    return html.charts(figures)
