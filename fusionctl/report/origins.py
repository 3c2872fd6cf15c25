"""Sections of the report about where the numbers come from: training, settings, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusionctl.report import html
from fusionctl.report.charts import Line, fitted_axis, legend, line_chart
from fusionctl.report.html import Html
from fusionctl.report.names import DASH, duration
from fusionctl.report.parts import Cell, Fold, Heading, Note, Part, Rows, Table

# Digits of a file's SHA-256 that the page shows; the manifest holds all 64.
HASH_DIGITS = 16
# From this many epochs on the dots of a training curve hide its line.
MANY_EPOCHS = 25
# Name of each line in the charts of a training history, and its column there.
HISTORY = {
    "Loss": {"training": "train_loss", "validation": "val_loss"},
    "Validation metrics": {"AUROC": "val_auroc", "AUPRC": "val_auprc"},
}


def training(runs: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Loss, and validation AUROC and AUPRC, by epoch of every training run that kept a history."""
    parts: list[Part] = []
    for title, columns in HISTORY.items():
        figures = [chart for run in runs if run["records"] and (chart := _history(run, title, columns))]
        names = legend([(name, slot) for slot, name in enumerate(columns)], marks=True)
        parts += [Heading(title), html.charts(figures, names, small=True)] if figures else []
    return parts


def _history(run: Mapping[str, Any], title: str, columns: Mapping[str, str]) -> str:
    records = run["records"]
    epochs = [record["epoch"] for record in records]
    series = {name: [record.get(key) for record in records] for name, key in columns.items()}
    values = [value for column in series.values() for value in column]
    if all(value is None for value in values):
        return ""
    chart = line_chart(
        [
            Line(name=name, x=epochs, y=column, slot=slot, marks=len(epochs) < MANY_EPOCHS)
            for slot, (name, column) in enumerate(series.items())
        ],
        fitted_axis("Epoch", epochs, whole=True),
        fitted_axis(title, values),
        title=f"{run['title']}: {title.lower()}",
        description=f"{' and '.join(columns)} by epoch, {len(epochs)} epochs.",
    )
    return html.figure(run["title"], _best(records) if "AUROC" in columns else "", chart)


def _best(records: Sequence[Mapping[str, Any]]) -> str:
    known = [record for record in records if record.get("val_auroc") is not None]
    best = max(known, key=lambda record: record["val_auroc"], default=None)
    return f"best validation AUROC {best['val_auroc']:.3f} in epoch {best['epoch']} of {len(records)}" if best else ""


def settings(artifacts: Sequence[Mapping[str, Any]]) -> list[Part]:
    """What was set otherwise than by default, and every setting with its source."""
    every = [(a["name"], [_setting(name, entry) for name, entry in sorted(a["settings"].items())]) for a in artifacts]
    changed = [(name, [row for row in rows if row[2] != "default"]) for name, rows in every]
    changed = [(name, rows) for name, rows in changed if rows]
    header = ["Setting", "Value", "Source"]
    said = Note("Set otherwise than by default:" if changed else "Every setting has its default.")
    first = [Table(name="Settings that are not the default", header=header, groups=changed, texts=2)] if changed else []
    rest = Fold("Every setting", [Table(name="All settings", header=header, groups=every, texts=2)], page_only=True)
    return [said, *first, rest]


def _setting(name: str, entry: Mapping[str, Any]) -> list[Cell]:
    return [name, _code(entry["value"]), str(entry["source"])]


def _code(content: object) -> Html:
    return Html(f"<code>{html.text(content)}</code>")


def provenance(artifacts: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Ids, data, seeds, devices, times, versions, and the hash of every file."""
    header = ["Artifact", "Id", "Data", "Made (UTC)", "Seed", "Device", "Time"]
    rows: list[list[Cell]] = [
        [
            artifact["name"],
            _code(artifact["id"]),
            str(artifact["sensitivity"]),
            (artifact["created"] or DASH)[: len("2026-01-31T12:00")].replace("T", " "),
            DASH if artifact["seed"] is None else str(artifact["seed"]),
            str(artifact["device"] or DASH),
            duration(artifact["duration_s"]),
        ]
        for artifact in artifacts
    ]
    versions = sorted({f"{name} {version}" for a in artifacts for name, version in (a["versions"] or {}).items()})
    files: list[tuple[str, Rows]] = [
        (artifact["name"], [_file(name, entry) for name, entry in sorted(artifact["files"].items())])
        for artifact in artifacts
        if artifact["files"]
    ]
    title, columns = "Files and their hashes", ["File", f"SHA-256, first {HASH_DIGITS} of 64 digits", "Bytes"]
    hashes = Table(name=title, header=columns, groups=files, texts=1)
    return [
        Table(name="Artifacts", header=header, groups=[("", rows)], texts=3),
        *([Note(f"Versions: {', '.join(versions)}.")] if versions else []),
        *([Fold(title, [hashes], page_only=True)] if files else []),
    ]


def _file(name: str, entry: Mapping[str, Any]) -> list[Cell]:
    return [name, _code(entry["sha256"][:HASH_DIGITS]), f"{entry['size']:,}"]
