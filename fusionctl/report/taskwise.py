"""Section of the report on the uncertainty loss label by label, in the layout of the paper's Table 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from fusionctl.report import html, tables
from fusionctl.report.forest import Row, interval_chart
from fusionctl.report.html import Html
from fusionctl.report.names import DASH, LOSS_NAMES, METRIC_NAMES, model_name, short
from fusionctl.report.paper import Paper, of_phenotype, taskwise_rows
from fusionctl.report.parts import Cell, Figure, Fold, Note, Part, Table, blocks

METRICS = ("auroc", "auprc")
MOST_COLUMNS = 5
NOTE = (
    "The same system trained with and without the uncertainty loss, which learns a sigma for each label and weighs the "
    "label by 1 / sigma²: a label of great sigma counts for less. Smallest sigma first. Holm: p corrected over labels."
)
SIGMA_NOTE = "Learned sigma of each label, of the models that are not compared above."


def taskwise(metrics: Mapping[str, Any], paper: Paper | None) -> list[Part]:
    """With and without the loss by label, sorted by the learned sigma; sigmas of the other models."""
    if not tables.enough(metrics["subsets"]["all"]):
        return []
    rows = metrics.get("taskwise") or []
    parts: list[Part] = [Note(NOTE)] if rows else []
    compared = set()
    for (fusion, loss), members in groupby(rows, key=lambda row: (row["fusion"], row.get("loss", "uncertainty"))):
        found = list(members)
        compared.add(f"{fusion}+{loss}")
        title = f"{model_name(fusion)}: {LOSS_NAMES.get(loss, loss)} and binary cross-entropy"
        parts += [_charts(found, title), _table(found, title, metrics, paper)]
    sigmas = {m: found for m, found in (metrics.get("sigmas") or {}).items() if m not in compared and found}
    return [*parts, *_sigmas(sigmas, metrics["labels"])]


def _charts(rows: Sequence[Mapping[str, Any]], title: str) -> Html:
    """The sigmas, and what the loss changed in AUROC, label beside label."""
    known = [row for row in rows if row["sigma"] is not None]
    sigmas = [Row(name=short(row["label"]), slot=3, value=row["sigma"]) for row in known]
    changes = [
        Row(name=short(row["label"]), slot=0, **{key: entry[key] for key in ("value", "low", "high")})
        for row in rows
        if (entry := row["difference"]["auroc"])["value"] is not None
    ]
    figures = []
    for caption, label, found, reference in (
        ("Learned sigma", "Sigma", sigmas, None),
        ("AUROC with the loss minus without", "Difference in AUROC, 95 % interval", changes, 0.0),
    ):
        if found:
            chart = interval_chart(
                [("", found)], label, title=f"{title}: {label}", description=f"{label} by label.", reference=reference
            )
            figures.append(html.figure(caption, title, chart))
    return html.charts(figures)


def _table(rows: Sequence[Mapping[str, Any]], title: str, metrics: Mapping[str, Any], paper: Paper | None) -> Table:
    theirs, counts = taskwise_rows(paper), tables.label_counts(metrics)["all"]
    lines: list[list[Cell]] = []
    for row in rows:
        cells: list[Cell] = [row["label"], _outcomes(*counts[row["label"]]), Figure(value=row["sigma"])]
        for metric in METRICS:
            cells += [_value(row[loss][metric]) for loss in ("uncertainty", "bce")]
            cells.append(Figure.of(row["difference"][metric], signed=True))
        lines.append(cells)
        if found := of_phenotype(theirs, row["label"]):
            lines.append(_paper_row(found))
    header = ["Label", "Outcomes", "Sigma"]
    for metric in METRICS:
        header += [f"{METRIC_NAMES[metric]}, {what}" for what in ("uncertainty", "BCE", "difference")]
    return Table(name=title, header=header, groups=[("", lines)], caption=True)


def _value(entry: Any) -> Cell:
    """A metric, which may stand with its interval or without."""
    return Figure.of(entry) if isinstance(entry, Mapping) else Figure(value=entry)


def _outcomes(count: str, share: str) -> str:
    return count if share == DASH else f"{count} ({share})"


def _paper_row(row: Mapping[str, Any]) -> list[Cell]:
    cells: list[Cell] = ["The paper", DASH, DASH]
    for metric in METRICS:
        with_it, without = (row[loss][metric] for loss in ("uncertainty", "bce"))
        change = Figure(value=with_it["value"] - without["value"], signed=True)
        cells += [Figure.of(with_it), Figure.of(without), change]
    return cells


def _sigmas(sigmas: Mapping[str, Mapping[str, float]], labels: Sequence[str]) -> list[Part]:
    inner: list[Part] = []
    for models in blocks(list(sigmas), MOST_COLUMNS):
        rows: list[list[Cell]] = [[label, *(Figure(value=sigmas[m].get(label)) for m in models)] for label in labels]
        header = ["Label", *(model_name(model) for model in models)]
        inner.append(Table(name="Learned sigmas", header=header, groups=[("", rows)]))
    return [Fold("Sigmas of other models", [Note(SIGMA_NOTE), *inner])] if inner else []
