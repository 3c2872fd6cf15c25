"""Sections of the report about where the numbers come from: cohort, training, settings, provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from fusionctl.disclosure import safe_attrition
from fusionctl.report import html, tables
from fusionctl.report.charts import Line, fitted_axis, legend, line_chart
from fusionctl.report.html import Html

# Digits of a file's SHA-256 that the page shows; the manifest holds all 64.
HASH_DIGITS = 16
# From this many epochs on the dots of a training curve hide its line.
MANY_EPOCHS = 25
# Name of each line in the charts of a training history, and its column there.
HISTORY = {
    "Loss": {"training": "train_loss", "validation": "val_loss"},
    "Validation metrics": {"AUROC": "val_auroc", "AUPRC": "val_auprc"},
}
UNITS = {"stays": "stays", "rows": "rows", "films": "films"}


def cohort(content: Mapping[str, Any], paper: Mapping[str, Any] | None) -> list[str]:
    """Flow of stays, attrition of rows, cohort table, hours from film to prediction (and the paper's, if given)."""
    steps = content["attrition"]
    flow = [step for step in steps if step["unit"] == "stays"]
    header, rows = tables.cohort_rows(content["cohort"])
    return [
        html.heading("Flow of stays"),
        *(_flow(chain) for chain in _chains(flow)),
        html.details(
            "What each rule dropped from the other tables", _attrition(s for s in steps if s["unit"] != "stays")
        ),
        html.heading("Stays by split"),
        html.table(header, [("", [_stacked(row) for row in rows])], name="Cohort by split", stack=True),
        *_film_hours(content["pairing"], paper),
    ]


def _stacked(row: Sequence[str]) -> list[object]:
    return [row[0], *(html.stacked(cell) for cell in row[1:])]


def _chains(steps: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Steps as chains: one goes on where a step begins with what the one before it kept."""
    chains: list[list[Mapping[str, Any]]] = []
    for step in steps:
        if chains and chains[-1][-1]["kept"] == step["before"]:
            chains[-1].append(step)
        else:
            chains.append([step])
    return chains


def _flow(chain: Sequence[Mapping[str, Any]]) -> Html:
    steps = safe_attrition(chain)
    items = [f'<li class="box"><b>{html.text(steps[0]["before"])}</b> stays at first</li>']
    for step in steps:
        if step["dropped"] != "0":
            items.append(f'<li class="drop"><b>−{html.text(step["dropped"])}</b> {html.text(step["rule"])}</li>')
            items.append(f'<li class="box"><b>{html.text(step["kept"])}</b> stays</li>')
    return Html(f'<ol class="flow">{"".join(items)}</ol>')


def _attrition(steps: Iterable[Mapping[str, Any]]) -> str:
    groups = [
        (f"{name} ({UNITS.get(unit, unit)})", [row for chain in _chains(list(members)) for row in _dropped(chain)])
        for (name, unit), members in groupby(steps, key=lambda step: (step["table"], step["unit"]))
    ]
    return (
        html.table(["Rule", "Before", "Dropped", "Kept"], groups, name="Attrition by table and rule") if groups else ""
    )


def _dropped(chain: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    return [[s["rule"], s["before"], s["dropped"], s["kept"]] for s in safe_attrition(chain)]


def _film_hours(pairing: Mapping[str, Mapping[str, Any]], paper: Mapping[str, Any] | None) -> list[str]:
    header, rows = tables.film_hours_rows(pairing)
    if not rows:
        return []
    if paper and paper["comparable"]:
        hours = paper["hours"]
        middle = [tables.number(hours[key], 1) for key in ("mean", "std", "p25", "p50", "p75")]
        rows.append(["The paper", *middle, f"{hours['min']:.0f}", f"{hours['max']:.0f}"])
    note = "Of the stays with a film. Minimum and maximum are rounded outwards to whole hours."
    return [
        html.heading("Hours from film to prediction"),
        html.table(header, [("", rows)], name="Hours from film to the end of the window", stack=True),
        html.paragraph(note, "soft"),
    ]


def training(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Loss, and validation AUROC and AUPRC, by epoch of every training run that kept a history."""
    parts: list[str] = []
    for title, columns in HISTORY.items():
        figures = [chart for run in runs if run["records"] and (chart := _history(run, title, columns))]
        names = legend([(name, slot) for slot, name in enumerate(columns)], marks=True)
        parts += [html.heading(title), html.charts(figures, names, small=True)] if figures else []
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


def settings(artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was set otherwise than by default, and every setting with its source."""
    every = [(a["name"], [_setting(name, entry) for name, entry in sorted(a["settings"].items())]) for a in artifacts]
    changed = [(name, [row for row in rows if row[2] != "default"]) for name, rows in every]
    changed = [(name, rows) for name, rows in changed if rows]
    header = ["Setting", "Value", "Source"]
    return [
        html.paragraph("Set otherwise than by default:" if changed else "Every setting has its default."),
        html.table(header, changed, name="Settings that are not the default", texts=2) if changed else "",
        html.details("Every setting", html.table(header, every, name="All settings", texts=2)),
    ]


def _setting(name: str, entry: Mapping[str, Any]) -> list[object]:
    return [name, Html(f"<code>{html.text(entry['value'])}</code>"), str(entry["source"])]


def provenance(artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Ids, data, seeds, devices, versions, and the hash of every file."""
    header = ["Artifact", "Id", "Data", "Made (UTC)", "Seed", "Device"]
    rows = [
        [
            artifact["name"],
            Html(f"<code>{html.text(artifact['id'])}</code>"),
            artifact["sensitivity"],
            (artifact["created"] or "–")[: len("2026-01-31T12:00")].replace("T", " "),
            "–" if artifact["seed"] is None else artifact["seed"],
            artifact["device"] or "–",
        ]
        for artifact in artifacts
    ]
    versions = sorted({f"{name} {version}" for a in artifacts for name, version in (a["versions"] or {}).items()})
    files = [
        (artifact["name"], [_file(name, entry) for name, entry in sorted(artifact["files"].items())])
        for artifact in artifacts
        if artifact["files"]
    ]
    hashes = html.table(["File", f"SHA-256, first {HASH_DIGITS} of 64 digits", "Bytes"], files, name="Files", texts=1)
    return [
        html.table(header, [("", rows)], name="Artifacts", texts=3),
        html.paragraph(f"Versions: {', '.join(versions)}.", "soft") if versions else "",
        html.details("Files and their hashes", hashes) if files else "",
    ]


def _file(name: str, entry: Mapping[str, Any]) -> list[object]:
    return [
        Html(f"<code>{html.text(name)}</code>"),
        Html(f"<code>{entry['sha256'][:HASH_DIGITS]}</code>"),
        f"{entry['size']:,}",
    ]
