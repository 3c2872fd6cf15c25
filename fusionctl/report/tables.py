"""The tables of the report as plain rows, for the page, for Markdown and for the terminal. Aggregates only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusionctl.disclosure import HIDDEN, shown, shown_parts, small, tells_small
from fusionctl.metrics import METRICS

HIDDEN_TEXT = "–"
# Their number is not given: it tells how many outcomes there are.
ONE_CLASS = "resamples that drew one class only are left out"
METRIC_NAMES = {"auroc": "AUROC", "auprc": "AUPRC", "macro_f1": "Macro F1", "binary_f1": "Binary F1"}
MODEL_NAMES = {
    "attention": "Attention fusion",
    "medfuse": "MedFuse",
    "early": "Early fusion",
    "joint": "Joint fusion",
    "late": "Late fusion",
    "mmtm": "MMTM",
    "daft": "DAFT",
    "drfuse": "DrFuse",
    "contrastive": "Contrastive",
    "card": "CARD",
    "ehr": "Time series alone",
    "cxr": "Film alone",
    "trees": "Gradient-boosted trees",
    "trees-film": "Trees + film score",
    "logistic": "Logistic regression",
    "logistic-film": "Logistic regression + film score",
}
SUBSET_NAMES = {"all": "All stays", "paired": "Stays with a film", "unpaired": "Stays without a film"}
SPLIT_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}
Table = dict[str, Any]


def model_name(model: str) -> str:
    """Name of a model for people: `attention` or, of several attention models, `attention 1a2b3c`."""
    fusion, _, artifact = model.partition(" ")
    return " ".join([MODEL_NAMES.get(fusion, fusion), *([f"({artifact})"] if artifact else [])])


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(entry: Mapping[str, float | None]) -> str:
    """`0.857 (0.842–0.871)`, or a dash."""
    if entry["value"] is None:
        return "–"
    return f"{number(entry['value'])} ({number(entry['low'])}–{number(entry['high'])})"


def subset_counts(metrics: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Stays, patients, outcomes and prevalence of each subset of the test stays as texts, small counts hidden.

    Of several labels the prevalence is the mean.
    """
    subsets = metrics["subsets"]
    parts = [name for name in ("paired", "unpaired") if name in subsets]
    stays = dict(zip(parts, shown_parts([subsets[name]["n"] for name in parts]), strict=True))
    # An outcome count of one part is the whole's less the other part's: they are shown together or not at all.
    withheld = {name: _tells(subsets[name]) for name in subsets}
    parts_withheld = any(withheld[name] for name in parts)
    few_patients = any(small(subsets[name]["patients"]) for name in parts)
    counts = {}
    for name, subset in subsets.items():
        part = name in parts
        hide = withheld["all"] or (part and parts_withheld)
        shares = [p for p in subset["prevalence"].values() if p is not None]
        counts[name] = {
            "stays": stays.get(name, shown(subset["n"])),
            "patients": HIDDEN_TEXT if part and (few_patients or not exact(stays[name])) else shown(subset["patients"]),
            "outcomes": HIDDEN_TEXT if hide else ", ".join(shown(count) for count in subset["positives"].values()),
            "prevalence": HIDDEN_TEXT if hide or not shares else percent(sum(shares) / len(shares)),
            "note": ONE_CLASS if _undefined(subset) else "",
        }
    return counts


def _undefined(subset: Mapping[str, Any]) -> bool:
    return any(label["undefined"] for model in subset["models"].values() for label in model["labels"].values())


def exact(count: str) -> bool:
    """Whether a shown count is the count itself, and not a bound."""
    return count[:1].isdigit()


def percent(share: float) -> str:
    """A share with one decimal; the sign stays on the number's line."""
    return f"{100 * share:.1f}\u00a0%"


def _tells(subset: Mapping[str, Any]) -> bool:
    pairs = zip(subset["positives"].values(), subset["known"].values(), strict=True)
    return any(tells_small(positive, known - positive) for positive, known in pairs)


def result_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row by subset and model: `{subset, model, counts, metrics, note}`; metrics None where too few patients."""
    counts, rows = subset_counts(metrics), []
    for name, subset in metrics["subsets"].items():
        few = subset["patients"] == 0 or small(subset["patients"])
        for model in metrics["models"]:
            entry = subset["models"][model]
            notes = ["no stay" if not subset["patients"] else f"{HIDDEN} patients: not shown"]
            if not few:
                lacking = _missing(entry["missing"], subset["n"], exact(counts[name]["stays"]))
                notes = [lacking, *sorted({label["note"] for label in entry["labels"].values() if label["note"]})]
            row = {"subset": name, "model": model, "counts": counts[name], "note": "; ".join(filter(None, notes))}
            rows.append({**row, "metrics": None if few else entry["metrics"]})
    return rows


def _missing(missing: int, n: int, n_shown: bool) -> str:
    """How many of n stays have no prediction, without a count that the table hides."""
    if missing in (0, n):
        return "no prediction for these stays" if missing else ""
    given = n_shown and not tells_small(missing, n - missing)
    return f"no prediction for {f'{missing:,} of {n:,}' if given else 'some'} stays"


def terminal_table(metrics: Mapping[str, Any]) -> Table:
    """The results as `{title, header, rows}` of texts."""
    title = f"{metrics['task']}: test stays, 95 % intervals from {metrics['resamples']:,} resamples of patients"
    header = ["stays", "model", "n", "outcome", *METRIC_NAMES.values()]
    rows = [
        [row["subset"], row["model"], row["counts"]["stays"], row["counts"]["prevalence"], *_metric_texts(row)]
        for row in result_rows(metrics)
    ]
    return {"title": title, "header": header, "rows": rows}


def _metric_texts(row: Mapping[str, Any]) -> list[str]:
    return [with_interval(row["metrics"][m]) if row["metrics"] else "–" for m in METRICS]


def difference_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row by subset and model: `{subset, model, reference, metrics}`, each metric with value, low, high, p."""
    rows = []
    for name, subset in metrics["subsets"].items():
        if subset["patients"] and not small(subset["patients"]):
            reference = subset["differences"]["reference"]
            found = subset["differences"]["models"]
            for model in (m for m in metrics["models"] if m in found):
                where = {"subset": name, "model": model, "reference": reference}
                rows.append({**where, "metrics": found[model]["metrics"]})
    return rows


