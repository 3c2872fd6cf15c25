"""Chart and output rows of the synthetic MIMIC-IV tree, a block of stays at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from fusionctl.data.synth import items as items
from fusionctl.data.synth.cohort import HOUR, Cohort
from fusionctl.data.synth.signals import add_other_units, measure, vital_signs
from fusionctl.data.synth.story import Bools, Floats, Ints, Latents, quota, sigmoid
from fusionctl.data.synth.tables import moments

# Hours since intime at which the bedside can be charted: hourly for 60 h, then every 4 h. -1: before arrival.
CHART_HOURS = np.concatenate([np.arange(-1, 60), np.arange(60, 340, 4)]).astype(np.float64)
UNWANTED_PER_MAPPED = 2
DUPLICATE_RATE, IMPLAUSIBLE_RATE, NO_STORETIME_RATE, NO_STAY_RATE = 0.01, 0.002, 0.0005, 0.0001


class Rows(NamedTuple):
    """Rows without texts and ids: row of the stay in its block, seconds since 1970, item, value or code."""

    stay: Ints
    time: Ints
    item: Ints
    value: Floats

    def take(self, rows: Ints | Bools | slice) -> Rows:
        """Some of the rows, in the order of `rows`."""
        return Rows(self.stay[rows], self.time[rows], self.item[rows], self.value[rows])


def chart_rows(cohort: Cohort, block: slice, rng: np.random.Generator) -> Rows:
    """The rows of the mapped items of a block of stays, before any slip of the pen."""
    latents = cohort.latents.take(block)
    signs = vital_signs(latents, CHART_HOURS, rng)
    time, there = _charting_times(cohort.intime[block], cohort.outtime[block], rng)
    where = _charted_where(latents, rng)
    add_other_units(signs, CHART_HOURS, cohort.female[block], where["ventilated"], rng)
    parts = []
    for charting in items.CHARTING:
        due = there & where[charting.where] & (CHART_HOURS % charting.every == 0)
        due &= rng.random(due.shape) < charting.share
        stay, _ = np.nonzero(due)
        decimals = items.MAPPED_ITEMS[charting.item][2] or 0
        value = np.round(signs[charting.sign][due], decimals)
        parts.append(Rows(stay, time[due], np.full(len(stay), charting.item), value))
    return _concatenate(*parts)


def chart_frame(cohort: Cohort, block: slice, rng: np.random.Generator) -> pl.DataFrame:
    """The chartevents table of a block of stays, with the dirt of the real one."""
    rows = chart_rows(cohort, block, rng)
    stored = rows.time + rng.integers(5, 90, len(rows.time)) * 60
    twice = rng.permutation(np.flatnonzero(quota(rng, len(rows.time), DUPLICATE_RATE)))
    again = _corrected(rows.take(twice))
    stored_again = stored[twice] + rng.integers(10, 180, len(twice)) * 60
    odd = _implausible(rows, rng)
    other = _unwanted(rows, rng)
    # A correction stands before or after the row that it corrects: only storetime tells which came last.
    half = len(twice) // 2
    everything = _concatenate(again.take(slice(half)), rows, again.take(slice(half, None)), other)
    stored_other = other.time + rng.integers(5, 90, len(other.time)) * 60
    stored = np.concatenate([stored_again[:half], stored, stored_again[half:], stored_other])
    odd = np.concatenate([np.zeros(half, np.bool_), odd, np.zeros(len(stored) - half - len(odd), np.bool_)])
    order = np.argsort(everything.stay, kind="stable")
    everything = everything.take(order)
    n = len(order)
    frame = _ids_frame(cohort, block, everything).with_columns(
        caregiver_id=pl.Series(rng.integers(10_000, 99_999, n)),
        storetime=moments(stored[order], ~quota(rng, n, NO_STORETIME_RATE)),
        warning=pl.Series((odd[order] & (rng.random(n) < 0.5)).astype(np.int64)),
        stay_id=pl.when(pl.Series(~quota(rng, n, NO_STAY_RATE))).then(pl.col("stay_id")),
    )
    return _with_texts(frame, everything.value)


def output_frame(cohort: Cohort, block: slice, rng: np.random.Generator) -> pl.DataFrame:
    """The outputevents table of a block of stays: urine every 4 h."""
    latents = cohort.latents.take(block)
    time, there = _charting_times(cohort.intime[block], cohort.outtime[block], rng)
    due = there & (CHART_HOURS % 4 == 0)
    signal = items.Signal(260, -55, 60, 50, 0, 1500)  # ml in 4 h
    stay, _ = np.nonzero(due)
    item = np.where(quota(rng, len(latents), 0.3), items.VOID, items.FOLEY)[stay]
    volume = np.rint(measure(signal, latents.course(CHART_HOURS), rng)[due])
    rows = Rows(stay, time[due], item, volume)
    n = len(stay)
    return _ids_frame(cohort, block, rows).with_columns(
        caregiver_id=pl.Series(rng.integers(10_000, 99_999, n)),
        storetime=moments(rows.time + rng.integers(1, 60, n) * 60),
        value=pl.Series(volume.astype(np.int64)),
        valueuom=pl.lit("ml"),
    )


def item_names() -> pl.DataFrame:
    """The d_items table of the items that the tree uses."""
    rows: list[tuple[int, str, str | None, str]] = [
        (item, label, unit, "Text" if decimals is None else "Numeric")
        for item, (label, unit, decimals) in items.MAPPED_ITEMS.items()
    ]
    rows += [(item, label, unit, "Numeric") for item, (label, unit, *_) in items.UNWANTED_NUMBERS.items()]
    rows += [(item, label, None, "Text") for item, (label, _) in items.UNWANTED_TEXTS.items()]
    frame = pl.DataFrame(
        rows, schema=["itemid", "label", "unitname", "param_type"], orient="row", infer_schema_length=None
    )
    outputs = [(items.FOLEY, "Foley", "mL", "Numeric"), (items.VOID, "Void", "mL", "Numeric")]
    extra = pl.DataFrame(outputs, schema=frame.schema, orient="row").with_columns(linksto=pl.lit("outputevents"))
    frame = pl.concat([frame.with_columns(linksto=pl.lit("chartevents")), extra])
    empty = pl.lit(None, pl.String)
    return frame.with_columns(
        abbreviation=pl.col("label"), category=pl.lit("Synthetic"), lownormalvalue=empty, highnormalvalue=empty
    )


def _charting_times(intime: Ints, outtime: Ints, rng: np.random.Generator) -> tuple[Ints, Bools]:
    """Seconds since 1970 of every charting hour, (S, T), and whether the stay is charted then."""
    shape = (len(intime), len(CHART_HOURS))
    minute = np.where(rng.random(shape) < 0.2, rng.integers(1, 60, shape), 0)
    full_hour = -(-intime // HOUR) * HOUR
    time = full_hour[:, None] + CHART_HOURS.astype(np.int64)[None, :] * HOUR + minute * 60
    late = quota(rng, len(intime), 0.1) * 2 * HOUR  # some are charted on for a while after they have left
    there = (time <= (outtime + late)[:, None]) & ((CHART_HOURS >= 0) | (rng.random(shape) < 0.1))
    return time, there


def _charted_where(latents: Latents, rng: np.random.Generator) -> dict[str, Bools]:
    """Masks (S, 1) or (S, T) by the names that `items.CHARTING` uses."""
    n = len(latents)
    arterial = (rng.random(n) < sigmoid(0.8 * latents.z - 0.3))[:, None]
    ventilated = (rng.random(n) < sigmoid(1.2 * latents.z - 0.7))[:, None]
    newer, celsius, pounds, inches, refill = (quota(rng, n, rate)[:, None] for rate in (0.08, 0.25, 0.5, 0.5, 0.4))
    once, later = (CHART_HOURS == 0)[None, :], (CHART_HOURS > 0)[None, :]
    return {
        "all": np.ones((n, 1), np.bool_),
        "arterial": arterial,
        "cuff": ~arterial,
        "line": arterial & ~newer,
        "newer line": arterial & newer,
        "ventilated": ventilated,
        "celsius": celsius,
        "fahrenheit": ~celsius,
        "pounds, once": pounds & once,
        "kilograms, once": ~pounds & once,
        "inches, once": inches & once,
        "centimetres, once": ~inches & once,
        "later": later,
        "refill": refill,
    }


def _corrected(rows: Rows) -> Rows:
    """The same rows with another value: texts by one code, numbers by about 5 %."""
    value = rows.value.copy()
    for item, texts in items.MAPPED_TEXTS.items():
        at = rows.item == item
        value[at] = np.where(value[at] > min(texts), value[at] - 1, value[at] + 1)
    for item in np.unique(rows.item).tolist():
        decimals = items.MAPPED_ITEMS[item][2]
        if decimals is not None:
            at = rows.item == item
            value[at] = np.round(value[at] * 0.95, decimals)
    return rows._replace(value=value)


def _implausible(rows: Rows, rng: np.random.Generator) -> Bools:
    """Overwrite a few values with impossible ones; returns which."""
    odd = np.zeros(len(rows.item), np.bool_)
    for item, value in items.IMPLAUSIBLE.items():
        at = np.flatnonzero(rows.item == item)
        at = at[quota(rng, len(at), IMPLAUSIBLE_RATE)]
        rows.value[at] = value
        odd[at] = True
    return odd


def _unwanted(rows: Rows, rng: np.random.Generator) -> Rows:
    """Rows of items that no variable reads, at the times of the mapped ones."""
    n = UNWANTED_PER_MAPPED * len(rows.time)
    numbers, texts = list(items.UNWANTED_NUMBERS), list(items.UNWANTED_TEXTS)
    at = rng.integers(0, len(rows.time), n)
    pick = rng.integers(0, len(numbers) + len(texts), n)
    means, sds, decimals = (
        np.array([items.UNWANTED_NUMBERS[item][column] for item in numbers], dtype=np.float64) for column in (2, 3, 4)
    )
    counts = np.array([len(items.UNWANTED_TEXTS[item][1]) for item in texts])
    is_text = pick >= len(numbers)
    number, text = np.where(is_text, 0, pick), np.where(is_text, pick - len(numbers), 0)
    scale = 10.0 ** decimals[number]
    measured = np.rint((means[number] + sds[number] * rng.standard_normal(n)) * scale) / scale
    value = np.where(is_text, rng.integers(0, counts[text]), measured)
    return Rows(rows.stay[at], rows.time[at], np.array(numbers + texts)[pick], value)


def _ids_frame(cohort: Cohort, block: slice, rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": cohort.subject_id[block][rows.stay],
            "hadm_id": cohort.hadm_id[block][rows.stay],
            "stay_id": cohort.stay_id[block][rows.stay],
            "charttime": moments(rows.time),
            "itemid": rows.item,
        }
    )


def _with_texts(frame: pl.DataFrame, value: Floats) -> pl.DataFrame:
    """Add value, valuenum and valueuom: texts by item and code, numbers as they are."""
    texts = [
        (item, code, text, float(max(code, 1)) if item in _SCORED else None)
        for item, by_code in items.MAPPED_TEXTS.items()
        for code, text in by_code.items()
    ]
    texts += [
        (item, code, text, None)
        for item, (_, choices) in items.UNWANTED_TEXTS.items()
        for code, text in enumerate(choices)
    ]
    schema = {"itemid": pl.Int64, "code": pl.Int64, "text": pl.String, "score": pl.Float64}
    by_code = pl.DataFrame(texts, schema=schema, orient="row")
    units = [(item, row[1]) for item, row in (items.MAPPED_ITEMS | items.UNWANTED_NUMBERS).items()]
    by_item = pl.DataFrame(units, schema={"itemid": pl.Int64, "valueuom": pl.String}, orient="row")
    number = pl.col("number")
    joined = (
        frame.with_columns(number=pl.Series(value), code=pl.Series(value.astype(np.int64)))
        .join(by_code, on=["itemid", "code"], how="left", maintain_order="left")
        .join(by_item, on="itemid", how="left", maintain_order="left")
    )
    return joined.with_columns(
        value=pl.coalesce("text", number.cast(pl.String).str.strip_suffix(".0")),
        valuenum=pl.when(pl.col("text").is_null()).then(number).otherwise(pl.col("score")),
    )


def _concatenate(*parts: Rows) -> Rows:
    return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


_SCORED = {items.GCS_EYE, items.GCS_VERBAL, items.GCS_MOTOR}
