"""Sections of the report about whom the numbers are of: flow of stays, Table 1, hours from film to prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from fusionctl.disclosure import exact, safe_attrition, shown, shown_parts, small
from fusionctl.report import html
from fusionctl.report.html import Html
from fusionctl.report.names import DASH, GROUP_NAMES, SPLIT_NAMES, group_name, number, percent
from fusionctl.report.paper import Paper
from fusionctl.report.parts import Cell, Fold, Heading, Note, Part, Rows, Table

# From this many labels on their rows would bury the rest of Table 1.
MANY_LABELS = 4
UNKNOWN = "UNKNOWN"
HOURS = {"mean": "Mean", "sd": "SD", "p25": "25 %", "p50": "Median", "p75": "75 %"}
# Keys of the paper's own figures for them.
PAPER_HOURS = ("mean", "std", "p25", "p50", "p75")


def describe(
    samples: Mapping[str, Any], labels: Sequence[str], groups: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Describe the stays of each split (the paper's cohort tables).

    Args:
        samples: columns as (N,) arrays: split, subject_id, age (years), film (-1: none), one by label (NaN: unknown),
            and, if known, los_hours (length of the ICU stay).
        labels: names of the labels.
        groups: (N,) names of groups by what the stays are grouped (`subgroups.groups_of`).

    Returns:
        By split: stays, patients, quartiles of age and days, counts by group, of outcomes and of films; not yet hidden.
    """
    table = {}
    for split in SPLIT_NAMES:
        rows = np.asarray(samples["split"]) == split
        truth = {name: np.asarray(samples[name], dtype=np.float64)[rows] for name in labels}
        table[split] = {
            "stays": int(rows.sum()),
            "patients": len(np.unique(np.asarray(samples["subject_id"])[rows])),
            "age": _quartiles_of(samples["age"], rows),
            "days": [hours / 24 for hours in _quartiles_of(samples.get("los_hours"), rows)],
            "groups": {by: _counted(np.asarray(of_stay)[rows]) for by, of_stay in (groups or {}).items()},
            "known": {name: int((~np.isnan(values)).sum()) for name, values in truth.items()},
            "positives": {name: int((values > 0).sum()) for name, values in truth.items()},
            "film": int((np.asarray(samples["film"])[rows] >= 0).sum()),
        }
    return table


def _quartiles_of(values: Any, rows: Any) -> list[float]:
    found = np.asarray([] if values is None else np.asarray(values, dtype=np.float64)[rows])
    return np.nanquantile(found, [0.25, 0.5, 0.75]).tolist() if np.isfinite(found).any() else []


