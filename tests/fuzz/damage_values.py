"""Damages to values: ids, times, numbers, codes and labels that cannot be, or contradict each other."""

from __future__ import annotations

from datetime import datetime, timedelta

from damages import cell, damage
from outcome import Counted, Error, Read, Same, Warned

_HEART_RATE, _GLUCOSE, _EYES = ("220045",), ("50931",), ("220739",)
_DOUBT = r"extract: of \d+ stays 1 have "


def shifted(time: str, **delta: float) -> str:
    return str(datetime.fromisoformat(time) + timedelta(**delta))


# --- ids

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
    tree.set("chartevents", "hadm_id", "", records=tree.of_stay("chartevents", _HEART_RATE)[:3])


@damage("ids", Counted("stay is not the admission's", 2, table="chartevents"))
def chart_rows_of_another_stay(tree):
    tree.set("chartevents", "stay_id", "39999999", records=tree.of_stay("chartevents", _HEART_RATE)[:2])


@damage("ids", Same())
def chart_rows_without_stay(tree):
    tree.set("chartevents", "stay_id", "", records=tree.of_stay("chartevents", _HEART_RATE))


@damage("ids", Counted("hadm_id missing and not one kept admission", 2, table="labevents"))
def laboratory_rows_of_nobody(tree):
    records = tree.of_stay("labevents", _GLUCOSE)[:2]
    tree.set("labevents", "hadm_id", "", records=records)
    tree.set("labevents", "subject_id", "19999999", records=records)


@damage("ids", Same(inputs_only=True), ("chartevents", "labevents"))
def event_rows_twice(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, [rows[0], *(row for row in rows[1:] for _ in range(2))])


# --- items

_ITEM = Error(r": line \d+: column 'itemid' must be a whole number; got ")
for _name, _value in {
    "negative": "-220045",
    "with decimals": "220045.0",
    "of letters": "HR",
    "of ten digits": "2200450000",
    "with a blank": " 220045",
}.items():

    @damage(
        "items",
        _ITEM,
        ("chartevents", "labevents", "d_labitems")
        if _name in ("of letters", "with decimals", "with a blank")
        else ("chartevents", "labevents"),
        name=f"item {_name}",
    )
    def _(tree, table, value=_value):
        tree.set(table, "itemid", value, records=[3])


@damage("items", Counted("item of no variable", 2, table="chartevents"))
def item_empty(tree):
    tree.set("chartevents", "itemid", "", records=tree.of_stay("chartevents", _HEART_RATE)[:2])


@damage("items", Counted("item of no variable", 2, table="chartevents"))
def item_unknown(tree):
    tree.set("chartevents", "itemid", "99999999", records=tree.of_stay("chartevents", _HEART_RATE)[:2])


@damage(
    "items", Error(r": line \d+: item 50931 must be glucose in blood; it is bilirubin in blood", file="d_labitems.csv")
)
def laboratory_item_that_means_another_thing(tree):
    tree.set("d_labitems", "label", "Bilirubin", records=tree.records("d_labitems", "itemid", _GLUCOSE))


@damage("items", Error(r": line \d+: item 50931 must be glucose in blood", file="d_labitems.csv"))
def laboratory_item_without_a_name(tree):
    tree.set("d_labitems", "label", "", records=tree.records("d_labitems", "itemid", _GLUCOSE))


@damage("items", Same())
def laboratory_items_in_capitals(tree):
    tree.set_all("d_labitems", "label", str.upper)


@damage("items", Same())
def laboratory_items_that_are_not_named(tree):
    tree.drop("d_labitems", "itemid", _GLUCOSE[0])


# --- times

