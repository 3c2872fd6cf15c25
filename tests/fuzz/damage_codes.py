"""Damages to codes: of items and of diagnoses."""

from __future__ import annotations

from broken_tree import GLUCOSE, HEART_RATE
from damages import cell, damage
from outcome import Counted, Error, Read, Same, Warned

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
    tree.set("chartevents", "itemid", "", records=tree.of_stay("chartevents", HEART_RATE)[:2])


@damage("items", Counted("item of no variable", 2, table="chartevents"))
def item_unknown(tree):
    tree.set("chartevents", "itemid", "99999999", records=tree.of_stay("chartevents", HEART_RATE)[:2])


@damage(
    "items", Error(r": line \d+: item 50931 must be glucose in blood; it is bilirubin in blood", file="d_labitems.csv")
)
def laboratory_item_that_means_another_thing(tree):
    tree.set("d_labitems", "label", "Bilirubin", records=tree.records("d_labitems", "itemid", GLUCOSE))


@damage("items", Error(r": line \d+: item 50931 must be glucose in blood", file="d_labitems.csv"))
def laboratory_item_without_a_name(tree):
    tree.set("d_labitems", "label", "", records=tree.records("d_labitems", "itemid", GLUCOSE))


@damage("items", Same())
def laboratory_items_in_capitals(tree):
    tree.set_all("d_labitems", "label", str.upper)


@damage("items", Same())
def laboratory_items_that_are_not_named(tree):
    tree.drop("d_labitems", "itemid", GLUCOSE[0])


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
