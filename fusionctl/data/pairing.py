"""Which films belong to which stay: those of its patient, of the wanted view, from the wanted hours of the stay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fusionctl.data.splits import SPLITS
from fusionctl.errors import UsageError

VIEWS: dict[str, tuple[str, ...] | None] = {"AP": ("AP",), "PA": ("PA",), "frontal": ("AP", "PA"), "any": None}
_MICROSECONDS = 3_600_000_000  # per hour
_QUARTILES = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "max": 1.0}


def pair(samples: pl.DataFrame, films: pl.DataFrame, *, view: str, pick: str, window: str) -> pl.DataFrame:
    """Find each stay's films: of its patient, with this view, study time inside the film window.

    The window's end is cut at the end of the stay's input, so no film can be later than the prediction. Both ends are
    inclusive and compared in whole microseconds. Where one film is picked and several qualify equally, it is the one
    with the greatest dicom_id, so that the choice does not depend on the order of the rows.

    Args:
        samples: stay_id, subject_id, intime, window_hours (end of the input, hours since intime).
        films: the candidates: film (row of films.npy), subject_id, dicom_id, view, study_time (null: never paired).
            One that is not to be chosen, because it cannot be read say, must not be among them.
        view: key of `VIEWS`; "any" takes every ViewPosition, an empty one too.
        pick: "last" (as in the paper) or "first" by study time; "nearest-end", the least distance to the end of the
            window; or "all". No film inside the window is later than its end, so "nearest-end" is the film that
            "last" picks: it is the name of that rule where a protocol states it by distance.
        window: see `parse_window`.

    Returns:
        stay_id (i64), film (i32), film_hours (f64, since intime) of every film chosen, sorted by all three.

    Raises:
        UsageError: the window breaks its rule.
    """
    start, end = (pl.lit(hours * _MICROSECONDS) for hours in parse_window(window))
    views = VIEWS[view]
    wanted = films if views is None else films.filter(pl.col("view").is_in(views))
    since_intime = pl.col("study_time").cast(pl.Datetime("us")) - pl.col("intime").cast(pl.Datetime("us"))
    inside = (
        samples.select("stay_id", "subject_id", "intime", "window_hours")
        .join(wanted.select("film", "subject_id", "dicom_id", "study_time"), on="subject_id")
        .with_columns(
            at=since_intime.dt.total_microseconds(),
            end=pl.min_horizontal(pl.col("window_hours") * _MICROSECONDS, end).round(),
        )
        .filter(pl.col("at").is_between(start.round(), "end"))
    )
    return (
        _picked(inside, pick)
        .select(
            "stay_id", pl.col("film").cast(pl.Int32), film_hours=pl.col("at").cast(pl.Float64) / float(_MICROSECONDS)
        )
        .sort("stay_id", "film_hours", "film")
    )


def _picked(inside: pl.DataFrame, pick: str) -> pl.DataFrame:
    """One film a stay, or all; `at` and `end` are microseconds since intime."""
    if pick == "all":
        return inside
    worth = {"last": pl.col("at"), "first": -pl.col("at"), "nearest-end": -(pl.col("end") - pl.col("at")).abs()}
    ordered = inside.with_columns(worth=worth[pick]).sort("stay_id", "worth", "dicom_id", "film")
    return ordered.group_by("stay_id", maintain_order=True).last()


def parse_window(text: str) -> tuple[float, float]:
    """Read a film window FROM:TO, hours since ICU admission; a negative hour is before it.

    Returns:
        FROM (0 where it is missing: ICU admission) and TO (infinity where it is missing: the end of the input). An
        empty text is both missing.

    Raises:
        UsageError: not two numbers, not finite, or FROM after TO.
    """
    error = UsageError(
        f"--film-window must be FROM:TO in hours since ICU admission, FROM <= TO; got {text!r}",
        hint="for example --film-window=-24:48, 0:24, -6: (to the end of the input) or :24 (from ICU admission)",
    )
    parts = (text or ":").split(":")
    try:
        given = [float(part) for part in parts if part.strip()]
    except ValueError as reason:
        raise error from reason
    if len(parts) != 2 or not np.isfinite(given).all():
        raise error
    start, end = (
        float(part) if part.strip() else missing for part, missing in zip(parts, (0.0, math.inf), strict=True)
    )
    if start > end:
        raise error
    return start, end


def film_of(pairs: pl.DataFrame) -> pl.DataFrame:
    """The one film that stands for a stay: the last of those chosen.

    Args:
        pairs: as from `pair`.

    Returns:
        stay_id, film, film_hours of the last film, and n_films (i32), the number chosen; stays with a film only.
    """
    last = (pl.col(name).last() for name in ("film", "film_hours"))
    found = pairs.sort("stay_id", "film_hours", "film").group_by("stay_id", maintain_order=True)
    return found.agg(*last, n_films=pl.len().cast(pl.Int32))


def summary(
    film_hours: npt.NDArray[np.float64],
    window_hours: npt.NDArray[np.float64],
    split: npt.NDArray[np.str_],
    n_films: npt.NDArray[np.integer],
) -> dict[str, dict[str, Any]]:
    """Describe the time from film to prediction as the paper's Table 1 does, over all stays and by split.

    Args:
        film_hours: (N,) study time of each stay's last chosen film, hours since intime; NaN where there is none.
        window_hours: (N,) end of each stay's input.
        split: (N,) split of each stay.
        n_films: (N,) number of its films.

    Returns:
        By "all", "train", "val" and "test": the number of stays, of paired stays and of their films, and mean, sd,
        min, p25, p50, p75, max of the hours from film to the end of the input (None where there are too few to
        compute it).
    """
    until_end = window_hours - film_hours
    chosen = {"all": np.ones(len(split), dtype=bool)} | {name: split == name for name in SPLITS}
    return {
        name: {"stays": int(rows.sum()), "films": int(n_films[rows].sum()), **_describe(until_end[rows])}
        for name, rows in chosen.items()
    }


def _describe(hours: npt.NDArray[np.float64]) -> dict[str, Any]:
    hours = hours[~np.isnan(hours)]
    if not len(hours):
        return {"paired": 0, "mean": None, "sd": None, **dict.fromkeys(_QUARTILES)}
    sd = float(hours.std(ddof=1)) if len(hours) > 1 else None
    quartiles = np.quantile(hours, list(_QUARTILES.values())).tolist()
    return {"paired": len(hours), "mean": float(hours.mean()), "sd": sd} | dict(zip(_QUARTILES, quartiles, strict=True))


def terminal_table(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `summary` found as a `{title, header, rows}` of texts, a row a split, hours with one decimal."""
    hour_columns = ("mean", "sd", *_QUARTILES)
    rows = []
    for name in ("all", *SPLITS):
        entry = found[name]
        share = f"{entry['paired'] / entry['stays']:.1%}" if entry["stays"] else "–"
        hours = ["–" if entry[column] is None else f"{entry[column]:.1f}" for column in hour_columns]
        rows.append([name, f"{entry['stays']:,}", f"{entry['paired']:,}", share, f"{entry['films']:,}", *hours])
    names = ("median" if column == "p50" else column for column in hour_columns)
    header = ["split", "stays", "with a film", "share", "films", *names]
    return {"title": "Hours from the film to the end of the input", "header": header, "rows": rows}