_NO_TIME = {
    "of another country": "31.12.2150 10:00:00",
    "of a spreadsheet": "12/31/2150 10:00",
    "with am or pm": "2150-12-31 10:00 PM",
    "with a named month": "31-Dec-2150 10:00",
    "of two digits a year": "50-12-31 10:00:00",
    "before 1900": "1001-01-01 00:00:00",
    "in the year 9999": "9999-12-31 23:59:59",
    "in the year 12345": "12345-01-01 00:00:00",
    "in the year 0": "0000-00-00 00:00:00",
    "on 30 February": "2150-02-30 10:00:00",
    "on 29 February of no leap year": "2151-02-29 10:00:00",
    "at 24:00": "2150-12-31 24:00:00",
    "at 10:61": "2150-12-31 10:61:00",
    "in seconds since 1970": "5712345678",
    "as a serial number": "91234.5",
    "with a zone": "2150-12-31 10:00:00Z",
    "with an offset": "2150-12-31 10:00:00+02:00",
    "without a time of day": "2150-12-31",
    "of words": "yesterday",
    "with a minus": "-2150-12-31 10:00:00",
}
_TIMES = {"admissions": "dischtime", "icustays": "intime", "chartevents": "charttime", "labevents": "charttime"}
for _name, _value in _NO_TIME.items():

    @damage(
        "times",
        Error(r": line \d+: column '\w+' must be a time like 2150-01-31 23:59:00, from 1900"),
        tuple(_TIMES),
        name=f"time {_name}",
    )
    def _(tree, table, value=_value):
        items = {"chartevents": _HEART_RATE, "labevents": _GLUCOSE}.get(table)
        tree.set(table, _TIMES[table], value, records=tree.of_stay(table, items)[:1] if items else [1])


@damage("times", Same(), tuple(_TIMES))
def times_with_a_letter_t(tree, table):
    tree.set_all(table, _TIMES[table], lambda text: text.replace(" ", "T"))


@damage("times", Same(), tuple(_TIMES))
def times_with_fractions_of_seconds(tree, table):
    tree.set_all(table, _TIMES[table], lambda text: f"{text}.000" if text else "")


@damage("times", Same())
def dates_with_a_time_of_day(tree):
    tree.set_all("patients", "dod", lambda text: f"{text} 00:00:00" if text else "")


for _name, _value in {
    "in the year 9999": "9999-12-31",
    "of zeros": "0000-00-00",
    "of another country": "31.12.2150",
}.items():
    cell(
        "times",
        f"date of death {_name}",
        "patients",
        "dod",
        _value,
        Error(r": line 2: column 'dod' must be a date like 2150-01-31"),
    )


@damage("times", Counted("intime or outtime missing, or outtime before intime", table="icustays"))
def stay_that_ends_before_it_begins(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "outtime", shifted(tree.lone["intime"], hours=-1))


@damage("times", Counted("intime or outtime missing, or outtime before intime", table="icustays"))
def stay_without_a_begin(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "intime", "")


@damage("times", Counted("intime or outtime missing, or outtime before intime", table="icustays"))
def stay_without_an_end(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "outtime", "")


@damage("times", Counted("longer than 10,000 h", table="icustays"))
def stay_of_fifty_years(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "outtime", shifted(tree.lone["intime"], days=50 * 365))


@damage("times", Counted("longer than 10,000 h", table="icustays"))
def stay_from_1900_on(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "intime", "1900-01-01 00:00:00")


@damage("times", Read())
def stay_of_no_duration(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "outtime", tree.lone["intime"])


@damage("times", Warned(_DOUBT + "their whole stay outside of their admission"))
def stay_years_after_its_admission(tree):
    for column, years in (("admittime", -3), ("dischtime", -3)):
        tree.set_of(
            "admissions", "hadm_id", tree.lone["hadm_id"], column, shifted(tree.lone["intime"], days=years * 365)
        )


@damage("times", Warned(_DOUBT + "no time of discharge after admission"))
def admission_without_an_end(tree):
    tree.set_of("admissions", "hadm_id", tree.lone["hadm_id"], "dischtime", "")


@damage("times", Warned(_DOUBT + "no time of discharge after admission"))
def admission_that_ends_before_it_begins(tree):
    tree.set_of("admissions", "hadm_id", tree.lone["hadm_id"], "dischtime", shifted(tree.lone["intime"], days=-30))


@damage("times", Counted("age at admission", table="icustays"))
def admission_without_a_begin(tree):
    tree.set_of("admissions", "hadm_id", tree.lone["hadm_id"], "admittime", "")


@damage("times", Warned(_DOUBT + "a death before the day of admission"))
def death_years_before_the_admission(tree):
    tree.set_of("patients", "subject_id", tree.lone["subject_id"], "dod", shifted(tree.lone["intime"], days=-900)[:10])
    tree.set_of("admissions", "hadm_id", tree.lone["hadm_id"], "deathtime", "")


