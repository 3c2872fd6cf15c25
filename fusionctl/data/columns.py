"""The columns that are read of each raw table of MIMIC-IV and MIMIC-CXR-JPG, as their releases call them."""

from __future__ import annotations

from fusionctl.data.tables import Column
from fusionctl.data.variables import CHEXPERT_LABELS

COLUMNS: dict[str, tuple[Column, ...]] = {
    "patients": (
        Column("subject_id", "id", required=True),
        Column("gender", "text"),
        Column("anchor_age", "number"),
        Column("anchor_year", "whole"),
        Column("anchor_year_group", "text"),
        Column("dod", "date"),
    ),
    "admissions": (
        Column("subject_id", "id", required=True),
        Column("hadm_id", "id", required=True),
        Column("admittime", "time"),
        Column("dischtime", "time"),
        Column("deathtime", "time"),
        Column("race", "text", aliases=("ethnicity",)),
    ),
    "icustays": (
        Column("subject_id", "id", required=True),
        Column("hadm_id", "id", required=True),
        Column("stay_id", "id", required=True),
        Column("first_careunit", "text"),
        Column("last_careunit", "text"),
        Column("intime", "time"),
        Column("outtime", "time"),
    ),
    "diagnoses_icd": (Column("hadm_id", "id"), Column("icd_code", "text"), Column("icd_version", "whole")),
    "chartevents": (
        Column("hadm_id", "id"),
        Column("stay_id", "id"),
        Column("charttime", "time"),
        Column("storetime", "time"),
        Column("itemid", "whole"),
        Column("value", "text"),
        Column("valuenum", "number"),
    ),
    "labevents": (
        Column("subject_id", "id"),
        Column("hadm_id", "id"),
        Column("charttime", "time"),
        Column("storetime", "time"),
        Column("itemid", "whole"),
        Column("value", "text"),
        Column("valuenum", "number"),
    ),
    "metadata": (
        Column("dicom_id", "text", required=True),
        Column("subject_id", "id", required=True),
        Column("study_id", "id", required=True),
        Column("ViewPosition", "text"),
        Column("StudyDate", "whole"),
        Column("StudyTime", "number"),
    ),
    "chexpert": (
        Column("subject_id", "id", required=True),
        Column("study_id", "id", required=True),
        *(Column(label, "label") for label in CHEXPERT_LABELS),
    ),
}
COLUMNS["negbio"] = COLUMNS["chexpert"]
# The radiologists' labels of MIMIC-CXR-JPG 2.1.0 are by study alone, and call one finding otherwise.
COLUMNS["test_labels"] = (
    Column("study_id", "id", required=True),
    *(
        Column(label, "label", aliases=("Airspace Opacity",) if label == "Lung Opacity" else ())
        for label in CHEXPERT_LABELS
    ),
)
COLUMNS["d_labitems"] = (Column("itemid", "whole", required=True), Column("label", "text"), Column("fluid", "text"))
