"""From rows of chartevents and labevents to events: which stay, when, which variable, what value.

A frame of raw rows goes through rules, each of which counts what it drops. The result is small columns of numbers;
sorting and the total of the coma scale follow when all rows of a stay are together.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from fusionctl.data import legacy
from fusionctl.data.attrition import Attrition
from fusionctl.data.cohort import hours_between
from fusionctl.data.variables import GCS_PARTS, GCS_TOTAL, VARIABLES, Source

EVENT_COLUMNS: dict[str, Any] = {
    "stay_id": pl.Int64,
    "hours": pl.Float64,
    "variable": pl.UInt8,
    "value": pl.Float32,
    "stored_hours": pl.Float64,
}
# Missing storetimes come first: among rows of one moment, any row with a storetime is later than one without.
_ORDER = ("stay_id", "hours", "variable", "stored_hours", "value")


# What decides between rows of one moment in protocol `legacy`.
_LEGACY_ORDER = ("stay_id", "hours", "variable", "rank", "value")


def columns_of(protocol: str) -> dict[str, Any]:
    """Columns of events on their way through the buckets; `legacy` carries the rank that its sort goes by."""
    return {**EVENT_COLUMNS, "rank": pl.Int64} if protocol == "legacy" else EVENT_COLUMNS


def item_ids(source: Source, protocol: str = "paper") -> list[int]:
    """The item ids that a protocol reads from chartevents or from labevents."""
    return [item.itemid for variable in VARIABLES for item in variable.read(protocol) if item.source == source]


def clean_chart(rows: pl.DataFrame, stays: pl.DataFrame, attrition: Attrition, protocol: str = "paper") -> pl.DataFrame:
    """Events of a frame of chartevents rows of mapped items.

    Args:
        rows: hadm_id, stay_id, charttime, storetime, itemid, value, valuenum.
        stays: the kept stays.
        attrition: counts rows by rule; the caller counts rows of other items.
        protocol: `paper` or `legacy`.

    Returns:
        `columns_of(protocol)`, unsorted.
    """
    rows = attrition.keep("hadm_id missing", rows, pl.col("hadm_id").is_not_null())
    own = _timed(stays).rename({"stay_id": "own_stay"})
    placed = rows.join(own, on="hadm_id", how="inner")
    attrition.drop("admission is not in the cohort", rows.height - placed.height)
    same = pl.col("stay_id").is_null() | (pl.col("stay_id") == pl.col("own_stay"))
    placed = attrition.keep("stay is not the admission's", placed, same)
    placed = placed.with_columns(stay_id="own_stay")
    return _finished(placed, stays, "chart", attrition, protocol)


def clean_lab(rows: pl.DataFrame, stays: pl.DataFrame, attrition: Attrition, protocol: str = "paper") -> pl.DataFrame:
    """Events of a frame of labevents rows of mapped items.

    A row without hadm_id belongs to the patient's kept admission during which it was drawn, if there is exactly one;
    protocol `legacy` drops it.

    Args:
        rows: subject_id, hadm_id, charttime, storetime, itemid, value, valuenum and `line`, which tells rows apart.
        stays: the kept stays.
        attrition: counts rows by rule; the caller counts rows of other items.
        protocol: `paper` or `legacy`.

    Returns:
        `columns_of(protocol)`, unsorted.
    """
    rows = rows.drop("stay_id", strict=False)
    with_id, without = rows.filter(pl.col("hadm_id").is_not_null()), rows.filter(pl.col("hadm_id").is_null())
    placed = with_id.drop("subject_id").join(_timed(stays), on="hadm_id", how="inner")
    attrition.drop("admission is not in the cohort", with_id.height - placed.height)
    if protocol == "legacy":
        attrition.drop("hadm_id missing", without.height)
        return _finished(placed, stays, "lab", attrition, protocol)
    spans = stays.select("subject_id", "admittime", "dischtime", admission="hadm_id")
    within = pl.col("charttime").is_between(pl.col("admittime"), pl.col("dischtime"))
    found = without.join(spans, on="subject_id", how="inner").filter(within)
    found = found.filter(pl.len().over("line") == 1)  # a step of its own: counts what the first one left
    attrition.drop("hadm_id missing and not one kept admission at that time", without.height - found.height)
    found = found.with_columns(hadm_id="admission").drop("subject_id").join(_timed(stays), on="hadm_id", how="inner")
    placed = pl.concat([placed, found.select(placed.columns)])
    return _finished(placed, stays, "lab", attrition, protocol)


def _finished(
    placed: pl.DataFrame, stays: pl.DataFrame, source: Source, attrition: Attrition, protocol: str
) -> pl.DataFrame:
    """Events of rows that have their stay: its id, and from when to when it was."""
    placed = attrition.keep("charttime missing", placed, pl.col("charttime").is_not_null())
    if protocol == "legacy":
        # The reference gives a row to the stay of its admission and also to the one during which it was charted.
        valued = legacy.values(placed, source, attrition)
        both = pl.concat([valued, _charted_in_another_stay(valued, stays)])
        return _hours(both).select(list(columns_of(protocol)))
    return _values(_hours(_to_stay_of_the_moment(placed, stays)), source, attrition)


def _timed(stays: pl.DataFrame) -> pl.DataFrame:
    return stays.select("hadm_id", "stay_id", "subject_id", "intime", "outtime")


def _hours(placed: pl.DataFrame) -> pl.DataFrame:
    """Add the hours since the stay's begin, of the chart time and of the store time."""
    return placed.with_columns(
        hours=hours_between("intime", "charttime"), stored_hours=hours_between("intime", "storetime")
    )


