"""Damages to ages, care units, numbers and categories."""

from __future__ import annotations

from broken_tree import EYES, GLUCOSE, HEART_RATE
from damages import cell, damage
from outcome import Counted, Error, Read, Same

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
            records=tree.of_stay(table, HEART_RATE if table == "chartevents" else GLUCOSE)[:2],
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
        tree.set("chartevents", "valuenum", value, records=tree.of_stay("chartevents", HEART_RATE)[:2])


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
            records=tree.of_stay(table, HEART_RATE if table == "chartevents" else GLUCOSE)[:1],
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
            records=tree.records("chartevents", "itemid", EYES)[:2]
            if not tree.lone
            else tree.of_stay("chartevents", EYES)[:2],
        )


@damage("numbers", Same())
def categories_in_capitals_and_blanks(tree):
    rows = tree.rows("chartevents")
    place = rows[0].index("value")
    eyes = set(tree.records("chartevents", "itemid", EYES))
    tree.put_rows(
        "chartevents",
        [[*r[:place], f"  {r[place].upper()} ", *r[place + 1 :]] if i in eyes else r for i, r in enumerate(rows)],
    )


@damage("numbers", Counted("no number in value", 2, table="chartevents"))
def value_too_large_for_the_legacy_protocol(tree):
    tree.arguments += ["--protocol", "legacy"]
    tree.set("chartevents", "value", "1e39", records=tree.of_stay("chartevents", HEART_RATE)[:2])
