"""The report: one self-contained HTML page, and the same tables as Markdown, from plain dictionaries.

Nothing is read here but the package's own copy of the paper's figures. Aggregates only; small counts are hidden by
`fusionctl.disclosure`, through `report.tables`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from typing import Any

from fusionctl.disclosure import small
from fusionctl.metrics import METRICS
from fusionctl.report import curves, html, tables
from fusionctl.report import sections as origins
from fusionctl.report.charts import interval_chart
from fusionctl.report.html import Html

TASK_NAMES = {"mortality": "In-hospital mortality", "phenotyping": "Phenotypes"}
METRIC_NAMES = tuple(tables.METRIC_NAMES.values())
# A cohort below this share of the paper's test stays is an excerpt; the paper's figures beside it would mislead.
LEAST_SHARE_OF_PAPER = 0.5
BANNERS = {
    "synthetic": "Synthetic data. Patients, films and outcomes were made up by a program.",
    "open": "Open data. Another cohort than the paper's; films and parts of the records may be drawn at random.",
}
FOOTER = (
    "Aggregates only: no row of a patient, no identifier. "
    "Counts from 1 to 9, and those that would give them away, are hidden."
)
FOREST = "A dot for each value and a line for its 95 % interval; the numbers are in the table above."
INCOMPARABLE = "The numbers are not comparable to the paper's and are no clinical result."


def render(content: Mapping[str, Any]) -> str:
    """The page.

    Args:
        content: `sensitivity` (the least sensitive data that went in), `metrics` (metrics.json), `robustness` (rows of
            curve.parquet, or empty), `attrition` (steps), `cohort` (see `report.tables.cohort`), `pairing`
            (pairing.json), `training` (`{title, records}`) and `artifacts` (`{name, ...manifest}`).

    Returns:
        HTML with no link, script, font or picture from elsewhere.
    """
    metrics, paper = content["metrics"], paper_figures(content)
    sections = {
        "Results": _results(metrics),
        "The paper's figures": _paper(content, paper),
        "Discrimination": curves.discrimination(metrics),
        "Calibration": curves.calibration(metrics),
        "Robustness to noise": curves.robustness(metrics["models"], _visible(content)),
        "Cohort": origins.cohort(content, paper),
        "Training": origins.training(content["training"]),
        "Settings": origins.settings(content["artifacts"]),
        "What this page rests on": origins.provenance(content["artifacts"]),
    }
    title = TASK_NAMES.get(metrics["task"], metrics["task"])
    shown = {name: parts for name, parts in sections.items() if any(parts)}
    head = f"<header>{banner(content['sensitivity'])}{_head(title, metrics)}{html.contents(shown)}</header>"
    main = "\n".join(html.section(name, parts) for name, parts in shown.items())
    return html.page(f"{title} – fusionctl report", [head, f"<main>{main}</main>", f"<footer>{FOOTER}</footer>"])


def banner(sensitivity: str) -> str:
    """What the reader must know of the data before any number; empty for the data that the paper used."""
    words = BANNERS.get(sensitivity)
    return f'<p class="banner" role="note"><strong>{words}</strong> {INCOMPARABLE}</p>' if words else ""


def _head(title: str, metrics: Mapping[str, Any]) -> str:
    counts = tables.subset_counts(metrics)
    everyone, first = counts["all"], metrics["models"][0]
    known = everyone["outcomes"] != tables.HIDDEN_TEXT and len(metrics["labels"]) == 1
    outcome = f", {everyone['outcomes']} with the outcome ({everyone['prevalence']})" if known else ""
    found = []
    for subset in curves.SUBSETS:
        row = next(r for r in tables.result_rows(metrics) if r["subset"] == subset and r["model"] == first)
        if row["metrics"] and row["metrics"]["auroc"]["value"] is not None:
            scores = [f"{tables.METRIC_NAMES[m]} {tables.with_interval(row['metrics'][m])}" for m in ("auroc", "auprc")]
            found.append(f"{tables.SUBSET_NAMES[subset].lower()}: {', '.join(scores)}")
    # A word joiner keeps an interval on one line.
    lead = f"{tables.model_name(first)} on {'; on '.join(found)}.".replace("–", "–\u2060") if found else ""
    stays = f"Test set: {everyone['stays']} stays of {everyone['patients']} patients{outcome}; "
    return (
        f"<h1>{html.text(title)}</h1>"
        + (html.paragraph(lead, "lead") if lead else "")
        + html.paragraph(
            f"{stays}{counts['paired']['stays']} stays have a film. In brackets: 95 % percentile intervals from "
            f"{metrics['resamples']:,} bootstrap resamples of patients. A probability of {metrics['threshold']:g} or "
            "more is a positive call.",
            "soft",
        )
    )


def _results(metrics: Mapping[str, Any]) -> list[str]:
    rows = tables.result_rows(metrics)
    header = ["Model", *METRIC_NAMES]
    groups = [
        (_group(subset, members[0]["counts"], len(metrics["labels"])), [_result(row) for row in members])
        for subset, members in ((s, list(m)) for s, m in groupby(rows, key=lambda row: row["subset"]))
    ]
    return [
        html.table(header, groups, name="Results by subset and model", stack=True),
        _forest(metrics, rows),
        _differences(metrics),
    ]


def _group(subset: str, counts: Mapping[str, str], n_labels: int) -> Html:
    several = f"mean prevalence of {n_labels} labels {counts['prevalence']}"
    outcome = several if n_labels > 1 else f"{counts['outcomes']} with the outcome ({counts['prevalence']})"
    shown = [f"{counts['stays']} stays", f"{counts['patients']} patients", outcome, counts["note"]]
    facts = ", ".join(fact for fact in shown if fact and tables.HIDDEN_TEXT not in fact)
    return Html(f"{html.text(tables.SUBSET_NAMES[subset])} <small>{html.text(facts)}</small>")


def _result(row: Mapping[str, Any]) -> list[object]:
    cells = [html.interval(row["metrics"][m]) if row["metrics"] else "–" for m in METRICS]
    note = f"<small>{html.text(row['note'])}</small>" if row["note"] else ""
    return [Html(html.text(tables.model_name(row["model"])) + note), *cells]


def _forest(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Html:
    figures = []
    for metric, reference in (("auroc", 0.5), ("auprc", None)):
        groups = []
        for subset, members in groupby(rows, key=lambda row: row["subset"]):
            found = [entry for row in members if (entry := _interval(row, metric, metrics["models"]))]
            groups += [(tables.SUBSET_NAMES[subset], found)] if found else []
        if groups:
            name = tables.METRIC_NAMES[metric]
            title = f"{name} by subset and model"
            chart = interval_chart(groups, name, title=title, description=FOREST, reference=reference)
            figures.append(html.figure(name, "dot: value; line: 95 % interval", chart))
    return html.charts(figures)


def _interval(
    row: Mapping[str, Any], metric: str, models: Sequence[str]
) -> tuple[str, int, float, float, float] | None:
    """A row of the interval chart: name, colour, value, low, high; None where there is no value or no interval."""
    entry = row["metrics"][metric] if row["metrics"] else {}
    value, low, high = (entry.get(key) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return None
    return tables.model_name(row["model"]), models.index(row["model"]), value, low, high


def _differences(metrics: Mapping[str, Any]) -> Html:
    rows = tables.difference_rows(metrics)
    groups = [
        (
            f"{tables.SUBSET_NAMES[subset]}, compared with {tables.model_name(reference)}",
            [[tables.model_name(row["model"]), *(_difference(row["metrics"][m]) for m in METRICS)] for row in members],
        )
        for (subset, reference), members in groupby(rows, key=lambda row: (row["subset"], row["reference"]))
    ]
    if not groups:
        return Html("")
    note = "Model minus reference on the same resamples of patients (paired); p is two-sided and not adjusted."
    shown = html.table(["Model", *METRIC_NAMES], groups, name="Paired differences between models", stack=True)
    return Html(html.heading("Differences between models") + html.paragraph(note, "soft") + shown)


def _difference(entry: Mapping[str, float | None]) -> Html:
    text, _, p = tables.with_p(entry).partition(", ")
    return Html(html.stacked(text) + (f"<small>{p}</small>" if p else ""))


def _visible(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The robustness rows of subsets with enough patients to be shown."""
    subsets = content["metrics"]["subsets"]
    return [row for row in content["robustness"] if not small(subsets[row["subset"]]["patients"])]


