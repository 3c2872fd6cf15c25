"""Headers and folders of the MIMIC releases as the synthetic tree writes them, and the CSV writer.

The headers are those of MIMIC-IV v1.0, v2.2 and v3.1 and of MIMIC-CXR-JPG 2.0.0 (PhysioNet).
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import polars as pl

from fusionctl.data.variables import CHEXPERT_LABELS

Layout = Literal["v1", "v2", "v3"]
LAYOUTS: tuple[Layout, ...] = ("v1", "v2", "v3")

MARKER_TEXT = """This directory tree is synthetic. It was written by `fusionctl synth`.
No row and no picture comes from a patient. Results on it say nothing about medicine.
Made from layout {layout}, seed {seed}, {stays} stays.
"""

_HEADERS = {
    "patients": "subject_id gender anchor_age anchor_year anchor_year_group dod",
    "admissions": "subject_id hadm_id admittime dischtime deathtime admission_type admit_provider_id "
    "admission_location discharge_location insurance language marital_status race edregtime edouttime "
    "hospital_expire_flag",
    "transfers": "subject_id hadm_id transfer_id eventtype careunit intime outtime",
    "diagnoses_icd": "subject_id hadm_id seq_num icd_code icd_version",
    "d_icd_diagnoses": "icd_code icd_version long_title",
    "d_labitems": "itemid label fluid category",
    "labevents": "labevent_id subject_id hadm_id specimen_id itemid order_provider_id charttime storetime value "
    "valuenum valueuom ref_range_lower ref_range_upper flag priority comments",
    "icustays": "subject_id hadm_id stay_id first_careunit last_careunit intime outtime los",
    "chartevents": "subject_id hadm_id stay_id caregiver_id charttime storetime itemid value valuenum valueuom warning",
    "outputevents": "subject_id hadm_id stay_id caregiver_id charttime storetime itemid value valueuom",
    "d_items": "itemid label abbreviation linksto category unitname param_type lownormalvalue highnormalvalue",
}
_ICU = {"icustays", "chartevents", "outputevents", "d_items"}
_CORE_IN_V1 = {"patients", "admissions", "transfers"}
_NOT_IN_V1 = {"admit_provider_id", "order_provider_id", "caregiver_id"}

_CXR_HEADERS = {
    "metadata": (
        "dicom_id",
        "subject_id",
        "study_id",
        "PerformedProcedureStepDescription",
        "ViewPosition",
        "Rows",
        "Columns",
        "StudyDate",
        "StudyTime",
        "ProcedureCodeSequence_CodeMeaning",
        "ViewCodeSequence_CodeMeaning",
        "PatientOrientationCodeSequence_CodeMeaning",
    ),
    "chexpert": ("subject_id", "study_id", *CHEXPERT_LABELS),
    "negbio": ("subject_id", "study_id", *CHEXPERT_LABELS),
    "split": ("dicom_id", "study_id", "subject_id", "split"),
}


def tables() -> tuple[str, ...]:
    """Names of the MIMIC-IV tables that the synthetic tree holds."""
    return tuple(_HEADERS)


def header(table: str, layout: Layout) -> list[str]:
    """Column names of a MIMIC-IV table, in the order of the given release."""
    columns = _HEADERS[table].split()
    if layout != "v1":
        return columns
    columns = ["ethnicity" if name == "race" else name for name in columns if name not in _NOT_IN_V1]
    return [*columns, "loinc_code"] if table == "d_labitems" else columns


def table_path(table: str, layout: Layout) -> str:
    """Path of a MIMIC-IV table below the MIMIC root, as `folder/name.csv.gz`."""
    if table in _ICU:
        return f"icu/{table}.csv.gz"
    folder = "core" if layout == "v1" and table in _CORE_IN_V1 else "hosp"
    return f"{folder}/{table}.csv.gz"


class CsvGz:
    """A `.csv.gz` file written frame by frame; the same frames give the same bytes.

    The gzip header holds neither a time nor a name, and level 1 keeps the writing quick.

    Args:
        path: file to write; its folder is made when missing.
        columns: header; every frame is cut down to these columns, in this order.
    """

    def __init__(self, path: Path, columns: list[str] | tuple[str, ...]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._columns = list(columns)
        self._raw = path.open("wb")
        self._gzip = gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", compresslevel=1, mtime=0)
        self._gzip.write((",".join(self._columns) + "\n").encode())

    def write(self, frame: pl.DataFrame) -> None:
        """Append the rows of a frame; nulls become empty fields."""
        buffer = io.BytesIO()
        frame.select(self._columns).write_csv(buffer, include_header=False, datetime_format="%Y-%m-%d %H:%M:%S")
        self._gzip.write(buffer.getbuffer())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._gzip.close()
        finally:
            self._raw.close()


def write_table(root: Path, table: str, layout: Layout, frame: pl.DataFrame) -> None:
    """Write one whole MIMIC-IV table below `root`; `race` is renamed where the release calls it `ethnicity`."""
    with open_table(root, table, layout) as file:
        file.write(_fit(frame, layout))


def open_table(root: Path, table: str, layout: Layout) -> CsvGz:
    """Open a MIMIC-IV table below `root` for writing frame by frame."""
    return CsvGz(root / table_path(table, layout), header(table, layout))


def cxr_writer(root: Path) -> Callable[[str, pl.DataFrame], None]:
    """A function that writes one of the metadata, chexpert, negbio and split tables below the CXR root."""

    def write(table: str, frame: pl.DataFrame) -> None:
        with CsvGz(root / f"mimic-cxr-2.0.0-{table}.csv.gz", _CXR_HEADERS[table]) as file:
            file.write(frame)

    return write


def _fit(frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    if layout == "v1":
        return frame.rename({"race": "ethnicity"}, strict=False).with_columns(loinc_code=pl.lit(None, pl.String))
    return frame
