"""Laboratory rows of the synthetic MIMIC-IV tree, a block of stays at a time."""

from __future__ import annotations

import numpy as np
import polars as pl

from fusionctl.data.synth import items as items
from fusionctl.data.synth.cohort import HOUR, Cohort
from fusionctl.data.synth.signals import measure
from fusionctl.data.synth.story import Bools, Floats, quota, sigmoid
from fusionctl.data.synth.tables import moments, provider_ids

# Hours since intime of the draws; -720: an outpatient sample a month before, of some.
DRAW_HOURS: dict[str, Floats] = {
    "blood": np.concatenate([[-720.0], np.arange(-6, 336, 12)]),
    "gas": np.arange(1, 336, 6).astype(np.float64),
    "urine": np.arange(3, 336, 48).astype(np.float64),
}
OUTPATIENT_RATE, NO_ADMISSION_RATE = 0.1, 0.15
MASKED_RATE, ERROR_RATE, COMMENT_RATE = 0.01, 0.003, 0.03
URINE_GLUCOSE = 51478


def lab_frame(cohort: Cohort, block: slice, rng: np.random.Generator, first_id: int) -> pl.DataFrame:
    """The labevents table of a block of stays, numbered from `first_id`, with the dirt of the real one."""
    frame = pl.concat([_panel(cohort, block, panel, rng) for panel in DRAW_HOURS]).sort(
        "stay", "charttime", "itemid", maintain_order=True
    )
    n = frame.height
    providers = pl.Series(rng.choice(provider_ids(rng), n))
    comments = pl.Series(rng.choice(items.LAB_COMMENTS, n))
    charttime, number = pl.col("charttime"), pl.col("number")
    inside = charttime.is_between(pl.col("admittime"), pl.col("dischtime"))
    known = inside & pl.Series(~quota(rng, n, NO_ADMISSION_RATE))
    masked, error = pl.Series(quota(rng, n, MASKED_RATE)), pl.Series(quota(rng, n, ERROR_RATE))
    negative = (pl.col("itemid") == URINE_GLUCOSE) & (number < 50)
    written = number.cast(pl.String).str.strip_suffix(".0")
    text = pl.when(error).then(pl.lit("ERROR")).when(negative).then(pl.lit("NEG")).when(masked).then(pl.lit("___"))
    high, low = pl.col("ref_range_upper"), pl.col("ref_range_lower")
    return frame.with_columns(
        labevent_id=pl.int_range(first_id, first_id + n),
        hadm_id=pl.when(known).then(pl.col("hadm_id")),
        order_provider_id=pl.when(pl.Series(rng.random(n) < 0.7)).then(providers),
        storetime=charttime + pl.Series(rng.integers(10, 180, n) * 60_000).cast(pl.Duration("ms")),
        value=text.otherwise(written),
        valuenum=pl.when(~error & ~negative).then(number),
        flag=pl.when((number > high) | (number < low)).then(pl.lit("abnormal")),
        priority=pl.when(pl.Series(rng.random(n) < 0.6)).then(pl.lit("STAT")).otherwise(pl.lit("ROUTINE")),
        comments=pl.when(pl.Series(quota(rng, n, COMMENT_RATE))).then(comments),
    )


def lab_names() -> pl.DataFrame:
    """The d_labitems table of the items that the tree uses."""
    rows = [(item, lab.label, lab.fluid, lab.category) for item, lab in items.LABS.items()]
    return pl.DataFrame(rows, schema=["itemid", "label", "fluid", "category"], orient="row")


def _panel(cohort: Cohort, block: slice, panel: str, rng: np.random.Generator) -> pl.DataFrame:
    """The rows of one kind of draw: ids, time, item and number."""
    latents, hours = cohort.latents.take(block), DRAW_HOURS[panel]
    intime, outtime = cohort.intime[block], cohort.outtime[block]
    shape = (len(latents), len(hours))
    seconds = np.rint((hours[None, :] + rng.uniform(-1, 1, shape)) * HOUR).astype(np.int64)
    time = (intime[:, None] + seconds) // 60 * 60
    drawn = (time <= (outtime + 12 * HOUR)[:, None]) & _draws(latents.z, hours, panel, rng)
    course = latents.course(hours)
    frames = []
    for item, lab in items.LABS.items():
        if lab.panel != panel:
            continue
        done = drawn & (rng.random(shape) < 0.95)
        stay, draw = np.nonzero(done)
        specimen = 10_000_000 + ((block.start + stay) * len(DRAW_HOURS) + list(DRAW_HOURS).index(panel)) * 64 + draw
        lower, upper = lab.reference or (None, None)
        columns = {
            "stay": stay,
            "subject_id": cohort.subject_id[block][stay],
            "hadm_id": cohort.hadm_id[block][stay],
            "specimen_id": specimen,
            "itemid": np.full(len(stay), item),
            "charttime": moments(time[done]),
            "admittime": moments(cohort.admittime[block][stay]),
            "dischtime": moments(cohort.dischtime[block][stay]),
            "number": np.round(measure(lab.signal, course, rng)[done], lab.decimals),
        }
        frames.append(
            pl.DataFrame(columns).with_columns(
                valueuom=pl.lit(lab.unit, pl.String),
                ref_range_lower=pl.lit(lower, pl.Float64),
                ref_range_upper=pl.lit(upper, pl.Float64),
            )
        )
    return pl.concat(frames)


def _draws(z: Floats, hours: Floats, panel: str, rng: np.random.Generator) -> Bools:
    """Which draws are made, (S, T)."""
    n = len(z)
    if panel == "blood":
        outpatient = quota(rng, n, OUTPATIENT_RATE)[:, None]
        return np.where(hours[None, :] < -100, outpatient, True)
    rate = sigmoid(1.2 * z - 0.5) if panel == "gas" else np.full(n, 0.4)
    chosen = (rng.random(n) < rate)[:, None]
    return np.broadcast_to(chosen, (n, len(hours)))