def _to_stay_of_the_moment(placed: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Give rows charted outside their admission's stay but inside another kept stay of the patient to that stay.

    The protocol counts as a stay's events those with its id and those charted during it. In the stay of their own
    admission such rows lie before or after everything that a task reads.
    """
    moved = _charted_in_another_stay(placed, stays)
    return pl.concat([placed.join(moved.select("line"), on="line", how="anti"), moved]) if moved.height else placed


def _charted_in_another_stay(placed: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Rows charted outside their admission's stay but inside another kept stay of the patient, as rows of that one."""
    several = stays.filter(pl.len().over("subject_id") > 1)
    away = ~pl.col("charttime").is_between(pl.col("intime"), pl.col("outtime"))
    roams = away & pl.col("subject_id").is_in(several["subject_id"].unique().implode())
    candidates = placed.filter(roams)
    if candidates.is_empty():
        return candidates
    others = several.select("subject_id", new_stay="stay_id", new_in="intime", new_out="outtime")
    return (
        candidates.join(others, on="subject_id")
        .filter(pl.col("charttime").is_between(pl.col("new_in"), pl.col("new_out")))
        .sort("line", "new_in")
        .unique("line", keep="first", maintain_order=True)
        .with_columns(stay_id="new_stay", intime="new_in", outtime="new_out")
        .select(placed.columns)
    )


def _values(rows: pl.DataFrame, source: Source, attrition: Attrition) -> pl.DataFrame:
    """Numbers in the variable's unit and plausible range; categories as their index."""
    rows = rows.join(_item_table(source), on="itemid", how="inner")
    numbers = _numbers(rows.filter(~pl.col("categorical")), source, attrition)
    categories = _categories(rows.filter(pl.col("categorical")), attrition)
    columns = [pl.col(name).cast(dtype) for name, dtype in EVENT_COLUMNS.items()]
    return pl.concat([numbers.select(columns), categories.select(columns)])


def _numbers(rows: pl.DataFrame, source: Source, attrition: Attrition) -> pl.DataFrame:
    rows = attrition.keep("no number in valuenum", rows, pl.col("valuenum").is_finite())
    number = pl.col("valuenum")
    number = pl.when(number > pl.col("percent_above")).then(number / 100).otherwise(number)
    rows = rows.with_columns(value=number * pl.col("scale") + pl.col("offset"))
    plausible = pl.col("value").is_between(pl.col("low"), pl.col("high"))
    counts = dict(rows.filter(~plausible).group_by("variable").len().rows())
    for index, variable in enumerate(VARIABLES):
        if not variable.is_categorical and any(item.source == source for item in variable.items):
            rule = f"{variable.name} outside {variable.low:g} to {variable.high:g} {variable.unit}"
            attrition.drop(rule, counts.get(index, 0))
    return rows.filter(plausible)


def _categories(rows: pl.DataFrame, attrition: Attrition) -> pl.DataFrame:
    # "None" is the text of a category (eye opening, 1 point), never a missing value.
    rows = rows.with_columns(text=pl.col("value").str.strip_chars().str.to_lowercase()).drop("value")
    known = rows.join(_category_table(), on=["variable", "text"], how="inner")
    attrition.drop("text is none of the variable's categories", rows.height - known.height)
    return known


def _item_table(source: Source) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (item.itemid, i, item.scale, item.offset, v.low, v.high, v.percent_above, v.is_categorical)
            for i, v in enumerate(VARIABLES)
            for item in v.items
            if item.source == source
        ],
        schema={
            **{"itemid": pl.Int64, "variable": pl.UInt8, "scale": pl.Float64, "offset": pl.Float64, "low": pl.Float64},
            **{"high": pl.Float64, "percent_above": pl.Float64, "categorical": pl.Boolean},
        },
        orient="row",
    )