@damage("times", Counted("charttime missing", 2), ("chartevents", "labevents"))
def events_without_a_time(tree, table):
    items = _HEART_RATE if table == "chartevents" else _GLUCOSE
    tree.set(table, "charttime", "", records=tree.of_stay(table, items)[:2])


@damage(
    "times",
    Warned(r"extract: of \d+ events 2 are charted more than a year from their stay's begin"),
    ("chartevents", "labevents"),
)
def events_decades_later(tree, table):
    items = _HEART_RATE if table == "chartevents" else _GLUCOSE
    tree.set(table, "charttime", "2290-01-01 00:00:00", records=tree.of_stay(table, items)[:2])


@damage("times", Read(), ("chartevents", "labevents"))
def events_never_stored(tree, table):
    tree.set_all(table, "storetime", lambda text: "")


@damage("times", Read(), ("chartevents", "labevents"))
def events_stored_before_they_were_charted(tree, table):
    tree.set_all(table, "storetime", lambda text: "2100-01-01 00:00:00")


# --- ages and numbers

for _name, _value in {
    "negative": "-5",
    "of 300": "300",
    "empty": "",
    "of a child": "17",
    "not a number": "NaN",
    "infinite": "inf",
    "of minus infinity": "-inf",
    "of 1e300": "1e300",
}.items():

    @damage("ages", Counted("age at admission below 18, above 120 or unknown", table="icustays"), name=f"age {_name}")
    def _(tree, value=_value):
        tree.set_of("patients", "subject_id", tree.lone["subject_id"], "anchor_age", value)


for _name, _value in {"empty": "", "of 0": "0", "far ahead": "999999999", "negative": "-2150"}.items():

    @damage(
        "ages",
        Counted("age at admission below 18, above 120 or unknown", table="icustays"),
        name=f"anchor year {_name}",
    )
    def _(tree, value=_value):
        tree.set_of("patients", "subject_id", tree.lone["subject_id"], "anchor_year", value)


for _name, _value in {
    "in words": "sixty",
    "with a comma": "64,5",
    "with a unit": "64 years",
    "of a range": "60-69",
    "above": "> 89",
}.items():
    cell(
        "ages",
        f"age {_name}",
        "patients",
        "anchor_age",
        _value,
        Error(r": line 2: column 'anchor_age' must be a number; got"),
    )
for _name, _value in {"with decimals": "2150.0", "of thirty digits": "9" * 30, "of a range": "2008 - 2010"}.items():
    cell(
        "ages",
        f"anchor year {_name}",
        "patients",
        "anchor_year",
        _value,
        Error(r": line 2: column 'anchor_year' must be a whole number; got"),
    )
cell("ages", "sex that is no code", "patients", "gender", "?", Read())
cell("ages", "sex empty", "patients", "gender", "", Read())
cell("ages", "race empty", "admissions", "race", "", Read())


@damage("ages", Counted("first and last care unit differ or are unknown", table="icustays"))
def care_unit_empty(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "first_careunit", "")


@damage("ages", Counted("first and last care unit differ or are unknown", table="icustays"))
def care_units_differ(tree):
    tree.set_of("icustays", "stay_id", tree.lone["stay_id"], "last_careunit", "Elsewhere")


_NO_NUMBER = {"empty": "", "not a number": "NaN", "infinite": "inf", "of minus infinity": "-Infinity"}
for _name, _value in _NO_NUMBER.items():

    @damage("numbers", Counted("no number in valuenum", 2), ("chartevents", "labevents"), name=f"value {_name}")
    def _(tree, table, value=_value):
        tree.set(
            table,
            "valuenum",
            value,
            records=tree.of_stay(table, _HEART_RATE if table == "chartevents" else _GLUCOSE)[:2],
        )


for _name, _value in {
    "huge": "1e300",
    "beyond all numbers": "1e999",
    "negative": "-80",
    "of minus a million": "-1000000",
    "of six digits": "999999",
}.items():
    _rule = "no number in valuenum" if _name == "beyond all numbers" else ""

    @damage("numbers", Counted(_rule or ("Heart Rate outside"), 2, table="chartevents"), name=f"value {_name}")
    def _(tree, value=_value):
        tree.set("chartevents", "valuenum", value, records=tree.of_stay("chartevents", _HEART_RATE)[:2])


