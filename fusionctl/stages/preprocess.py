"""Stage `preprocess`: from events and films to arrays that models read.

extract: stays, events, diagnoses   ->  samples.parquet, values.npy, observed.npy, normaliser.json
films: the cache of all films       ->  films.npy (the same file), films.parquet, pairs.parquet
                                        pairing.json, attrition.json, phenotypes.json, tables.json
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from fusionctl import parquet
from fusionctl.data import guards, pairing, series, split_file, splits
from fusionctl.data import phenotypes as pheno
from fusionctl.data.attrition import Attrition, table_of
from fusionctl.data.normaliser import Normaliser
from fusionctl.data.npy import NpyAppender
from fusionctl.data.variables import CHEXPERT_LABELS, VARIABLES
from fusionctl.errors import InputError, UsageError
from fusionctl.settings import PreprocessSettings, Runtime
from fusionctl.tasks import TASKS
from fusionctl.workdir import Artifact, Draft

log = logging.getLogger("fusionctl")

_STAY_COLUMNS = ("stay_id", "subject_id", "hadm_id", "intime", "age", "sex", "race", "care_unit")
_CATEGORICAL = np.array([variable.is_categorical for variable in VARIABLES])


def run(draft: Draft, settings: PreprocessSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write the samples, their series and films, and what was left out.

    Raises:
        InputError: no sample is left, the films' cache is missing, or the file of the split is not one.
        LeakError: a guard found a leak in what was written.
        UsageError: two settings do not go together.
    """
    extract: Artifact = inputs["extract"]
    stays, diagnoses = (parquet.read(extract.file(f"{name}.parquet")) for name in ("stays", "diagnoses"))
    check(settings, inputs.get("split_file"))
    split_of = _Splitter(settings, inputs.get("split_file"))
    samples, stays_left_out = _grid(draft, extract, stays, diagnoses, settings, runtime)
    samples = samples.with_columns(split=split_of(samples["subject_id"], warn=True))
    samples, films_left_out = _films(draft, extract, inputs.get("films"), samples, split_of, settings)
    samples.write_parquet(draft.file("samples.parquet"))
    _write_normaliser(draft, samples, settings.normaliser)
    hours = pairing.summary(*(samples[n].to_numpy() for n in ("film_hours", "window_hours", "split", "n_films")))
    draft.write_json("pairing.json", hours)
    draft.write_json("attrition.json", stays_left_out.rows() + films_left_out.rows())
    guards.check_preprocessed(draft.path)
    draft.rows["samples"] = len(samples)
    tables = [table_of([stays_left_out, films_left_out]), pairing.terminal_table(hours)]
    draft.write_json("tables.json", tables + _eras(draft, samples, diagnoses, settings))
    _log_summary(samples, TASKS[settings.task].labels)


def check(settings: PreprocessSettings, listed: Path | None) -> None:
    """Check what one setting alone does not tell.

    Args:
        settings: the stage's settings.
        listed: `--split-file`.

    Raises:
        InputError: the file of the split is not one.
        UsageError: two settings do not go together, or one breaks its rule.
    """
    pairing.parse_window(settings.film_window)
    _Splitter(settings, listed)(pl.Series([0]))


class _Splitter:
    """Gives patients their split: by a list, by folds, or by the paper's shares."""

    def __init__(self, settings: PreprocessSettings, listed: Path | None) -> None:
        if listed and settings.folds:
            raise UsageError("--split-file and --folds both say who is for testing", hint="give one of them")
        self._folds, self._fold = settings.folds, settings.fold
        self._listed = split_file.read_split_file(listed) if listed else None
        self._path = listed

    def __call__(self, subject_ids: pl.Series, *, warn: bool = False) -> pl.Series:
        ids = subject_ids.to_numpy()
        if self._listed is not None:
            names, unlisted = split_file.assign(ids, self._listed)
            if unlisted and warn:
                log.warning(
                    "preprocess: %d of %d patients stand on no list of %s and are all for training: the lists are of "
                    "another release. Without --split-file every patient is in a split by its own id.",
                    *(unlisted, subject_ids.n_unique(), self._path),
                )
        else:
            names = splits.folds(ids, self._folds, self._fold) if self._folds else splits.assign(ids)
        return pl.Series(names, dtype=pl.String)


def _grid(
    draft: Draft,
    extract: Artifact,
    stays: pl.DataFrame,
    diagnoses: pl.DataFrame,
    settings: PreprocessSettings,
    runtime: Runtime,
) -> tuple[pl.DataFrame, Attrition]:
    """Write values.npy and observed.npy; the samples, sorted by stay_id, and the stays that were left out."""
    protocol = settings.protocol
    task = TASKS[settings.task]
    chosen, left_out = task.samples(stays, diagnoses, protocol=protocol, window_hours=settings.window_hours)
    normal = [variable.imputed(protocol) for variable in VARIABLES]
    fill, carry = series.filling(settings.impute, normal, _CATEGORICAL)
    grid = series.write_grid(
        extract.file("events.parquet"),
        draft.path,
        chosen["stay_id"].to_numpy(),
        chosen["window_hours"].to_numpy(),
        timestep=settings.timestep,
        fill=fill,
        carry=carry,
        available_at=settings.available_at,
        progress=lambda done, total: runtime.progress("events on the grid", done, total),
    )
    draft.rows["values"] = int(grid.n_rows.sum())
    if settings.available_at == "storetime":
        draft.rows |= {"events_never_stored": grid.never_stored, "events_stored_late": grid.late}
        said = "preprocess: %d events of the windows left out because stored only later, %d without a time of storing"
        log.info(said, grid.late, grid.never_stored)
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
    return samples, _attrition("stays", "stays", len(stays), left_out)


