"""The report: one self-contained HTML page, and its tables as Markdown, CSV and LaTeX, from plain dictionaries.

Nothing is read here but the package's own copy of the paper's figures. Aggregates only; small counts are hidden by
`fusionctl.disclosure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusionctl.report import (
    cohort,
    comparisons,
    curves,
    draw,
    export,
    html,
    labels,
    origins,
    paper,
    reliability,
    results,
    robustness,
    subgroups,
    summary,
    taskwise,
)
from fusionctl.report.html import Html
from fusionctl.report.names import TASK_NAMES
from fusionctl.report.parts import Section

BANNERS = {
    "synthetic": "Synthetic data. Patients, films and outcomes were made up by a program.",
    "open": "Open data. Another cohort than the paper's; films and parts of the records may be drawn at random.",
}
FOOTER = (
    "Aggregates only: no row of a patient, no identifier. "
    "Counts from 1 to 9, and those that would give them away, are hidden."
)
INCOMPARABLE = "The numbers are not comparable to the paper's and are no clinical result."


def sections(content: Mapping[str, Any]) -> list[Section]:
    """Everything below the summary.

    Args:
        content: `sensitivity` (the least sensitive data that went in), `metrics` and `robustness` (the metrics.json of
            both stages; None without the latter), `attrition` (steps), `cohort` (see `report.cohort.describe`),
            `pairing` (pairing.json), `parameters` and `seconds` of training (by model), `clahe` (whether films are
            equalised), `training` (`{title, records}`) and `artifacts` (`{name, ...manifest}`).
    """
    metrics, theirs = content["metrics"], paper.figures(content)
    found = {
        "Results": results.results(metrics, content.get("parameters", {}), content.get("seconds", {})),
        "Beside the paper": paper.beside(metrics, content.get("parameters", {}), theirs),
        "Comparisons": comparisons.comparisons(metrics),
        "Seeds": comparisons.seeds(metrics),
        "Discrimination": curves.discrimination(metrics),
        "Calibration": reliability.calibration(metrics),
        "Decision curves": reliability.decision(metrics),
        "Subgroups": subgroups.subgroups(metrics),
        "Robustness": robustness.robustness(metrics, content["robustness"], theirs),
        "Uncertainty loss by label": taskwise.taskwise(metrics, theirs),
        "Results by label": labels.by_label(metrics),
        "Cohort": [
            *cohort.flow(content["attrition"]),
            *cohort.table_one(content["cohort"], theirs),
            *cohort.film_hours(content["pairing"], theirs),
        ],
        "Training": origins.training(content["training"]),
        "Settings": origins.settings(content["artifacts"]),
        "What this page rests on": origins.provenance(content["artifacts"]),
    }
    return [Section(title, [part for part in parts if part]) for title, parts in found.items() if any(parts)]


def render(content: Mapping[str, Any]) -> str:
    """The page: HTML with no link, script, font or picture from elsewhere; see `sections` for the content."""
    found = sections(content)
    head = f"<header>{banner(content['sensitivity'])}{_head(content)}{html.contents(s.title for s in found)}</header>"
    main = "\n".join(draw.section(section) for section in found)
    title = f"{_title(content)} – fusionctl report"
    return html.page(title, [head, f"<main>{main}</main>", f"<footer>{FOOTER}</footer>"])


def markdown(content: Mapping[str, Any]) -> str:
    """The summary and every table as Markdown."""
    return export.markdown(_title(content), _opening(content), sections(content))


def csv_text(content: Mapping[str, Any]) -> str:
    """Every number of every table in a row of its own."""
    return export.csv_text(sections(content))


def latex(content: Mapping[str, Any]) -> str:
    """Every table as LaTeX."""
    return export.latex(_title(content), _opening(content), sections(content))


# Name of the file and writer of each format.
FORMATS = {
    "html": ("report.html", render),
    "md": ("results.md", markdown),
    "csv": ("results.csv", csv_text),
    "latex": ("results.tex", latex),
}


def banner(sensitivity: str) -> str:
    """What the reader must know of the data before any number; empty for the data that the paper used."""
    words = BANNERS.get(sensitivity)
    return f'<p class="banner" role="note"><strong>{words}</strong> {INCOMPARABLE}</p>' if words else ""


def _title(content: Mapping[str, Any]) -> str:
    task = str(content["metrics"]["task"])
    return TASK_NAMES.get(task, task)


def _opening(content: Mapping[str, Any]) -> list[str]:
    """The banner, the findings and the method as lines of text."""
    words = BANNERS.get(content["sensitivity"])
    found = "\n".join(f"- {sentence}" for sentence in summary.findings(content))
    return [f"{words} {INCOMPARABLE}" if words else "", found, summary.method(content["metrics"]), FOOTER]


def _head(content: Mapping[str, Any]) -> str:
    metrics = content["metrics"]
    # A word joiner keeps an interval on one line.
    found = [html.text(s).replace("–", "–\u2060") for s in summary.findings(content)]
    listed = f'<ul class="findings">{"".join(f"<li>{sentence}</li>" for sentence in found)}</ul>' if found else ""
    reading = "".join(f"<dt>{html.text(k)}</dt><dd>{html.text(v)}</dd>" for k, v in summary.READING.items())
    question = summary.QUESTIONS.get(metrics["task"], "")
    return (
        f"<h1>{html.text(_title(content))}</h1>"
        + (html.paragraph(question, "lead") if question else "")
        + listed
        + html.paragraph(summary.method(metrics), "soft")
        + html.details("How to read these numbers", Html(f"<dl>{reading}</dl>"))
    )