def _category_table() -> pl.DataFrame:
    rows = [
        (i, text.lower(), v.categories.index(category))
        for i, v in enumerate(VARIABLES)
        for text, category in [*((c, c) for c in v.categories), *v.texts.items()]
    ]
    return pl.DataFrame(rows, schema={"variable": pl.UInt8, "text": pl.String, "value": pl.Float32}, orient="row")


def in_order(events: pl.DataFrame, protocol: str = "paper") -> pl.DataFrame:
    """Add the coma scale's totals to all events of some stays, and sort.

    The order is total up to identical rows, so that the same events give the same bytes whatever order they came in.
    Protocol `legacy` has no totals, and of two rows of one moment the greater comes last.
    """
    if protocol == "legacy":
        return events.sort(_LEGACY_ORDER).select(list(EVENT_COLUMNS))
    return pl.concat([events, coma_totals(events)]).sort(_ORDER)


def coma_totals(events: pl.DataFrame) -> pl.DataFrame:
    """Totals of the Glasgow coma scale, at chart times that have all three parts.

    Of a part charted more than once at a time, the last stored counts; a verbal response that a tube prevents is 1
    point. A total is stored when the last of its parts is.
    """
    points = pl.DataFrame(
        [(i, float(c), score) for i in GCS_PARTS for c, score in enumerate(VARIABLES[i].scores)],
        schema={"variable": pl.UInt8, "value": pl.Float32, "points": pl.Int64},
        orient="row",
    )
    totals = VARIABLES[GCS_TOTAL]
    category = pl.DataFrame(
        {"points": totals.scores, "value": range(len(totals.scores))}, schema_overrides={"value": pl.Float32}
    )
    parts = events.filter(pl.col("variable").is_in(GCS_PARTS)).sort(_ORDER)
    last = parts.unique(["stay_id", "hours", "variable"], keep="last", maintain_order=True)
    return (
        last.join(points, on=["variable", "value"])
        .group_by("stay_id", "hours")
        .agg(pl.col("points").sum(), parts=pl.len(), stored_hours=pl.col("stored_hours").max())
        .filter(pl.col("parts") == len(GCS_PARTS))
        .join(category, on="points")
        .with_columns(variable=pl.lit(GCS_TOTAL, pl.UInt8))
        .select(list(EVENT_COLUMNS))
    )
