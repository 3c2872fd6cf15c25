"""Section of the report on subgroups: a forest plot by model, the numbers, and the gaps between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from fusionctl.disclosure import HIDDEN, SMALLEST_COUNT, WITHHELD, shown, small, tells_small
from fusionctl.report import html, results, tables
from fusionctl.report.charts import fitted_axis
from fusionctl.report.forest import Row, interval_chart
from fusionctl.report.html import Html
from fusionctl.report.names import DASH, GROUP_NAMES, METRIC_NAMES, group_name, group_short, model_name
from fusionctl.report.parts import Cell, Figure, Fold, Heading, Note, Part, Rows, Table, blocks

METRICS = ("auroc", "auprc")
# Models whose forest plot and gaps are in the open; those of the others come on request.
FIRST = 2
# Models side by side, below the counts.
MOST_COLUMNS = 4
NOTE = (
    "Test stays by group; with several labels the mean over them. The dashed line is the value on all stays. AUPRC "
    "depends on how often the outcome is in a group, so groups are drawn by AUROC. A group of fewer than "
    f"{SMALLEST_COUNT} patients has no number."
)
GAP_NOTE = (
    "The best group less the worst. Which groups these are was found in the same data, so a gap is above 0 by chance "
    "alone. p: how often groups that are alike would have as large a gap between any two of them; Holm: corrected over "
    "the groupings of a model. AUPRC has no p: it differs wherever the outcome's frequency does."
)


def subgroups(metrics: Mapping[str, Any]) -> list[Part]:
    """Metrics by group, and the gap between the best and the worst group."""
    found = _worth_showing(metrics.get("subgroups", []))
    if not found or not tables.enough(metrics["subsets"]["all"]):
        return []
    models = [m for m in metrics["models"] if any(m in group["models"] for group in found)]
    chosen = [m for m in results.drawn(metrics) if m in models]
    charts = _charts(metrics, found, chosen)
    rest = [Fold("The other models", [html.charts(charts[FIRST:])])] if charts[FIRST:] else []
    counts = _counts(found)
    folds = [
        Fold(
            f"{METRIC_NAMES[metric]} by group",
            [_table(metric, found, counts, block) for block in blocks(models, MOST_COLUMNS)],
        )
        for metric in METRICS
    ]
    return [Note(NOTE), html.charts(charts[:FIRST]), *rest, *folds, *_gaps(metrics, chosen, models)]


def _worth_showing(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The groups without those that hold everyone, such as an unknown race of all: they are the results again."""
    members: dict[str, int] = {}
    for group in groups:
        members[group["by"]] = members.get(group["by"], 0) + 1
    return [group for group in groups if members[group["by"]] > 1]


def _counts(groups: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[str, str]]:
    """Stays and outcomes of each group as texts; with a hidden group its largest neighbour's are withheld too."""
    counts: dict[tuple[str, str], tuple[str, str]] = {}
    for by, of_by in groupby(groups, key=lambda group: group["by"]):
        members = list(of_by)
        stays = _withheld([group["n"] for group in members], [group["hidden"] for group in members])
        outcomes = [_outcomes(group) for group in members]
        told = _withheld([found[0] for found in outcomes], [found[1] for found in outcomes])
        for group, n, text in zip(members, stays, told, strict=True):
            counts[by, group["group"]] = (n, text)
    return counts


def _outcomes(group: Mapping[str, Any]) -> tuple[int | None, bool]:
    """The number of outcomes of a single label, and whether it must be hidden; none of several labels."""
    positives = group["positives"]
    if group["hidden"] or positives is None:
        return None, True
    if isinstance(positives, Mapping):
        if len(positives) != 1:
            return None, False
        positives = next(iter(positives.values()))
    return positives, tells_small(positives, group["n"] - positives)


def _withheld(values: Sequence[int | None], hidden: Sequence[bool]) -> list[str]:
    """Texts of parts of a known total. If any is hidden the largest other is a bound, whatever else is hidden.

    Table 1 has the same stays by other rules (`disclosure.shown_parts`); so no difference of both tells a hidden part.
    """
    largest = max((v for v, hide in zip(values, hidden, strict=True) if v is not None and not hide), default=None)
    texts = []
    for value, hide in zip(values, hidden, strict=True):
        if hide:
            texts.append(HIDDEN if value is None or small(value) else DASH)
        elif value is None:
            texts.append("")
        else:
            texts.append(WITHHELD if any(hidden) and value == largest else shown(value))
    return texts


