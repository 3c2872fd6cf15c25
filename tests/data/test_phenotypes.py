"""Which code makes which of the 25 labels, under both protocols and in both coding eras."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionctl.data.phenotypes import era_table, eras, label_codes, labels_of, phenotypes

RENAL, LUNG, SHOCK, DIABETES = (
    "Acute and unspecified renal failure",
    "Respiratory failure; insufficiency; arrest (adult)",
    "Shock",
    "Diabetes mellitus with complications",
)
HYPERTENSION = "Essential hypertension"
SEPSIS = "Septicemia (except in labor)"


def diagnoses(*rows):
    """(hadm_id, icd_code, icd_version)"""
    schema = {"hadm_id": pl.Int64, "icd_code": pl.String, "icd_version": pl.Int8}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def names(code, version, protocol="paper"):
    return label_codes(diagnoses((1, code, version)), protocol)["name"].to_list()


def test_the_25_of_the_benchmark():
    table = phenotypes()
    assert len(table) == 25
    assert [p.name for p in table] == sorted(p.name for p in table) and len({p.name for p in table}) == 25
    assert {p.type for p in table} == {"acute", "chronic", "mixed"}


def test_codes_are_written_without_dots_and_in_capitals_and_no_prefix_is_there_twice():
    for p in phenotypes():
        for codes in (p.icd9, p.icd10, p.legacy):
            assert codes and all(code.isalnum() and code.isascii() and code == code.upper() for code in codes), p.name
        for prefixes in (p.icd9, p.icd10):
            again = [(a, b) for a in prefixes for b in prefixes if a != b and a.startswith(b)]
            assert len(set(prefixes)) == len(prefixes) and not again, (p.name, again)


@pytest.mark.parametrize(
    ("code", "version", "expected"),
    [
        ("5849", 9, [RENAL]),
        ("N179", 10, [RENAL]),
        ("N17", 10, [RENAL]),
        ("51881", 9, [LUNG]),
        ("J9601", 10, [LUNG]),  # acute hypoxic respiratory failure, which the legacy table misses
        ("25000", 9, ["Diabetes mellitus without complication"]),
        ("E1165", 10, [DIABETES]),
        ("I10", 10, [HYPERTENSION]),
        ("R6521", 10, [SEPSIS, SHOCK]),  # severe sepsis with septic shock: two labels
        ("Z3800", 10, []),
        ("V5867", 9, []),
    ],
)
def test_codes_belong_to_a_label_by_prefix(code, version, expected):
    assert names(code, version) == expected


def test_a_prefix_counts_in_its_own_version_only():
    assert names("E119", 10) == ["Diabetes mellitus without complication"] and names("E119", 9) == []
    assert names("4280", 9) != [] and names("4280", 10) == []
    # V450... is ICD-9 for a heart device and ICD-10 for a driver of a car; V420 likewise.
    assert names("V4501", 9) == ["Conduction disorders"] and names("V4501", 10) == []
    assert names("V420", 9) == ["Chronic kidney disease"] and names("V420XXA", 10) == []


def test_a_prefix_is_no_part_in_the_middle():
    assert names("XN17", 10) == [] and names("1584", 9) == [] and names("N1", 10) == [] and names("", 10) == []


@pytest.mark.parametrize("protocol", ["paper", "legacy"])
def test_dots_in_codes_do_not_matter(protocol):
    for dotted, version in (("N17.9", 10), ("584.9", 9), ("I10.", 10), ("250.60", 9)):
        plain = names(dotted.replace(".", ""), version, protocol)
        assert plain and names(dotted, version, protocol) == plain


def test_legacy_compares_icd_10_codes_whole_and_whatever_their_version():
    assert names("N179", 10, "legacy") == [RENAL]
    assert names("N17", 10, "legacy") == [] and names("N1791", 10, "legacy") == []
    assert names("J9600", 10, "legacy") == [LUNG] and names("J9601", 10, "legacy") == []
    assert names("N179", 9, "legacy") == [RENAL]  # its codes are joined without their version
    assert names("5849", 9, "legacy") == [RENAL] and names("5849", 10, "legacy") == []


@given(st.sampled_from(["N179", "584", "I10", "V450", "E1165", "R6521"]), st.text("0123456789XA", max_size=3))
def test_a_longer_code_keeps_the_labels_of_its_prefix(code, more):
    version = 9 if code[0] in "5V" else 10
    assert set(names(code, version)) <= set(names(code + more, version))


def test_labels_of_admissions():
    found = labels_of(
        pl.Series("hadm_id", [13, 11, 12]),
        diagnoses((11, "N179", 10), (11, "N170", 10), (11, "R6521", 10), (12, "Z3800", 10), (99, "I10", 10)),
        "paper",
    )
    assert found["hadm_id"].to_list() == [13, 11, 12]  # the order that was asked for
    assert found.columns == ["hadm_id", *(p.name for p in phenotypes())]
    assert set(found.dtypes[1:]) == {pl.Float32}
    assert {n for n in found.columns[1:] if found[n][1] == 1} == {RENAL, SHOCK, SEPSIS}
    assert set(found.row(2)[1:]) == {0.0}  # coded, with none of the 25
    assert np.isnan(found.row(0)[1:]).all()  # never coded: unknown


def test_an_admission_without_any_diagnosis_has_no_label_in_legacy():
    found = labels_of(pl.Series([11, 12]), diagnoses((11, "N179", 10)), "legacy")
    assert set(found.row(1)[1:]) == {0.0} and found[RENAL].to_list() == [1.0, 0.0]


@pytest.mark.parametrize("protocol", ["paper", "legacy"])
def test_no_admission_or_no_diagnosis(protocol):
    assert labels_of(pl.Series([], dtype=pl.Int64), diagnoses((11, "N179", 10)), protocol).height == 0
    found = labels_of(pl.Series([11]), diagnoses(), protocol)
    assert all(math.isnan(v) if protocol == "paper" else v == 0 for v in found.row(0)[1:])


def test_eras_by_hand():
    rows = diagnoses(
        *((11, "5849", 9), (11, "58489", 9), (11, "I10", 10)),  # mostly ICD-9: renal failure twice
        (12, "V1582", 9),  # ICD-9, none of the labels
        *((13, "N179", 10), (13, "5849", 9)),  # even: counts as ICD-10
        *((14, "I10", 10), (14, "Z3800", 10)),
        (99, "N179", 10),  # not among the samples
    )
    admissions = pl.Series("hadm_id", [11, 12, 13, 14, 15])  # 15 has no diagnosis: of no era
    records = eras(admissions, rows, labels_of(admissions, rows, "paper"), "paper")
    assert [r["label"] for r in records] == [p.name for p in phenotypes()]
    by_name = {r["label"]: r for r in records}
    assert by_name[RENAL] == {
        "label": RENAL,
        "ICD-9": {"diagnoses": 3, "admissions": 2, "positive": 1, "prevalence": 0.5},
        "ICD-10": {"diagnoses": 1, "admissions": 2, "positive": 1, "prevalence": 0.5},
    }
    assert by_name[HYPERTENSION]["ICD-9"] == {"diagnoses": 0, "admissions": 2, "positive": 1, "prevalence": 0.5}
    assert by_name[HYPERTENSION]["ICD-10"] == {"diagnoses": 2, "admissions": 2, "positive": 1, "prevalence": 0.5}
    shown = era_table(records)
    assert shown["title"] == "Phenotypes by coding era (2 ICD-9, 2 ICD-10 admissions)"
    assert shown["rows"][0] == [RENAL, "3", "1", "50.0%", "1", "1", "50.0%"]
    assert all(len(row) == len(shown["header"]) for row in shown["rows"])


def test_an_era_without_admissions_has_no_prevalence():
    rows, admissions = diagnoses((11, "N179", 10)), pl.Series("hadm_id", [11])
    records = eras(admissions, rows, labels_of(admissions, rows, "paper"), "paper")
    assert records[0]["ICD-9"] == {"diagnoses": 0, "admissions": 0, "positive": 0, "prevalence": None}
    assert era_table(records)["rows"][0] == [RENAL, "0", "0", "–", "1", "1", "100.0%"]
    assert era_table([])["rows"] == []
