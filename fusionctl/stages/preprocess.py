"""Stage `preprocess`: from events and films to arrays that models read.

extract: stays, events, films   ->  samples.parquet, values.npy, observed.npy, normaliser.json
JPEG films                      ->  films.npy, films.parquet
                                    pairing.json, attrition.json
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fusionctl.data import guards, images, pairing, series, splits
from fusionctl.data.attrition import Attrition
from fusionctl.data.normaliser import Normaliser
from fusionctl.data.variables import CHEXPERT_LABELS, VARIABLES
from fusionctl.errors import InputError
from fusionctl.settings import PreprocessSettings, Runtime
from fusionctl.tasks import TASKS
from fusionctl.workdir import Artifact, Draft

log = logging.getLogger("fusionctl")

_STAY_COLUMNS = ("stay_id", "subject_id", "hadm_id", "intime", "age", "sex", "race", "care_unit")


def run(draft: Draft, settings: PreprocessSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write the samples, their series and films, and what was left out.

    Raises:
        InputError: no sample is left, or films are missing or unreadable.
        LeakError: a guard found a leak in what was written.
    """
    extract: Artifact = inputs["extract"]
    stays = pl.read_parquet(extract.file("stays.parquet"))
    samples, stays_left_out = _grid(draft, extract, stays, settings, runtime)
    samples, films_left_out = _films(draft, extract, samples, inputs["cxr_root"], settings, runtime)
    samples.write_parquet(draft.file("samples.parquet"))
    _write_normaliser(draft, samples)
    columns = (samples[name].to_numpy() for name in ("film_hours", "window_hours", "split"))
    draft.write_json("pairing.json", pairing.summary(*columns))
    draft.write_json("attrition.json", stays_left_out.rows() + films_left_out.rows())
    guards.check_preprocessed(draft.path)
    draft.rows["samples"] = len(samples)
    _log_summary(samples, TASKS[settings.task].labels, stays_left_out, films_left_out)


def _grid(
    draft: Draft, extract: Artifact, stays: pl.DataFrame, settings: PreprocessSettings, runtime: Runtime
) -> tuple[pl.DataFrame, Attrition]:
    """Write values.npy and observed.npy; the samples, sorted by stay_id, and the stays that were left out."""
    chosen, left_out = TASKS[settings.task].samples(stays)
    grid = series.write_grid(
        extract.file("events.parquet"),
        draft.path,
        chosen["stay_id"].to_numpy(),
        chosen["window_hours"].to_numpy(),
        timestep=settings.timestep,
        normal=np.array([variable.normal_value for variable in VARIABLES], dtype=np.float32),
        progress=lambda done, total: runtime.progress("events on the grid", done, total),
    )
    draft.rows["values"] = int(grid.n_rows.sum())
    samples = (
        chosen.with_columns(
            first_row=pl.Series(grid.first_row),
            n_rows=pl.Series(grid.n_rows.astype(np.int32)),
            last_event_hours=pl.Series(grid.last_event_hours),
        )
        .filter(pl.col("n_rows") > 0)
        .join(stays.select(_STAY_COLUMNS), on="stay_id", maintain_order="left")
    )
    left_out = left_out | {"no event of a mapped item in the window": len(chosen) - len(samples)}
    if not len(samples):
        raise InputError(
            f"{extract.file('stays.parquet')}: none of {len(stays)} stays is left for {settings.task}; rules: "
            + "; ".join(f"{rule} ({n})" for rule, n in left_out.items()),
            hint="use a data set with more or longer stays",
        )
    split = splits.assign(samples["subject_id"].to_numpy())
    return samples.with_columns(split=pl.Series(split)), _attrition("stays", "stays", len(stays), left_out)


