"""The table of chest films: when each was taken, from which view, where it lies, and its study's labels."""

from __future__ import annotations

from typing import Any

import polars as pl

from fusionctl.data.attrition import Attrition
from fusionctl.data.mimic import film_path
from fusionctl.data.variables import CHEXPERT_LABELS

# Dates beyond these are no dates of films, moved to the future as MIMIC's or not.
_FIRST_DATE, _LAST_DATE = 1900_01_01, 2299_12_31

FILM_COLUMNS: dict[str, Any] = {
    "subject_id": pl.Int64,
    "study_id": pl.Int64,
    "dicom_id": pl.String,
    "path": pl.String,
    "view": pl.String,
    "study_time": pl.Datetime("us"),
    "labelled_by": pl.String,
    **dict.fromkeys(CHEXPERT_LABELS, pl.Float32),
}


def no_films() -> pl.DataFrame:
    """The table of a data set without films."""
    return pl.DataFrame(schema=FILM_COLUMNS)


def build_films(
    metadata: pl.DataFrame,
    labels: pl.DataFrame,
    attrition: Attrition,
    *,
    labeller: str = "chexpert",
    test_labels: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """All films of all patients, sorted by patient, time and dicom_id.

    Args:
        metadata: the raw table, typed; one row a film.
        labels: the labeller's table, typed; one row a study.
        attrition: counts rows by rule.
        labeller: who made `labels` from the reports, "chexpert" or "negbio".
        test_labels: study_id and the 14 labels of the studies that radiologists labelled (MIMIC-CXR-JPG 2.1.0); all
            14 take the place of the labeller's. Their "Airspace Opacity" comes as "Lung Opacity".

    Returns:
        `FILM_COLUMNS`. Labels are 1, 0, -1 (uncertain) or NaN (not mentioned, or the study was not labelled);
        `labelled_by` is the labeller's name, "radiologist", or "" for a study that nobody labelled.
    """
    attrition.before += metadata.height
    films = metadata.with_columns(study_time=study_time("StudyDate", "StudyTime"))
    films = attrition.keep("StudyDate or StudyTime is missing or impossible", films, pl.col("study_time").is_not_null())
    films = films.join(_labelled(labels, labeller), on=["subject_id", "study_id"], how="left")
    if test_labels is not None:
        films = _replaced(films, test_labels)
    return films.select(
        *("subject_id", "study_id", "dicom_id"),
        film_path("subject_id", "study_id", "dicom_id").alias("path"),
        pl.col("ViewPosition").fill_null("").str.strip_chars().str.to_uppercase().alias("view"),
        "study_time",
        pl.col("labelled_by").fill_null(""),
        *(pl.col(label).cast(pl.Float32).fill_null(float("nan")) for label in CHEXPERT_LABELS),
    ).sort("subject_id", "study_time", "dicom_id")


def count_labels(labels: pl.DataFrame, metadata: pl.DataFrame, attrition: Attrition) -> None:
    """Count the labelled studies of which no film is listed.

    Args:
        labels: the labeller's table, typed; one row a study.
        metadata: the raw table of films, typed.
        attrition: counts rows by rule.
    """
    attrition.before += labels.height
    listed = labels.join(metadata, on=["subject_id", "study_id"], how="semi").height
    attrition.drop("no film of the study is listed", labels.height - listed)


def _labelled(labels: pl.DataFrame, by: str) -> pl.DataFrame:
    return labels.select("subject_id", "study_id", *CHEXPERT_LABELS, labelled_by=pl.lit(by))


def _replaced(films: pl.DataFrame, test_labels: pl.DataFrame) -> pl.DataFrame:
    """The films, those of a study in `test_labels` with its labels: an empty cell there replaces a label, too."""
    names = [*CHEXPERT_LABELS, "labelled_by"]
    better = test_labels.select("study_id", *CHEXPERT_LABELS, labelled_by=pl.lit("radiologist"))
    joined = films.join(better, on="study_id", how="left", suffix=":radiologist")
    is_better = pl.col("labelled_by:radiologist").is_not_null()
    return joined.with_columns(
        pl.when(is_better).then(pl.col(f"{name}:radiologist")).otherwise(pl.col(name)).alias(name) for name in names
    )


def study_time(date: str, time: str) -> pl.Expr:
    """Moment of a study from YYYYMMDD and HHMMSS.fff, both stored as numbers, so that leading zeros are lost.

    Args:
        date: whole-number column, e.g. 21331018.
        time: number column, e.g. 53000.323 for 05:30:00.323.

    Returns:
        Datetime in microseconds, exact to the millisecond; null where date or time of day is impossible.
    """
    thousandths = (pl.col(time) * 1000).round().cast(pl.Int64, strict=False)
    hours, minutes = thousandths // 10_000_000, thousandths // 100_000 % 100
    milliseconds = thousandths % 100_000
    possible = hours.is_between(0, 23) & (minutes < 60) & (milliseconds < 60_000)
    possible &= pl.col(date).is_between(_FIRST_DATE, _LAST_DATE)
    day = pl.col(date).cast(pl.String).str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us"))
    return pl.when(possible).then(day + pl.duration(hours=hours, minutes=minutes, milliseconds=milliseconds))