def with_p(entry: Mapping[str, float | None]) -> str:
    """`-0.012 (-0.025 to +0.001), p 0.070`, or a dash."""
    value, low, high, p = (entry[key] for key in ("value", "low", "high", "p"))
    if value is None or low is None or high is None or p is None:
        return "–"
    # Adding 0 turns a rounded -0.000 into +0.000.
    value, low, high = (round(x, 3) + 0.0 for x in (value, low, high))
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f}), p {p:.3f}".replace("-", "−")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; the first two columns are text, the others numbers."""
    marks = ["---"] * 2 + ["---:"] * (len(header) - 2)
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, marks[: len(header)], *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def cohort(samples: Mapping[str, Any], labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Describe the stays of each split (the paper's cohort tables).

    Args:
        samples: columns of samples.parquet as (N,) arrays: split, subject_id, age, sex, film, and one by label.
        labels: names of the labels.

    Returns:
        By split: stays, patients, quartiles of age in years, counts by sex, of outcomes and of films; not yet hidden.
    """
    table = {}
    for split in SPLIT_NAMES:
        rows = np.asarray(samples["split"]) == split
        age = np.asarray(samples["age"], dtype=np.float64)[rows]
        sexes, counts = np.unique(np.asarray(samples["sex"], dtype=str)[rows], return_counts=True)
        truth = {name: np.asarray(samples[name], dtype=np.float64)[rows] for name in labels}
        table[split] = {
            "stays": int(rows.sum()),
            "patients": len(np.unique(np.asarray(samples["subject_id"])[rows])),
            "age": np.nanquantile(age, [0.25, 0.5, 0.75]).tolist() if np.isfinite(age).any() else [],
            "sex": dict(zip(sexes.tolist(), counts.tolist(), strict=True)),
            "known": {name: int((~np.isnan(values)).sum()) for name, values in truth.items()},
            "positives": {name: int((values > 0).sum()) for name, values in truth.items()},
            "film": int((np.asarray(samples["film"])[rows] >= 0).sum()),
        }
    return table


def cohort_rows(table: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the cohort table; a small count, and what would give it away, is hidden."""
    splits = [split for split in SPLIT_NAMES if table[split]["stays"]]
    stays = dict(zip(splits, shown_parts([table[s]["stays"] for s in splits]), strict=True))
    open_splits = {s: exact(stays[s]) for s in splits}

    def row(title: str, cell: Any) -> list[str]:
        return [title, *(cell(table[s]) if open_splits[s] else "–" for s in splits)]

    sexes = sorted({sex for split in splits for sex in table[split]["sex"]})
    labels = list(table[splits[0]]["positives"]) if splits else []
    rows = [["Stays", *stays.values()], row("Patients", lambda t: shown(t["patients"]))]
    rows.append(row("Age in years, median (quartiles)", lambda t: _quartiles(t["age"])))
    for sex in sexes:
        rows.append(row(f"Sex {sex or 'unknown'}", lambda t, sex=sex: _part(t["sex"], sex)))
    for name in labels:
        parts = lambda t, name=name: {"with": t["positives"][name], "not": t["known"][name] - t["positives"][name]}  # noqa: E731
        rows.append(row(f"Outcome: {name}", lambda t, parts=parts: _part(parts(t), "with")))
    rows.append(row("Film in the window", lambda t: _part({"film": t["film"], "": t["stays"] - t["film"]}, "film")))
    return ["", *(SPLIT_NAMES[s] for s in splits)], rows


def _quartiles(values: Sequence[float]) -> str:
    return f"{values[1]:.0f} ({values[0]:.0f}–{values[2]:.0f})" if values else "–"


def _part(parts: Mapping[str, int], name: str) -> str:
    """`120 (34.2 %)`: one of the parts of a total that is shown; hidden, without its share, where that tells."""
    text = dict(zip(parts, shown_parts(list(parts.values())), strict=True)).get(name, "0")
    total = sum(parts.values())
    return text if tells_small(*parts.values()) or not total else f"{text} ({percent(parts.get(name, 0) / total)})"


def film_hours_rows(pairing: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the hours from film to the end of the window, by split.

    The extremes belong to single patients: they are given in whole hours, outwards.
    """
    columns = {"mean": "Mean", "sd": "SD", "p25": "25 %", "p50": "50 %", "p75": "75 %"}
    rows = []
    for split in ("all", *SPLIT_NAMES):
        entry = pairing.get(split)
        if entry and entry["paired"]:
            hidden = small(entry["paired"])
            middle = ["–" if hidden else number(entry[c], 1) for c in columns]
            ends = ["–", "–"] if hidden else [f"{np.floor(entry['min']):.0f}", f"{np.ceil(entry['max']):.0f}"]
            rows.append([SPLIT_NAMES.get(split, "All"), *middle, *ends])
    return ["Split", *columns.values(), "Min", "Max"], rows
