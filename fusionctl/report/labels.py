"""Section of the report with every metric of every label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusionctl.report import tables
from fusionctl.report.names import METRIC_NAMES, SUBSET_NAMES, TUNED_NAMES, model_name
from fusionctl.report.parts import Cell, Figure, Fold, Note, Part, Table, blocks

# Models side by side: more do not fit a printed page.
MOST_COLUMNS = 6


def by_label(metrics: Mapping[str, Any]) -> list[Part]:
    """Every metric of every label, model and subset; of several labels only."""
    labels, counts = metrics["labels"], tables.label_counts(metrics)
    if len(labels) < 2:
        return []
    parts: list[Part] = []
    for name, subset in metrics["subsets"].items():
        if tables.enough(subset):
            inner = [
                _label_table(name, metric, title, block, metrics, counts[name])
                for metric, title in {**METRIC_NAMES, **TUNED_NAMES}.items()
                for block in blocks(_with_values(subset, metrics["models"], metric), MOST_COLUMNS)
            ]
            parts += [Fold(f"{SUBSET_NAMES[name]}: every metric of every label", inner)] if inner else []
    note = Note("Outcomes: test stays with the label; counts from 1 to 9, and those that would tell them, are hidden.")
    return [note, *parts] if parts else []


def _with_values(subset: Mapping[str, Any], models: Sequence[str], metric: str) -> list[str]:
    return [m for m in models if tables.known_value(subset["models"][m]["metrics"], metric) is not None]


def _label_table(
    name: str,
    metric: str,
    title: str,
    models: Sequence[str],
    metrics: Mapping[str, Any],
    counts: Mapping[str, tuple[str, str]],
) -> Table:
    subset = metrics["subsets"][name]
    rows: list[list[Cell]] = []
    for label in metrics["labels"]:
        entries = [subset["models"][model]["labels"][label]["metrics"].get(metric) for model in models]
        rows.append([label, *counts[label], *(Figure.of(entry) for entry in entries)])
    header = ["Label", "Outcomes", "Prevalence", *(model_name(model) for model in models)]
    return Table(name=f"{title}: {SUBSET_NAMES[name].lower()}", header=header, groups=[("", rows)], caption=True)
