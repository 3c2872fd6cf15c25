"""Which film belongs to which stay: the last one of the wanted view inside the stay's window."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fusionctl.data.splits import SPLITS

_MICROSECONDS = 3_600_000_000  # per hour


def pair(samples: pl.DataFrame, films: pl.DataFrame, *, view: str) -> pl.DataFrame:
    """Find each stay's film: the last of its patient with this view and intime <= study time <= end of the window.

    Both ends are inclusive and compared in whole microseconds. Of films with the same study time the one with the
    greatest dicom_id is taken, so that the choice does not depend on the order of the rows.

    Args:
        samples: stay_id, subject_id, intime, window_hours.
        films: `films.parquet` of the extract artifact.
        view: ViewPosition wanted.

    Returns:
        stay_id, film (u32: row of `films`), film_hours (f64, since intime); only stays with a film, sorted by stay_id.
    """
    wanted = films.with_row_index("film").filter(pl.col("view") == view, pl.col("study_time").is_not_null())
    since_intime = pl.col("study_time").cast(pl.Datetime("us")) - pl.col("intime").cast(pl.Datetime("us"))
    microseconds = since_intime.dt.total_microseconds()
    return (
        samples.select("stay_id", "subject_id", "intime", "window_hours")
        .join(wanted.select("subject_id", "film", "study_time", "dicom_id"), on="subject_id")
        .with_columns(microseconds=microseconds)
        .filter(pl.col("microseconds").is_between(0, (pl.col("window_hours") * _MICROSECONDS).round()))
        .sort("stay_id", "study_time", "dicom_id", "film")
        .group_by("stay_id", maintain_order=True)
        .last()
        .select("stay_id", "film", film_hours=pl.col("microseconds") / _MICROSECONDS)
    )


def summary(
    film_hours: npt.NDArray[np.float64], window_hours: npt.NDArray[np.float64], split: npt.NDArray[np.str_]
) -> dict[str, dict[str, Any]]:
    """Describe the time from film to prediction as the paper's Table 1 does, over all stays and by split.

    Args:
        film_hours: (N,) study time of each stay's film, hours since intime; NaN where there is none.
        window_hours: (N,) end of each stay's window.
        split: (N,) split of each stay.

    Returns:
        By "all", "train", "val" and "test": the number of stays and of paired stays, and mean, sd, min, p25, p50, p75,
        max of the hours from film to the end of the window (None where there are too few to compute it).
    """
    until_end = window_hours - film_hours
    chosen = {"all": np.ones(len(split), dtype=bool)} | {name: split == name for name in SPLITS}
    return {name: {"stays": int(rows.sum()), **_describe(until_end[rows])} for name, rows in chosen.items()}


def _describe(hours: npt.NDArray[np.float64]) -> dict[str, Any]:
    hours = hours[~np.isnan(hours)]
    names = ("mean", "sd", "min", "p25", "p50", "p75", "max")
    numbers: list[float | None] = [None] * len(names)
    if len(hours):
        sd = float(hours.std(ddof=1)) if len(hours) > 1 else None
        numbers = [float(hours.mean()), sd, *np.quantile(hours, [0, 0.25, 0.5, 0.75, 1]).tolist()]
    return {"paired": len(hours), **dict(zip(names, numbers, strict=True))}
