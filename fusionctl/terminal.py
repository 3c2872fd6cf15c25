"""The results of an evaluation as tables that a terminal of 100 columns can show; the page has all of it.

A table is `{title, header, rows}` of texts. Aggregates only; small counts are hidden as on the page.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fusionctl.metrics import METRICS, TUNED
from fusionctl.report.names import DASH, INTERVAL_NAMES, number, with_interval
from fusionctl.report.tables import enough, result_rows

Table = dict[str, Any]
SHOWN = {"auroc": "AUROC", "auprc": "AUPRC"}
ROOM = 13  # letters of a model's name beside two differences with their intervals


def tables(metrics: Mapping[str, Any]) -> list[Table]:
    """All tables of metrics.json (schema 3); those without a row are left out."""
    found = (results(metrics), f1_scores(metrics), comparisons(metrics), calibration(metrics), gaps(metrics))
    return [table for table in found if table["rows"]]


def results(metrics: Mapping[str, Any]) -> Table:
    """AUROC and AUPRC by stays and model."""
    methods = metrics["intervals"]["values"]
    said = " and ".join(dict.fromkeys(INTERVAL_NAMES[methods[m]] for m in SHOWN))
    title = f"{metrics['task']}: test stays, 95 % {said} intervals, {metrics['resamples']:,} resamples of patients"
    rows = [
        [
            *(row["subset"], row["model"], row["counts"]["stays"], row["counts"]["prevalence"]),
            *(with_interval(row["metrics"][m]) if row["metrics"] else DASH for m in SHOWN),
        ]
        for row in result_rows(metrics)
    ]
    return {"title": title, "header": ["stays", "model", "n", "outcome", *SHOWN.values()], "rows": rows}


def f1_scores(metrics: Mapping[str, Any]) -> Table:
    """The four F1 by stays and model, where there are any."""
    title = f"F1 from a probability of {metrics['threshold']:g}, and from one chosen on validation stays (tuned)"
    header = ["stays", "model", "macro F1", "binary F1", "macro F1 tuned", "binary F1 tuned"]
    names = (*METRICS[2:], *TUNED)
    rows = [
        [row["subset"], row["model"], *(number(row["metrics"][m]["value"]) for m in names)]
        for row in result_rows(metrics)
        if row["metrics"] and row["metrics"][names[0]]["value"] is not None
    ]
    return {"title": title, "header": header, "rows": rows}


def comparisons(metrics: Mapping[str, Any]) -> Table:
    """Paired differences of the means over labels; of AUROC alone where names leave no room for both."""
    pairs = [
        (name, pair)
        for name, subset in metrics["subsets"].items()
        for pair in (subset["comparisons"] if enough(subset) else ())
    ]
    references = sorted({pair["b"] for _, pair in pairs})
    several = len(references) > 1
    longest = max((len(pair["a"]) for _, pair in pairs), default=0)
    shown = ["auroc"] if several or longest > ROOM else list(SHOWN)
    rows = [
        [name, pair["a"], *([pair["b"]] * several), *(cell for m in shown for cell in _difference(pair["metrics"][m]))]
        for name, pair in pairs
    ]
    header = ["stays", "model", *(["minus"] * several), *(cell for m in shown for cell in (SHOWN[m], "p"))]
    to = "" if several else f" to {''.join(references)}"
    return {"title": f"Difference{to} on the same resamples; p after Holm's correction", "header": header, "rows": rows}


def _difference(entry: Mapping[str, float | None]) -> tuple[str, str]:
    if entry["value"] is None:
        return DASH, DASH
    value, low, high = (number(entry[key], signed=True) for key in ("value", "low", "high"))
    return f"{value}{'' if low == high else f' ({low} to {high})'}", number(entry["p_holm"])


def calibration(metrics: Mapping[str, Any]) -> Table:
    """Brier score, calibration error and recalibration by model; of several labels the medians."""
    labels = metrics["labels"]
    of = "" if len(labels) == 1 else f", medians of {len(labels)} labels"
    title = f"Calibration{of} (best: ECE 0, slope 1, intercept 0)"
    header = ["model", "Brier", "ECE", "slope", "intercept", "temperature", "ECE after"]
    rows = []
    for model, by_label in metrics["calibration"].items() if enough(metrics["subsets"]["all"]) else ():
        found = [by_label[label] for label in labels]
        brier = with_interval(found[0]["brier"]) if len(found) == 1 else _median(e["brier"]["value"] for e in found)
        cells = [_median(entry[key] for entry in found) for key in ("ece", "slope", "intercept", "temperature")]
        rows.append([model, brier, *cells, _median(entry["after"]["ece"] for entry in found)])
    return {"title": title, "header": header, "rows": rows}


def _median(values: Iterable[float | None]) -> str:
    """Median of what is a number: the slope of a rare label may lie anywhere."""
    known = [value for value in values if value is not None]
    return number(statistics.median(known) if known else None)


def gaps(metrics: Mapping[str, Any]) -> Table:
    """The gap between the best and the worst subgroup of the first model that has one; the page has all models."""
    first = next((entry["model"] for entry in metrics["gaps"]), "")
    rows = []
    for gap in metrics["gaps"]:
        if gap["model"] == first:
            ends = [_end(metrics["subgroups"], gap, end) for end in ("largest", "smallest")]
            value, p = number(gap["gap"]["value"]), number(gap["gap"].get("p_holm"))
            rows.append([gap["by"].replace("_", " "), SHOWN[gap["metric"]], *ends, value, p])
    header = ["by", "metric", "largest", "smallest", "gap", "p"]
    title = f"Subgroups of all test stays, {first}; p: so large a gap by chance, after Holm's correction"
    return {"title": title, "header": header, "rows": rows}


def _end(groups: Sequence[Mapping[str, Any]], gap: Mapping[str, Any], end: str) -> str:
    """`80+ 0.732`: a group at one end of a gap and its value."""
    values = {(entry["by"], entry["group"]): entry["models"] for entry in groups}[gap["by"], gap[end]]
    return f"{_short(gap[end])} {number(values[gap['model']][gap['metric']]['value'])}"


def _short(group: str) -> str:
    """A care unit by its abbreviation where it has one in brackets: the names are long."""
    return group.rpartition("(")[2].rstrip(")") if group.endswith(")") else group
