"""A raw MIMIC tree of a few hand-written rows, for tests of exact numbers and of damaged files."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

HEADERS = {
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,race,hospital_expire_flag",
    "hosp/diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "hosp/labevents": "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,value,"
    "valuenum,valueuom,ref_range_lower,ref_range_upper,flag,priority,comments",
    "icu/icustays": "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los",
    "icu/chartevents": "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,valueuom,"
    "warning",
    "hosp/d_labitems": "itemid,label,fluid,category",
    "cxr/mimic-cxr-2.0.0-metadata": "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns,StudyDate,StudyTime",
    "cxr/mimic-cxr-2.0.0-chexpert": "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,"
    "Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,"
    "Pneumonia,Pneumothorax,Support Devices",
}

# A tree without rows in these has no such file.
OPTIONAL = ("hosp/d_labitems",)
# As the open demo 2.2 has them, and one item that is not read.
LAB_ITEMS = (
    (50809, "Glucose", "Blood", "Blood Gas"),
    (50817, "Oxygen Saturation", "Blood", "Blood Gas"),
    (50820, "pH", "Blood", "Blood Gas"),
    (50931, "Glucose", "Blood", "Chemistry"),
    (51478, "Glucose", "Urine", "Hematology"),
)
LAYOUTS = ("v1.0", "v2.0", "v2.2", "v3.1")
# Columns that came with v2.2; v1.0 keeps two tables in core/ and calls race otherwise.
_SINCE_V2_2 = ("caregiver_id", "order_provider_id")
_CORE = ("hosp/patients", "hosp/admissions")


def at(hour: float, day: int = 1) -> str:
    """A time `hour` hours after 2150-03-01 00:00 (day 1), as MIMIC writes it."""
    minutes = round(hour * 60)
    return f"2150-03-{day + minutes // 1440:02d} {minutes // 60 % 24:02d}:{minutes % 60:02d}:00"


class RawTree:
    """Rows by table, as dicts; `write` puts them under a folder in MIMIC's layout.

    It begins with one patient (10000001), one admission (20000001, hours 0 to 120) and one stay (30000001, hours 2 to
    62), whose heart rate was charted once.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in HEADERS}
        self.add_stay(1)
        self.chart(1, 220045, 80, hour=3)
        self.add("hosp/labevents", itemid=50912, subject_id=10000001, hadm_id=20000001, charttime=at(3), valuenum=1)
        self.add("hosp/diagnoses_icd", subject_id=10000001, hadm_id=20000001, seq_num=1, icd_code="I10", icd_version=10)

    def add(self, table: str, **row: Any) -> None:
        self.rows[table].append(row)

    def add_stay(self, n: int, *, subject: int | None = None, admission: int | None = None, **changes: Any) -> None:
        subject_id, hadm_id = 10000000 + (subject or n), 20000000 + (admission or n)
        if subject is None:
            patient = {"gender": "F", "anchor_age": 60, "anchor_year": 2150, "anchor_year_group": "2011 - 2013"}
            self.add("hosp/patients", subject_id=subject_id, **patient)
        if admission is None:
            times = {"admittime": at(0), "dischtime": at(120)}
            self.add("hosp/admissions", subject_id=subject_id, hadm_id=hadm_id, race="OTHER", **times)
        stay = {"subject_id": subject_id, "hadm_id": hadm_id, "stay_id": 30000000 + n, "los": 2.5}
        units = {"first_careunit": "MICU", "last_careunit": "MICU"}
        self.add("icu/icustays", **(stay | units | {"intime": at(2), "outtime": at(62)} | changes))

    def chart(
        self, n: int, itemid: int, value: Any, *, hour: float, stored: float | None = None, **changes: Any
    ) -> None:
        ids = {"subject_id": 10000000 + n, "hadm_id": 20000000 + n, "stay_id": 30000000 + n, "itemid": itemid}
        number = {"value": value, "valuenum": value if isinstance(value, (int, float)) else ""}
        times = {"charttime": at(hour), "storetime": at(stored if stored is not None else hour)}
        self.add("icu/chartevents", **(ids | number | times | changes))

    def lab(self, n: int, itemid: int, value: Any, *, hour: float, **changes: Any) -> None:
        ids = {"subject_id": 10000000 + n, "hadm_id": 20000000 + n, "itemid": itemid}
        rest = {"value": value, "valuenum": value, "charttime": at(hour), "storetime": at(hour)}
        self.add("hosp/labevents", **(ids | rest | changes))

    def film(self, dicom_id: str, *, subject_id: int, study_id: int, **changes: Any) -> None:
        row = {"ViewPosition": "AP", "StudyDate": 21500301, "StudyTime": 53000.323}
        ids = {"dicom_id": dicom_id, "subject_id": subject_id, "study_id": study_id}
        self.add("cxr/mimic-cxr-2.0.0-metadata", **(ids | row | changes))

    def lab_items(self) -> None:
        """Add the table that says what the laboratory's items are."""
        names = HEADERS["hosp/d_labitems"].split(",")
        self.rows["hosp/d_labitems"] = [dict(zip(names, row, strict=True)) for row in LAB_ITEMS]

    def write(self, folder: Path, *, suffix: str = ".csv.gz", layout: str = "v2.2") -> Path:
        """Write the tables as a release lays them out; v3.1 differs from v2.2 in the years that patients are from."""
        for table, rows in self.rows.items():
            if rows or table not in OPTIONAL:
                name = table.replace("hosp/", "core/") if layout == "v1.0" and table in _CORE else table
                path = folder / f"{name}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                data = self.text(table, layout).encode()
                path.write_bytes(gzip.compress(data, mtime=0) if suffix.endswith(".gz") else data)
        return folder

    def text(self, table: str, layout: str = "v2.2") -> str:
        out, names = io.StringIO(), HEADERS[table].split(",")
        if layout in ("v1.0", "v2.0"):
            names = [name for name in names if name not in _SINCE_V2_2]
        writer = csv.DictWriter(out, names, restval="", lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows[table])
        header, newline, rows = out.getvalue().partition("\n")
        if layout == "v1.0":
            header = header.replace("race", "ethnicity")
        if layout == "v3.1" and table == "hosp/patients":
            rows = rows.replace("2011 - 2013", "2020 - 2022", 1)
        return header + newline + rows


def rewrite(path: Path, change: Any) -> None:
    """Replace the text of a .csv.gz file by a function of it."""
    text = gzip.decompress(path.read_bytes()).decode()
    changed = change(text)
    path.write_bytes(gzip.compress(changed if isinstance(changed, bytes) else changed.encode(), mtime=0))