def _counted(names: Any) -> dict[str, int]:
    found, counts = np.unique(names, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def flow(steps: Sequence[Mapping[str, Any]]) -> list[Part]:
    """How many stays every rule dropped, as a flow; what was dropped of the other tables on request."""
    of_stays = [step for step in steps if step["unit"] == "stays"]
    groups: list[tuple[str, Rows]] = [("", _dropped(chain)) for chain in _chains(of_stays)]
    drawn = Html("".join(_flow(chain) for chain in _chains(of_stays)))
    header = ["Rule", "Before", "Dropped", "Kept"]
    rest = [
        (f"{name} ({unit})", [row for chain in _chains(list(members)) for row in _dropped(chain)])
        for (name, unit), members in groupby(
            (s for s in steps if s["unit"] != "stays"), key=lambda step: (step["table"], step["unit"])
        )
    ]
    title = "What each rule dropped from the other tables"
    parts: list[Part] = [
        Heading("Flow of stays"),
        Table(name="Flow of stays", header=header, groups=groups, drawn=drawn),
    ]
    return [*parts, *([Fold(title, [Table(name=title, header=header, groups=rest)])] if rest else [])]


def _chains(steps: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Steps as chains: one goes on where a step begins with what the one before it kept."""
    chains: list[list[Mapping[str, Any]]] = []
    for step in steps:
        if chains and chains[-1][-1]["kept"] == step["before"]:
            chains[-1].append(step)
        else:
            chains.append([step])
    return chains


def _flow(chain: Sequence[Mapping[str, Any]]) -> str:
    # A rule that dropped nothing would only lengthen the name of the step that it is joined with.
    steps = safe_attrition([step for step in chain if step["dropped"]] or chain)
    items = [f'<li class="box"><b>{html.text(steps[0]["before"])}</b> stays at first</li>']
    for step in steps:
        if step["dropped"] != "0":
            items.append(f'<li class="drop"><b>−{html.text(step["dropped"])}</b> {html.text(step["rule"])}</li>')
            items.append(f'<li class="box"><b>{html.text(step["kept"])}</b> stays</li>')
    return f'<ol class="flow">{"".join(items)}</ol>'


def _dropped(chain: Sequence[Mapping[str, Any]]) -> list[list[Cell]]:
    return [[s["rule"], s["before"], s["dropped"], s["kept"]] for s in safe_attrition(chain)]


def table_one(table: Mapping[str, Mapping[str, Any]], paper: Paper | None = None) -> list[Part]:
    """Characteristics by split; of many labels the outcomes in a table of their own."""
    splits = [split for split in SPLIT_NAMES if table[split]["stays"]]
    labels = list(table[splits[0]]["positives"]) if splits else []
    header = ["", *(SPLIT_NAMES[split] for split in splits)]
    rows, outcomes = _characteristics(table, splits), _outcomes(table, splits, labels)
    few = len(labels) < MANY_LABELS
    groups = [("", rows), *_group_rows(table, splits), *([("Outcome", outcomes)] if few else [])]
    name = "Table 1: characteristics by split"
    parts: list[Part] = [
        Heading("Characteristics by split"),
        Table(name=name, header=header, groups=groups, stack=True),
    ]
    if not few:
        title = f"How often each of the {len(labels)} outcomes is, by split"
        parts.append(Fold(title, [Table(name=title, header=header, groups=[("", outcomes)], stack=True)]))
    if paper and paper.comparable:
        parts.append(Note(_paper_cohort(paper)))
    return parts


def _paper_cohort(paper: Paper) -> str:
    paired = paper.cohort["paired"]
    counts = [f"{SPLIT_NAMES[s].lower()} {paper.cohort[s]:,} ({paired[s]:,} with a film)" for s in SPLIT_NAMES]
    return f"The paper's stays: {', '.join(counts)}."


def _characteristics(table: Mapping[str, Mapping[str, Any]], splits: Sequence[str]) -> list[list[Cell]]:
    stays = shown_parts([table[s]["stays"] for s in splits])
    of_split = [table[s] if exact(text) else None for s, text in zip(splits, stays, strict=True)]
    rows: list[list[Cell]] = [
        ["Stays", *stays],
        ["Patients", *(shown(t["patients"]) if t else DASH for t in of_split)],
        ["Age in years, median (quartiles)", *(_quartiles(t["age"], 0) if t else DASH for t in of_split)],
    ]
    if any(t and t["days"] for t in of_split):
        cells = (_quartiles(t["days"], 1) if t else DASH for t in of_split)
        rows.append(["Days in intensive care, median (quartiles)", *cells])
    return rows


def _group_rows(table: Mapping[str, Mapping[str, Any]], splits: Sequence[str]) -> list[tuple[str, Rows]]:
    """A group of rows for each thing that stays are grouped by, unless it is unknown of all."""
    found: list[tuple[str, Rows]] = []
    for by in table[splits[0]]["groups"] if splits else ():
        names = sorted({name for s in splits for name in table[s]["groups"][by]}, key=lambda n: (n == UNKNOWN, n))
        if names != [UNKNOWN]:
            counts = [{name: table[s]["groups"][by].get(name, 0) for name in names} for s in splits]
            cells = [_parts(each) for each in counts]
            found.append((GROUP_NAMES.get(by, by), [[group_name(n), *(each[n] for each in cells)] for n in names]))
    return found


def _outcomes(table: Mapping[str, Mapping[str, Any]], splits: Sequence[str], labels: Sequence[str]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for label in labels:
        found = [(table[s]["positives"][label], table[s]["known"][label]) for s in splits]
        rows.append([label, *(_parts({"with": p, "not": known - p})["with"] for p, known in found)])
    return rows


def _parts(parts: Mapping[str, int]) -> dict[str, str]:
    """`120 (34.2 %)` for the parts of a total; no share where the count is hidden."""
    total = sum(parts.values())
    texts = shown_parts(list(parts.values()))
    return {
        name: f"{text} ({percent(count / total)})" if exact(text) and total else text
        for (name, count), text in zip(parts.items(), texts, strict=True)
    }


def _quartiles(values: Sequence[float], digits: int) -> str:
    if not values:
        return DASH
    low, middle, high = (f"{v:.{digits}f}" for v in values)
    return f"{middle} ({low}–{high})"


def film_hours(pairing: Mapping[str, Mapping[str, Any]], paper: Paper | None = None) -> list[Part]:
    """Hours from the film to the end of the input, by split (the paper's Table 1).

    The extremes belong to single patients: they are given in whole hours, outwards.
    """
    rows: list[list[Cell]] = []
    for split in ("all", *SPLIT_NAMES):
        entry = pairing.get(split)
        if entry and entry["paired"]:
            hidden = small(entry["paired"])
            middle = [DASH if hidden else number(entry[column], 1) for column in HOURS]
            ends = [DASH, DASH] if hidden else [f"{math.floor(entry['min'])}", f"{math.ceil(entry['max'])}"]
            rows.append([SPLIT_NAMES.get(split, "All"), *middle, *ends])
    if not rows:
        return []
    if paper and paper.comparable:
        hours = paper.facts["table1_hours_film_to_end"]
        rows.append(["The paper", *(number(hours[key], 1) for key in PAPER_HOURS), *_ends(hours)])
    header = ["Split", *HOURS.values(), "Min", "Max"]
    return [
        Heading("Hours from film to prediction"),
        Table(name="Hours from film to the end of the input", header=header, groups=[("", rows)], stack=True),
        Note("Of the stays with a film. Minimum and maximum are rounded outwards to whole hours."),
    ]


def _ends(hours: Mapping[str, float]) -> list[str]:
    return [f"{hours['min']:.0f}", f"{hours['max']:.0f}"]