def _charts(metrics: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], models: Sequence[str]) -> list[Html]:
    """A forest plot for each model that has more than one group, on one axis."""
    slots, figures = results.colours(metrics), []
    values = [v for g in groups for m in models for v in _known(g, m) if v is not None]
    if not values:
        return []
    axis = fitted_axis("AUROC", values, most=5)
    for model in models:
        rows = [
            (
                GROUP_NAMES.get(by, by),
                [row for group in members if (row := _row(group, model, slots[model]))],
            )
            for by, members in groupby(groups, key=lambda group: group["by"])
        ]
        whole = metrics["subsets"]["all"]["models"][model]["metrics"]["auroc"]["value"]
        title, drawn = model_name(model), [(by, found) for by, found in rows if found]
        if sum(len(rows) for _, rows in drawn) > 1:
            chart = interval_chart(
                drawn,
                "AUROC",
                title=f"{title}: AUROC by group",
                description="A dot for each group and a line for its 95 % interval.",
                reference=whole,
                axis=axis,
            )
            figures.append(html.figure(title, "", chart))
    return figures


def _known(group: Mapping[str, Any], model: str) -> tuple[float | None, ...]:
    entry = group["models"].get(model, {}).get("auroc") or {}
    return tuple(entry.get(key) for key in ("value", "low", "high"))


def _row(group: Mapping[str, Any], model: str, slot: int) -> Row | None:
    value, low, high = _known(group, model)
    if value is None:
        return None
    return Row(name=group_short(group["group"]), slot=slot, value=value, low=low, high=high)


def _table(
    metric: str,
    groups: Sequence[Mapping[str, Any]],
    counts: Mapping[tuple[str, str], tuple[str, str]],
    models: Sequence[str],
) -> Table:
    several = not any(outcomes for _, outcomes in counts.values())
    bodies: list[tuple[str, Rows]] = []
    for by, members in groupby(groups, key=lambda group: group["by"]):
        rows: list[list[Cell]] = []
        for group in members:
            n, outcomes = counts[by, group["group"]]
            cells = [Figure.of(group["models"].get(model, {}).get(metric)) for model in models]
            rows.append([_named(group), n, *([] if several else [outcomes]), *cells])
        bodies.append((GROUP_NAMES.get(by, by), rows))
    header = ["Group", "Stays", *([] if several else ["Outcomes"]), *(model_name(model) for model in models)]
    return Table(name=f"{METRIC_NAMES[metric]} by group", header=header, groups=bodies)


def _named(group: Mapping[str, Any]) -> str:
    return f"{group_name(group['group'])}|{_few(group)}" if _few(group) else group_name(group["group"])


def _few(group: Mapping[str, Any]) -> str:
    """That a group's interval rests on too few outcomes; of several labels without saying of how many of them."""
    return "few outcomes: interval too narrow" if group.get("note") else ""


def _gaps(metrics: Mapping[str, Any], chosen: Sequence[str], models: Sequence[str]) -> list[Part]:
    first = [model for model in chosen if any(gap["model"] == model for gap in metrics.get("gaps", []))][:FIRST]
    name = "Gaps between the best and the worst group"
    tops, rest = _gap_table(name, metrics, first), _gap_table(name, metrics, [m for m in models if m not in first])
    if not tops.groups:
        return []
    return [Heading("Gaps"), Note(GAP_NOTE), tops, *([Fold("Gaps of the other models", [rest])] if rest.groups else [])]


def _gap_table(name: str, metrics: Mapping[str, Any], models: Sequence[str]) -> Table:
    groups: list[tuple[str, Rows]] = []
    for by, members in groupby(metrics.get("gaps", []), key=lambda gap: gap["by"]):
        entries = {(gap["model"], gap["metric"]): gap for gap in members}
        rows: list[list[Cell]] = []
        for model in models:
            cells: list[Cell] = []
            for metric in METRICS:
                gap = entries.get((model, metric))
                cells += [_between(gap), Figure.of(gap["gap"])] if gap else [DASH, DASH]
            if (model, METRICS[0]) in entries:
                rows.append([model_name(model), *cells])
        groups += [(GROUP_NAMES.get(by, by), rows)] if rows else []
    header = ["Model", *(f"{METRIC_NAMES[m]}: {what}" for m in METRICS for what in ("best group", "gap"))]
    return Table(name=name, header=header, groups=groups, stack=True)


def _between(gap: Mapping[str, Any]) -> str:
    return f"{group_short(gap['largest'])} (over {group_short(gap['smallest'])})"
