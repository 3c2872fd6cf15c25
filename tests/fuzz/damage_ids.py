"""Damages to identifiers: that cannot be, are twice there, or belong to nobody."""

from __future__ import annotations

from broken_tree import GLUCOSE, HEART_RATE
from damages import damage
from outcome import Counted, Error, Same, Warned

_ID_TABLES = ("patients", "admissions", "icustays", "metadata", "chexpert")
_IDS = {
    "empty": "",
    "negative": "-10000032",
    "zero": "0",
    "with decimals": "10000032.0",
    "in scientific notation": "1e7",
    "of thirty digits": "9" * 30,
    "of letters": "p10000032",
    "with blanks": " 10000032 ",
    "with a comma": "10,000,032",
    "in other digits": "١٠٠٠٠٠٣٢",
    "hexadecimal": "0x989680",
    "NULL": "NULL",
    "NaN": "nan",
}
for _name, _value in _IDS.items():

    @damage(
        "ids",
        Error(r": line 2: column 'subject_id' must be a whole number above 0; got"),
        _ID_TABLES,
        name=f"id {_name}",
    )
    def _(tree, table, value=_value):
        tree.set(table, "subject_id", value)


@damage("ids", Same(), ("patients", "admissions", "icustays", "metadata", "chexpert"))
def ids_with_leading_zeros(tree, table):
    tree.set_all(table, "subject_id", lambda text: f"00{text}")


_KEYS = {
    "patients": "subject_id",
    "admissions": "hadm_id",
    "icustays": "stay_id",
    "metadata": "dicom_id",
    "chexpert": "study_id",
    "test_labels": "study_id",
}


@damage("ids", Error(r": line 3: .* must be unique; this row repeats an earlier one"), tuple(_KEYS))
def row_twice(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, [*rows[:2], rows[1], *rows[2:]])


@damage("ids", Error(r": line 3: .* must be unique"), ("patients", "admissions", "icustays", "metadata"))
def id_of_another_row(tree, table):
    tree.set(table, _KEYS[table], tree.rows(table)[1][tree.rows(table)[0].index(_KEYS[table])], records=[2])


@damage(
    "ids",
    Error(r": line \d+: column 'hadm_id' must be a whole number above 0"),
    ("chartevents", "labevents", "diagnoses_icd"),
)
def admission_id_with_decimals(tree, table):
    tree.set_all(table, "hadm_id", lambda text: f"{text}.0" if text else "")


@damage("ids", Counted("the patient is unknown", table="icustays"))
def patient_missing(tree):
    tree.drop("patients", "subject_id", tree.lone["subject_id"])


@damage("ids", Counted("the patient has no such admission", table="icustays"))
def admission_missing(tree):
    tree.drop("admissions", "hadm_id", tree.lone["hadm_id"])


@damage("ids", Counted("the patient has no such admission", table="icustays"))
def admission_of_another_patient(tree):
    tree.set_of("admissions", "hadm_id", tree.lone["hadm_id"], "subject_id", "19999999")


@damage("ids", Counted("the admission has several stays left", 2, table="icustays"))
def two_stays_of_one_admission(tree):
    rows = tree.rows("icustays")
    twin = next(row for row in rows if tree.lone["stay_id"] in row)
    tree.put_rows("icustays", [*rows, ["39999999" if text == tree.lone["stay_id"] else text for text in twin]])


@damage("ids", Error(r"no ICU stay is left after the cohort's rules \(icustays: 30 stays, 0 kept", file="ICU stay"))
def tables_of_two_data_sets(tree):
    tree.set_all("admissions", "hadm_id", lambda text: str(int(text) + 5_000_000))


@damage("ids", Error(r"nothing was measured: \d+", file="no ICU stay is left"))
def events_of_another_data_set(tree):
    for table in ("chartevents", "labevents"):
        tree.set_all(table, "hadm_id", lambda text: str(int(text) + 5_000_000) if text else "29999999")


@damage("ids", Warned(r"extract: none of \d+ rows of diagnoses_icd is kept"))
def diagnoses_of_another_data_set(tree):
    tree.set_all("diagnoses_icd", "hadm_id", lambda text: str(int(text) + 5_000_000))


@damage("ids", Warned(r"extract: none of \d+ rows of chartevents is kept"))
def chart_of_unknown_items(tree):
    tree.set_all("chartevents", "itemid", lambda text: "1" + text[1:])


@damage("ids", Warned(r"extract: \d+ of \d+ films are of studies without labels"))
def labels_of_another_data_set(tree):
    tree.set_all("chexpert", "subject_id", lambda text: str(int(text) + 5_000_000))


@damage("ids", Counted("no film of the study is listed", table="chexpert"))
def labels_of_a_study_without_films(tree):
    rows = tree.rows("chexpert")
    tree.put_rows("chexpert", [*rows, [rows[1][0], "59999999", *rows[1][2:]]])


@damage("ids", Counted("hadm_id missing", 3, table="chartevents"))
def chart_rows_without_admission(tree):
    tree.set("chartevents", "hadm_id", "", records=tree.of_stay("chartevents", HEART_RATE)[:3])


@damage("ids", Counted("stay is not the admission's", 2, table="chartevents"))
def chart_rows_of_another_stay(tree):
    tree.set("chartevents", "stay_id", "39999999", records=tree.of_stay("chartevents", HEART_RATE)[:2])


@damage("ids", Same())
def chart_rows_without_stay(tree):
    tree.set("chartevents", "stay_id", "", records=tree.of_stay("chartevents", HEART_RATE))


@damage("ids", Counted("hadm_id missing and not one kept admission", 2, table="labevents"))
def laboratory_rows_of_nobody(tree):
    records = tree.of_stay("labevents", GLUCOSE)[:2]
    tree.set("labevents", "hadm_id", "", records=records)
    tree.set("labevents", "subject_id", "19999999", records=records)


@damage("ids", Same(inputs_only=True), ("chartevents", "labevents"))
def event_rows_twice(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, [rows[0], *(row for row in rows[1:] for _ in range(2))])
