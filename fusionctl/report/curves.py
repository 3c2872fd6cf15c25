"""Sections of the report that are curves: discrimination, calibration, robustness to noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fusionctl.disclosure import SMALLEST_COUNT, safe_bins, tells_small
from fusionctl.metrics import METRICS
from fusionctl.report import html, tables
from fusionctl.report.charts import UNIT_TICKS, Axis, Line, fitted_axis, legend, line_chart
from fusionctl.report.html import Html

SUBSETS = ("all", "paired")
KINDS = {"additive": "Additive noise", "zero-mean": "Zero-mean noise", "replace": "Replacing noise"}
MODALITIES = {"both": "time series and films", "ehr": "time series only", "cxr": "films only"}
NOISE_NOTE = (
    "Models tested on input of which that share (of a stay's time steps, of a film's pixels) is corrupted; "
    "band: 95 % interval."
)
BINS_NOTE = (
    "Bins of equal size by predicted probability, joined until each holds "
    f"{SMALLEST_COUNT} stays with and {SMALLEST_COUNT} without the outcome."
)


def discrimination(metrics: Mapping[str, Any]) -> list[str]:
    """ROC and precision-recall curves of every model that has predictions for the whole subset."""
    grid: list[float] = metrics["grid"]
    figures: list[Html] = []
    used: set[tuple[str, int]] = set()
    axes = {"roc": ("False positive rate", "True positive rate"), "pr": ("Recall", "Precision")}
    for subset, label, entries in _drawable(metrics):
        for kind, (x, y) in axes.items():
            lines = [Line(name=n, x=grid, y=e[kind], slot=slot) for n, slot, e in entries if e[kind]]
            used |= {(line.name, line.slot) for line in lines}
            title = f"{'ROC' if kind == 'roc' else 'Precision and recall'}: {tables.SUBSET_NAMES[subset].lower()}"
            chart = line_chart(
                lines,
                Axis(label=x, ticks=UNIT_TICKS),
                Axis(label=y, ticks=UNIT_TICKS),
                title=title + label,
                description=f"{y} by {x.lower()} for {len(lines)} models.",
                diagonal=kind == "roc",
            )
            figures.append(html.figure(title + label, "", chart))
    return [html.charts(figures, legend(sorted(used, key=lambda entry: entry[1])))] if figures else []


def calibration(metrics: Mapping[str, Any]) -> list[str]:
    """Observed against predicted, in bins that hold enough stays of both kinds."""
    figures: list[Html] = []
    used: set[tuple[str, int]] = set()
    for subset, label, entries in _drawable(metrics):
        bins = [(name, slot, safe_bins(entry["calibration"])) for name, slot, entry in entries]
        values = [value for _, _, each in bins for one in each for value in one.values()]
        lines = [
            Line(name=n, x=[b["predicted"] for b in each], y=[b["observed"] for b in each], slot=slot, marks=True)
            for n, slot, each in bins
            if each
        ]
        used |= {(line.name, line.slot) for line in lines}
        title = f"Calibration: {tables.SUBSET_NAMES[subset].lower()}{label}"
        x, y = (fitted_axis(name, [0.0, *values]) for name in ("Predicted probability", "Observed share"))
        description = f"Observed share by mean predicted probability, {len(lines)} models."
        chart = line_chart(lines, x, y, title=title, description=description, diagonal=True)
        figures.append(html.figure(title, "", chart))
    names = legend(sorted(used, key=lambda entry: entry[1]), marks=True)
    return [html.paragraph(BINS_NOTE, "soft"), html.charts(figures, names)] if figures else []


def _drawable(metrics: Mapping[str, Any]) -> Iterable[tuple[str, str, list[tuple[str, int, dict[str, Any]]]]]:
    """Subsets and labels with enough outcomes for a curve: (subset, label for titles, [(model, slot, label entry)])."""
    for subset in SUBSETS:
        entry = metrics["subsets"][subset]
        for label in metrics["labels"]:
            positives = entry["positives"][label]
            negatives = entry["known"][label] - positives
            models = [
                (tables.model_name(m), i, entry["models"][m]["labels"][label]) for i, m in enumerate(metrics["models"])
            ]
            models = [model for model in models if model[2]["roc"]]
            if models and positives and negatives and not tells_small(positives, negatives):
                yield subset, f", {label}" if len(metrics["labels"]) > 1 else "", models


def robustness(models: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Metrics by share of corrupted input, a heading for each kind of noise and modality.

    Args:
        models: names in the order of their colours.
        rows: `{model, noise, kind, modality, subset, metric, value, low, high}`; value None where there is none.
    """
    models = [*models, *sorted({row["model"] for row in rows} - set(models))]
    parts: list[str] = []
    for kind, modality in sorted({(row["kind"], row["modality"]) for row in rows}):
        chosen = [r for r in rows if (r["kind"], r["modality"]) == (kind, modality) and r["value"] is not None]
        slots = {m: i for i, m in enumerate(models) if any(row["model"] == m for row in chosen)}
        names = legend([(tables.model_name(m), i) for m, i in slots.items()], marks=True)
        figures = [f for s in SUBSETS for m in ("auroc", "auprc") if (f := _noise_chart(slots, chosen, s, m))]
        parts.append(html.heading(f"{KINDS.get(kind, kind)} in {MODALITIES.get(modality, modality)}"))
        parts.append(html.charts(figures, names))
        parts.append(html.details("The numbers of these curves", _noise_table(list(slots), chosen)))
    return [html.paragraph(NOISE_NOTE, "soft"), *parts] if parts else []


def _noise_chart(slots: Mapping[str, int], rows: Sequence[Mapping[str, Any]], subset: str, metric: str) -> str:
    chosen = sorted((r for r in rows if (r["subset"], r["metric"]) == (subset, metric)), key=lambda r: r["noise"])
    lines = []
    for model, slot in slots.items():
        mine = [row for row in chosen if row["model"] == model]
        x, y, low, high = ([row[key] for row in mine] for key in ("noise", "value", "low", "high"))
        lines.append(Line(name=model, x=x, y=y, slot=slot, low=low, high=high, marks=True))
    if not chosen:
        return ""
    title = f"{tables.METRIC_NAMES[metric]}: {tables.SUBSET_NAMES[subset].lower()}"
    chart = line_chart(
        lines,
        replace(fitted_axis("Share corrupted", [row["noise"] for row in chosen], most=8), percent=True),
        fitted_axis(tables.METRIC_NAMES[metric], [row[key] for row in chosen for key in ("low", "high", "value")]),
        title=title,
        description=f"{title} by share of corrupted input, {len(slots)} models.",
    )
    return html.figure(title, "", chart)


def _noise_table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    levels = sorted({row["noise"] for row in rows})
    cells = {(r["subset"], r["metric"], r["model"], r["noise"]): r for r in rows}
    groups = []
    for subset in SUBSETS:
        for metric in METRICS:
            lines = [[cells.get((subset, metric, name, level)) for level in levels] for name in names]
            body = [
                [tables.model_name(name), *(html.interval(cell) if cell else "–" for cell in line)]
                for name, line in zip(names, lines, strict=True)
                if any(line)
            ]
            if body:
                groups.append((f"{tables.METRIC_NAMES[metric]}, {tables.SUBSET_NAMES[subset].lower()}", body))
    header = ["Model", *(f"{100 * level:g} %" for level in levels)]
    return html.table(header, groups, name="Metrics by share of corrupted input")