for _name, _value in {
    "with a comma": "12,5",
    "with a unit": "80 bpm",
    "of underscores": "___",
    "of text": "ERROR",
    "with two points": "1.2.3",
    "of another language": "١٢",
}.items():

    @damage(
        "numbers",
        Error(r": line \d+: column 'valuenum' must be a number; got"),
        ("chartevents", "labevents"),
        name=f"value {_name}",
    )
    def _(tree, table, value=_value):
        tree.set(
            table,
            "valuenum",
            value,
            records=tree.of_stay(table, _HEART_RATE if table == "chartevents" else _GLUCOSE)[:1],
        )


for _name, _value in {
    "unknown": "Wide awake",
    "empty": "",
    "of ten thousand letters": "x" * 10_000,
    "of an emoji": "\U0001f9e0",
    "of a formula": "=1+1",
}.items():

    @damage(
        "numbers",
        Counted("text is none of the variable's categories", 2, table="chartevents"),
        name=f"category {_name}",
    )
    def _(tree, value=_value):
        tree.set(
            "chartevents",
            "value",
            value,
            records=tree.records("chartevents", "itemid", _EYES)[:2]
            if not tree.lone
            else tree.of_stay("chartevents", _EYES)[:2],
        )


@damage("numbers", Same())
def categories_in_capitals_and_blanks(tree):
    rows = tree.rows("chartevents")
    place = rows[0].index("value")
    eyes = set(tree.records("chartevents", "itemid", _EYES))
    tree.put_rows(
        "chartevents",
        [[*r[:place], f"  {r[place].upper()} ", *r[place + 1 :]] if i in eyes else r for i, r in enumerate(rows)],
    )


@damage("numbers", Counted("no number in value", 2, table="chartevents"))
def value_too_large_for_the_legacy_protocol(tree):
    tree.arguments += ["--protocol", "legacy"]
    tree.set("chartevents", "value", "1e39", records=tree.of_stay("chartevents", _HEART_RATE)[:2])


# --- diagnoses

for _name, _value in {"11": "11", "0": "0", "of -9": "-9", "empty": "", "of 300": "300"}.items():

    @damage(
        "diagnoses",
        Counted("code missing, or icd_version neither 9 nor 10", table="diagnoses_icd"),
        name=f"icd version {_name}",
    )
    def _(tree, value=_value):
        tree.set("diagnoses_icd", "icd_version", value, records=tree.of_stay("diagnoses_icd")[:1])


for _name, _value in {
    "in words": "ICD10",
    "with decimals": "9.0",
    "of thirty digits": "1" * 30,
    "in Roman numerals": "IX",
}.items():
    cell(
        "diagnoses",
        f"icd version {_name}",
        "diagnoses_icd",
        "icd_version",
        _value,
        Error(r": line 2: column 'icd_version' must be a whole number; got"),
    )


@damage("diagnoses", Counted("code missing", table="diagnoses_icd"))
def diagnosis_without_a_code(tree):
    tree.set("diagnoses_icd", "icd_code", "  ", records=tree.of_stay("diagnoses_icd")[:1])


@damage("diagnoses", Same())
def codes_in_small_letters(tree):
    tree.set_all("diagnoses_icd", "icd_code", str.lower)


@damage("diagnoses", Same())
def codes_with_blanks(tree):
    tree.set_all("diagnoses_icd", "icd_code", lambda text: f" {text}  ")


@damage("diagnoses", Same())
def codes_with_dots(tree):
    tree.set_all("diagnoses_icd", "icd_code", lambda text: f"{text[:3]}.{text[3:]}" if len(text) > 3 else text)


@damage("diagnoses", Warned(r"extract: of \d+ diagnoses \d+ are codes that are none of their icd_version"))
def versions_exchanged(tree):
    tree.set_all("diagnoses_icd", "icd_version", {"9": "10", "10": "9"}.__getitem__)


@damage("diagnoses", Warned(r"extract: of \d+ diagnoses \d+ are codes of ICD-9 none of which begins with 0"))
def leading_zeros_of_codes_lost(tree):
    rows = tree.rows("diagnoses_icd")
    place = rows[0].index("icd_code")
    stripped = [[*r[:place], r[place].lstrip("0"), *r[place + 1 :]] for r in rows[1:]]
    tree.put_rows("diagnoses_icd", [rows[0], *(row for row in stripped for _ in range(20))])