def paper_figures(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The paper's figures for this task, or None beside any data but the credentialed, where they would mislead.

    Returns:
        `results` (rows of its results table), `cohort` (its counts), `hours` (from film to prediction), `source`,
        `interval`; and `comparable`: whether this cohort has the size of the paper's.
    """
    if content["sensitivity"] != "credentialed":
        return None
    task = content["metrics"]["task"]
    facts = json.loads(resources.files("fusionctl").joinpath("data/paper_results.json").read_text(encoding="utf-8"))
    if task not in facts["cohorts"]:
        return None
    cohort = facts["cohorts"][task]
    return {
        "source": facts["source"],
        "interval": facts["interval"],
        "results": facts[f"table2_{task}"],
        "hours": facts["table1_hours_film_to_end"],
        "cohort": cohort,
        "comparable": content["metrics"]["subsets"]["all"]["n"] >= LEAST_SHARE_OF_PAPER * cohort["test"],
    }


def _paper(content: Mapping[str, Any], paper: Mapping[str, Any] | None) -> list[str]:
    if not paper:
        return []
    cohort = f"{paper['cohort']['test']:,} test stays, {paper['cohort']['paired']['test']:,} of them with a film"
    if not paper["comparable"]:
        stays = tables.subset_counts(content["metrics"])["all"]["stays"]
        note = f"Not shown: the paper has {cohort}, this page {stays}. An excerpt is no cohort to compare with."
        return [html.paragraph(note, "soft")]
    rows = [
        [row["model"], *(html.interval(row[m]) for m in METRICS), f"{row['parameters']:,}"] for row in paper["results"]
    ]
    return [
        html.paragraph(f"{paper['source']}. Intervals: {paper['interval']}.", "soft"),
        html.table(["Model", *METRIC_NAMES, "Parameters"], [(cohort, rows)], name="The paper's results", stack=True),
    ]


def markdown(content: Mapping[str, Any]) -> str:
    """The results, the differences and the cohort as Markdown tables, below the same banner."""
    metrics, words = content["metrics"], BANNERS.get(content["sensitivity"])
    results = tables.terminal_table(metrics)
    header, rows = tables.cohort_rows(content["cohort"])
    notes = [
        f"- {tables.model_name(r['model'])}, {r['subset']}: {r['note']}"
        for r in tables.result_rows(metrics)
        if r["note"]
    ]
    notes += [f"- {subset}: {c['note']}" for subset, c in tables.subset_counts(metrics).items() if c["note"]]
    parts = [
        f"# {TASK_NAMES.get(metrics['task'], metrics['task'])}",
        f"**{words}** {INCOMPARABLE}" if words else "",
        results["title"],
        tables.markdown_table(results["header"], results["rows"]),
        "\n".join(notes),
        "## Cohort",
        tables.markdown_table(header, rows),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"
