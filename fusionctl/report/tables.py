"""What of the results may be shown, as rows: small counts, and what tells them, are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusionctl.disclosure import HIDDEN, exact, shown, shown_parts, small, tells_small
from fusionctl.report.names import DASH
from fusionctl.report.names import percent as percent
from fusionctl.report.names import with_interval as with_interval

# Their number is not given: it tells how many outcomes there are.
ONE_CLASS = "resamples that drew one class only are left out"
ONE_CLASS_OF_SEVERAL = "in a resample the mean leaves out the labels of which one class only was drawn"
Table = dict[str, Any]


def subset_counts(metrics: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Stays, patients, outcomes and prevalence of each subset of the test stays as texts, small counts hidden.

    Of several labels the outcomes are left out and the prevalence is the mean.
    """
    subsets = metrics["subsets"]
    parts = [name for name in ("paired", "unpaired") if name in subsets]
    stays = dict(zip(parts, shown_parts([subsets[name]["n"] for name in parts]), strict=True))
    few_patients = any(small(subsets[name]["patients"]) for name in parts)
    outcomes = label_counts(metrics)
    counts = {}
    for name, subset in subsets.items():
        part = name in parts
        of_labels = [outcomes[name][label] for label in metrics["labels"]]
        hide = any(text == DASH for _, text in of_labels)
        shares = [p for p in subset["prevalence"].values() if p is not None]
        counts[name] = {
            "stays": stays.get(name, shown(subset["n"])),
            "patients": DASH if part and (few_patients or not exact(stays[name])) else shown(subset["patients"]),
            "outcomes": of_labels[0][0] if len(of_labels) == 1 else "",
            "prevalence": DASH if hide or not shares else percent(sum(shares) / len(shares)),
            "note": (ONE_CLASS if len(of_labels) == 1 else ONE_CLASS_OF_SEVERAL) if _undefined(subset) else "",
        }
    return counts


def label_counts(metrics: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, str]]]:
    """Outcomes and prevalence by subset and label, as texts; dashes where they would tell a small count."""
    subsets = metrics["subsets"]
    parts = [name for name in ("paired", "unpaired") if name in subsets]
    counts: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in subsets}
    for label in metrics["labels"]:
        # An outcome count of one part is the whole's less the other part's: they are shown together or not at all.
        withheld = {name: _tells(subset, label) for name, subset in subsets.items()}
        for name, subset in subsets.items():
            hide = withheld.get("all", False) or (name in parts and any(withheld[part] for part in parts))
            share = subset["prevalence"][label]
            positives = DASH if hide else shown(subset["positives"][label])
            counts[name][label] = (positives, DASH if hide or share is None else percent(share))
    return counts


def _tells(subset: Mapping[str, Any], label: str) -> bool:
    positives = subset["positives"][label]
    return tells_small(positives, subset["known"][label] - positives)


def _undefined(subset: Mapping[str, Any]) -> bool:
    return any(label["undefined"] for model in subset["models"].values() for label in model["labels"].values())


def enough(subset: Mapping[str, Any]) -> bool:
    """Whether a subset has enough patients for its metrics to be shown."""
    return bool(subset["patients"]) and not small(subset["patients"])


def drawable(subset: Mapping[str, Any], label: str) -> bool:
    """Whether a label has both outcomes in the subset, and neither so seldom that a curve's steps would count them."""
    positives = subset["positives"][label]
    negatives = subset["known"][label] - positives
    return bool(positives and negatives) and not tells_small(positives, negatives)


def result_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row by subset and model: `{subset, model, counts, metrics, note}`; metrics None where too few patients."""
    counts, rows = subset_counts(metrics), []
    for name, subset in metrics["subsets"].items():
        for model in metrics["models"]:
            entry = subset["models"][model]
            notes = ["no stay" if not subset["patients"] else f"{HIDDEN} patients: not shown"]
            if enough(subset):
                lacking = _missing(entry["missing"], subset["n"], exact(counts[name]["stays"]))
                notes = [lacking, *sorted({label["note"] for label in entry["labels"].values() if label["note"]})]
            row = {"subset": name, "model": model, "counts": counts[name], "note": "; ".join(filter(None, notes))}
            rows.append({**row, "metrics": entry["metrics"] if enough(subset) else None})
    return rows


def _missing(missing: int, n: int, n_shown: bool) -> str:
    """How many of n stays have no prediction, without a count that the table hides."""
    if missing in (0, n):
        return "no prediction for these stays" if missing else ""
    given = n_shown and not tells_small(missing, n - missing)
    return f"no prediction for {f'{missing:,} of {n:,}' if given else 'some'} stays"


def known_value(entry: Mapping[str, Any] | None, metric: str) -> float | None:
    """The value of a metric where there is one."""
    return entry[metric]["value"] if entry and entry.get(metric) else None
