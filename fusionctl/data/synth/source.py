"""Read the stays of an existing MIMIC-IV tree, for which synthetic films are to be made."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from fusionctl.data.synth.story import Bools, Ints
from fusionctl.errors import InputError

_TIME = "%Y-%m-%d %H:%M:%S"


class SourceStays(NamedTuple):
    """Stays of an existing tree, sorted by stay_id: subject, times in seconds since 1970, death in hospital (S,)."""

    subject_id: Ints
    intime: Ints
    outtime: Ints
    died: Bools


def read_stays(mimic_root: Path) -> SourceStays:
    """Read icustays and admissions of a MIMIC-IV tree of any layout.

    Raises:
        InputError: a table is missing, unreadable, lacks a column or holds an unreadable value.
    """
    stays = _read(mimic_root, "icustays", ("subject_id", "hadm_id", "stay_id", "intime", "outtime"))
    admissions = _read(mimic_root, "admissions", ("hadm_id", "hospital_expire_flag"))
    flags = admissions.unique("hadm_id", keep="last", maintain_order=True)
    joined = stays.join(flags, on="hadm_id", how="left", maintain_order="left").sort("stay_id")
    died = joined["hospital_expire_flag"].fill_null(0).to_numpy() == 1
    return SourceStays(joined["subject_id"].to_numpy(), _seconds(joined["intime"]), _seconds(joined["outtime"]), died)


def _seconds(column: pl.Series) -> Ints:
    return column.dt.epoch("s").to_numpy().astype(np.int64)


def _read(root: Path, table: str, columns: tuple[str, ...]) -> pl.DataFrame:
    path = _find(root, table)
    try:
        frame = pl.read_csv(path, infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: not a readable CSV file", hint="check the file, e.g. with gzip -t") from error
    frame = frame.rename({name: name.strip().lower() for name in frame.columns})
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: column {', '.join(missing)} is missing", hint="give --mimic-root the root of a MIMIC-IV release"
        )
    return frame.select(_parsed(frame[name], path) for name in columns)


def _parsed(column: pl.Series, path: Path) -> pl.Series:
    """A column of texts as int64 or, for times, datetimes."""
    if column.name in ("intime", "outtime"):
        values = column.str.to_datetime(_TIME, time_unit="ms", strict=False)
    else:
        values = column.cast(pl.Int64, strict=False)
    if values.has_nulls():
        line = int(values.is_null().arg_max() or 0) + 2
        rule = "a time like 2150-01-31 23:59:00" if values.dtype == pl.Datetime else "a whole number"
        raise InputError(f"{path}: line {line}, column {column.name}: not {rule}", hint="mend or replace the file")
    return values


def _find(root: Path, table: str) -> Path:
    for folder in ("icu", "hosp", "core"):
        for ending in (".csv.gz", ".csv"):
            path = root / folder / f"{table}{ending}"
            if path.is_file():
                return path
    raise InputError(
        f"{root}: no {table}.csv.gz or {table}.csv in icu/, hosp/ or core/",
        hint="give --mimic-root the root of a MIMIC-IV release",
    )