def _films(
    draft: Draft,
    extract: Artifact,
    samples: pl.DataFrame,
    cxr_root: Path | None,
    settings: PreprocessSettings,
    runtime: Runtime,
) -> tuple[pl.DataFrame, Attrition]:
    """Write films.npy and films.parquet; the samples with their films, and the films that were left out."""
    films = pl.read_parquet(extract.file("films.parquet"))
    if len(films) and cxr_root is None:
        raise InputError(
            f"extract/{extract.id} lists {len(films)} films, but their folder was not given",
            hint="add --cxr-root DIR, the folder of MIMIC-CXR-JPG that extract read",
        )
    if not len(films) and cxr_root is not None:
        raise InputError(
            f"extract/{extract.id} lists no film, though --cxr-root {cxr_root} was given",
            hint=f"run first: fusionctl extract --mimic-root DIR --cxr-root {cxr_root}",
        )
    films = films.with_columns(split=pl.Series(splits.assign(films["subject_id"].to_numpy()), dtype=pl.String))
    pairs = pairing.pair(samples, films, view=settings.film_view)
    # for pretraining all films of training patients; of other patients only what a stay is paired with
    wanted = (films["split"] == "train").to_numpy() | np.isin(np.arange(len(films)), pairs["film"].to_numpy())
    reasons = images.cache_films(
        cxr_root or Path(),
        films["path"].filter(pl.Series(wanted)).to_list(),
        draft.file("films.npy"),
        size=settings.film_size,
        clahe=settings.clahe,
        jobs=runtime.jobs,
        max_bad=settings.max_bad_films,
        progress=lambda done, total: runtime.progress("films", done, total),
    )
    readable = np.array([reason is None for reason in reasons], dtype=bool)
    cached = np.flatnonzero(wanted)[readable]
    row = np.full(len(films), -1, dtype=np.int32)
    row[cached] = np.arange(len(cached), dtype=np.int32)
    table = films[cached].with_row_index("film")
    table.select("film", "subject_id", "study_id", "split", "view", "study_time", *CHEXPERT_LABELS).write_parquet(
        draft.file("films.parquet")
    )
    draft.rows["films"] = len(table)
    left_out = {
        "neither of a training patient nor paired with a stay": int((~wanted).sum()),
        "unreadable, treated as absent": int((~readable).sum()),
    }
    return _with_films(samples, pairs, row), _attrition("films", "rows", len(films), left_out)


def _with_films(samples: pl.DataFrame, pairs: pl.DataFrame, row: npt.NDArray[np.int32]) -> pl.DataFrame:
    """Add `film` (row of films.npy, -1 = none) and `film_hours`; a film that could not be read is none."""
    found = pairs.with_columns(film=pl.Series(row[pairs["film"].to_numpy()], dtype=pl.Int32))
    return samples.join(
        found.filter(pl.col("film") >= 0), on="stay_id", how="left", maintain_order="left"
    ).with_columns(pl.col("film").fill_null(-1), pl.col("film_hours").fill_null(float("nan")))


def _write_normaliser(draft: Draft, samples: pl.DataFrame) -> None:
    normaliser = Normaliser.fit(
        np.load(draft.file("values.npy"), mmap_mode="r"),
        (samples["split"] == "train").to_numpy(),
        samples["n_rows"].to_numpy(),
        np.array([not variable.is_categorical for variable in VARIABLES]),
    )
    draft.write_json("normaliser.json", normaliser.to_json())


def _attrition(table: str, unit: Literal["rows", "stays"], before: int, left_out: Mapping[str, int]) -> Attrition:
    attrition = Attrition(table, unit)
    attrition.before = before
    for rule, dropped in left_out.items():
        attrition.drop(rule, dropped)
    return attrition


def _log_summary(samples: pl.DataFrame, labels: tuple[str, ...], *left_out: Attrition) -> None:
    for attrition in left_out:
        log.info("preprocess: %s", attrition)
    for split in splits.SPLITS:
        part = samples.filter(pl.col("split") == split)
        prevalence = ", ".join(f"{name} {_percent(part[name].fill_nan(None).mean())}" for name in labels)
        log.info(
            "preprocess: %s: %d stays, %d with a film; %s", split, len(part), (part["film"] >= 0).sum(), prevalence
        )


def _percent(share: Any) -> str:
    return "unknown" if share is None else f"{share:.1%}"