@damage("diagnoses", Read())
def diagnoses_twice(tree):
    rows = tree.rows("diagnoses_icd")
    tree.put_rows("diagnoses_icd", [rows[0], *rows[1:], *rows[1:]])


@damage("diagnoses", Error(r": line 2: column 'icd_version' must be a whole number", file="diagnoses_icd.csv"))
def code_and_version_exchanged(tree):
    rows = tree.rows("diagnoses_icd")
    code, version = rows[0].index("icd_code"), rows[0].index("icd_version")
    for row in rows[1:]:
        row[code], row[version] = row[version], "V" + row[code]
    tree.put_rows("diagnoses_icd", rows)


@damage("diagnoses", Read())
def code_of_ten_thousand_letters(tree):
    tree.set("diagnoses_icd", "icd_code", "A" * 10_000, records=tree.of_stay("diagnoses_icd")[:1])


# --- films' tables

for _name, _value in {
    "empty": "",
    "of 0": "0",
    "negative": "-21500101",
    "on 31 February": "21500231",
    "of six digits": "215001",
    "in the month 13": "21501301",
    "in the year 9999": "99991231",
    "in the year 1001": "10010101",
    "of nine digits": "215001011",
}.items():

    @damage(
        "film table",
        Counted("StudyDate or StudyTime is missing or impossible", table="films"),
        name=f"study date {_name}",
    )
    def _(tree, value=_value):
        tree.set("metadata", "StudyDate", value)


for _name, _value in {
    "empty": "",
    "at 25 o'clock": "250000.0",
    "of 60 minutes": "126000.0",
    "of 60 seconds": "120060.0",
    "negative": "-120000.0",
    "not a number": "NaN",
    "infinite": "inf",
    "huge": "1e300",
}.items():

    @damage(
        "film table",
        Counted("StudyDate or StudyTime is missing or impossible", table="films"),
        name=f"study time {_name}",
    )
    def _(tree, value=_value):
        tree.set("metadata", "StudyTime", value)


cell(
    "film table",
    "study date with dashes",
    "metadata",
    "StudyDate",
    "2150-01-01",
    Error(r": line 2: column 'StudyDate' must be a whole number"),
)
cell(
    "film table",
    "study date with decimals",
    "metadata",
    "StudyDate",
    "21500101.0",
    Error(r": line 2: column 'StudyDate' must be a whole number"),
)
cell(
    "film table",
    "study time with colons",
    "metadata",
    "StudyTime",
    "12:30:00",
    Error(r": line 2: column 'StudyTime' must be a number"),
)
cell("film table", "view unknown", "metadata", "ViewPosition", "UPSIDE DOWN", Read())
cell("film table", "view empty", "metadata", "ViewPosition", "", Read())
for _name, _value in {
    "of 2": "2.0",
    "of a half": "0.5",
    "in words": "positive",
    "not a number": "nan",
    "infinite": "-inf",
}.items():

    @damage(
        "film table",
        Error(r": line 2: column 'Edema' must be 1, 0, -1 or empty; got"),
        ("chexpert", "test_labels"),
        name=f"label {_name}",
    )
    def _(tree, table, value=_value):
        tree.set(table, "Edema", value)


@damage("film table", Same())
def views_in_small_letters_and_blanks(tree):
    tree.set_all("metadata", "ViewPosition", lambda text: f" {text.lower()} ")


@damage("film table", Same())
def labels_as_whole_numbers(tree):
    header, *rows = tree.rows("chexpert")
    tree.put_rows("chexpert", [header, *([*row[:2], *(text.partition(".")[0] for text in row[2:])] for row in rows)])


@damage("film table", Error(r": line 1: column 'study_id' is missing", file="chexpert.csv"))
def labels_without_studies(tree):
    tree.put_rows("chexpert", [[row[0], *row[2:]] for row in tree.rows("chexpert")])


@damage("film table", Error(r": line 2: column 'dicom_id' must be a text; got nothing", file="metadata.csv"))
def film_without_a_name(tree):
    tree.set("metadata", "dicom_id", "")