def _films(
    draft: Draft,
    extract: Artifact,
    cache: Artifact | None,
    samples: pl.DataFrame,
    split_of: _Splitter,
    settings: PreprocessSettings,
) -> tuple[pl.DataFrame, Attrition]:
    """Write films.npy, films.parquet and pairs.parquet; the samples with their films, and the films left out."""
    films = parquet.read(extract.file("films.parquet")).with_row_index("film").cast({"film": pl.Int32})
    if len(films) and cache is None:
        raise InputError(f"extract/{extract.id} lists {len(films)} films; their cache is missing", hint=_RUN_FILMS)
    readable = pl.Series(np.zeros(0, bool))
    if cache is not None:
        readable = parquet.read(cache.file("films.parquet"))["readable"]
        if len(readable) != len(films):
            what = f"films/{cache.id} has {len(readable)} films, extract/{extract.id} lists {len(films)}"
            raise InputError(f"{what}; rule: the cache of the films that extract lists", hint=_RUN_FILMS)
    _take_films(draft, cache)
    usable = films.filter(readable)
    usable = usable.with_columns(split=split_of(usable["subject_id"]))
    columns = ("film", "subject_id", "study_id", "split", "view", "study_time", "labelled_by", *CHEXPERT_LABELS)
    usable.select(columns).write_parquet(draft.file("films.parquet"))
    pairs = pairing.pair(samples, usable, view=settings.film_view, pick=settings.film_pick, window=settings.film_window)
    pairs.write_parquet(draft.file("pairs.parquet"))
    draft.rows |= {"films": len(usable), "pairs": len(pairs)}
    chosen = pairing.film_of(pairs)
    joined = samples.join(chosen, on="stay_id", how="left", maintain_order="left")
    filled = (
        pl.col("film").fill_null(-1),
        pl.col("film_hours").fill_null(float("nan")),
        pl.col("n_films").fill_null(0),
    )
    left_out = {"unreadable, treated as absent": len(films) - len(usable)}
    return joined.with_columns(*filled), _attrition("films", "rows", len(films), left_out)


_RUN_FILMS = "run first: fusionctl films --cxr-root DIR, then choose it with --films ID"


def _take_films(draft: Draft, cache: Artifact | None) -> None:
    """Make the cache's array a file of this artifact: the same file where the disk allows it, else a copy."""
    target = draft.file("films.npy")
    if cache is None:
        with NpyAppender(target, (1, 1), np.uint8):
            return
    try:
        os.link(cache.file("films.npy"), target)
    except OSError:
        shutil.copyfile(cache.file("films.npy"), target)


def _write_normaliser(draft: Draft, samples: pl.DataFrame, kind: Literal["standard", "robust"]) -> None:
    normaliser = Normaliser.fit(
        np.load(draft.file("values.npy"), mmap_mode="r"),
        (samples["split"] == "train").to_numpy(),
        samples["n_rows"].to_numpy(),
        ~_CATEGORICAL,
        kind=kind,
    )
    draft.write_json("normaliser.json", normaliser.to_json())


def _eras(
    draft: Draft, samples: pl.DataFrame, diagnoses: pl.DataFrame, settings: PreprocessSettings
) -> list[dict[str, Any]]:
    """Of phenotyping: write phenotypes.json, and the table of labels by coding era."""
    if settings.task != "phenotyping":
        return []
    labels = samples.select("hadm_id", *TASKS["phenotyping"].labels)
    records = pheno.eras(samples["hadm_id"], diagnoses, labels, settings.protocol)
    draft.write_json("phenotypes.json", records)
    return [pheno.era_table(records)]


def _attrition(table: str, unit: Literal["rows", "stays"], before: int, left_out: Mapping[str, int]) -> Attrition:
    attrition = Attrition(table, unit)
    attrition.before = before
    for rule, dropped in left_out.items():
        attrition.drop(rule, dropped)
    return attrition


def _log_summary(samples: pl.DataFrame, labels: tuple[str, ...]) -> None:
    for split in splits.SPLITS:
        part = samples.filter(pl.col("split") == split)
        shares = [part[name].fill_nan(None).mean() for name in labels]
        known = [float(share) for share in shares if isinstance(share, float)]
        prevalence = f"{sum(known) / len(known):.1%}" if known else "unknown"
        what = "prevalence" if len(labels) == 1 else f"mean prevalence of {len(labels)} labels"
        paired = (part["film"] >= 0).sum()
        log.info("preprocess: %s: %d stays, %d with a film; %s %s", split, len(part), paired, what, prevalence)
