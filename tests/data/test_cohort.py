"""Every rule of the cohort, and what is known of a kept stay."""

from datetime import datetime, timedelta

import polars as pl
import pytest

from fusionctl.data.attrition import Attrition
from fusionctl.data.cohort import (
    STAY_COLUMNS,
    build_diagnoses,
    build_stays,
    doubtful_codes,
    doubts,
    hours_between,
    keep_measured,
)
from fusionctl.errors import InputError

START = datetime(2150, 3, 1)


def hour(value):
    return None if value is None else START + timedelta(hours=value)


def patients(*rows):
    """(subject, anchor_age, anchor_year, dod in hours)"""
    columns = ("subject_id", "anchor_age", "anchor_year", "dod")
    data = [(s, float(age), year, hour(dod)) for s, age, year, dod in rows]
    schema = dict(zip(columns, (pl.Int64, pl.Float64, pl.Int64, pl.Datetime("us")), strict=True))
    frame = pl.DataFrame(data, schema=schema, orient="row")
    return frame.with_columns(gender=pl.lit("F"), anchor_year_group=pl.lit("2011 - 2013")).with_row_index("line", 2)


def admissions(*rows):
    """(subject, hadm, admittime, dischtime, deathtime), times in hours"""
    columns = ("subject_id", "hadm_id", "admittime", "dischtime", "deathtime")
    schema = dict.fromkeys(columns[:2], pl.Int64) | dict.fromkeys(columns[2:], pl.Datetime("us"))
    frame = pl.DataFrame([(s, h, *map(hour, times)) for s, h, *times in rows], schema=schema, orient="row")
    return frame.with_columns(race=pl.lit(None, pl.String)).with_row_index("line", 2)


def icustays(*rows):
    """(subject, hadm, stay, first unit, last unit, intime, outtime), times in hours"""
    columns = ("subject_id", "hadm_id", "stay_id", "first_careunit", "last_careunit", "intime", "outtime")
    types = [pl.Int64] * 3 + [pl.String] * 2 + [pl.Datetime("us")] * 2
    data = [(*row[:5], hour(row[5]), hour(row[6])) for row in rows]
    frame = pl.DataFrame(data, schema=dict(zip(columns, types, strict=True)), orient="row")
    return frame.with_row_index("line", 2)


def counts(attrition):
    entries = attrition.rows()
    for earlier, later in zip(entries, entries[1:], strict=False):
        assert later["before"] == earlier["kept"] == earlier["before"] - earlier["dropped"]
    return [entry["dropped"] for entry in entries]


def test_each_rule_drops_what_it_says():
    stays = icustays(
        (1, 11, 101, "A", "A", 0, 72),  # kept
        (1, 11, 102, "A", "B", 80, 90),  # a transfer; leaves 101 the only stay of its admission
        (2, 21, 201, None, None, 0, 72),  # units unknown
        (2, 99, 202, "A", "A", 0, 72),  # no such admission
        (3, 21, 203, "A", "A", 0, 72),  # the admission is somebody else's
        (4, 41, 401, "A", "A", 0, 72),  # the patient is unknown
        (5, 51, 501, "A", "A", 0, 30),  # two stays
        (5, 51, 502, "A", "A", 40, 90),
        (6, 61, 601, "A", "A", 0, 72),  # 17 years old
        (7, 71, 701, "A", "A", 0, 72),  # age unknown: no admittime
        (8, 81, 801, "A", "A", 10, 9),  # reversed
        (9, 91, 901, "A", "A", 10, None),  # no outtime
        (9, 92, 902, "A", "A", 10, 10),  # kept: of no length
    )
    visits = admissions(
        *((1, 11, 0, 99, None), (2, 21, 0, 99, None), (4, 41, 0, 99, None), (5, 51, 0, 99, None)),
        *((6, 61, 0, 99, None), (7, 71, None, 99, None), (8, 81, 0, 99, None), (9, 91, 0, 99, None)),
        (9, 92, 0, 99, None),
    )
    people = patients(*((s, 17 if s == 6 else 50, 2150, None) for s in (1, 2, 3, 5, 6, 7, 8, 9)))
    attrition = Attrition("icustays", "stays")
    kept = build_stays(stays, visits, people, attrition)
    assert kept["stay_id"].to_list() == [101, 902]
    assert attrition.before == 13 and attrition.kept == 2
    assert counts(attrition) == [2, 2, 1, 2, 2, 2, 0]
    assert kept.schema == pl.Schema(STAY_COLUMNS)


def test_age_is_counted_to_the_admission():
    stays = icustays((1, 11, 101, "A", "A", 0, 9), (2, 21, 201, "A", "A", 0, 9), (3, 31, 301, "A", "A", 0, 9))
    visits = admissions((1, 11, 0, 9, None), (2, 21, 0, 9, None), (3, 31, 0, 9, None))
    # Admitted in 2150: anchored at 16 two years before, at 60 ten years later, at 17 in the same year.
    kept = build_stays(
        stays,
        visits,
        patients((1, 16, 2148, None), (2, 60, 2160, None), (3, 17, 2150, None)),
        Attrition("icustays", "stays"),
    )
    assert dict(kept.select("stay_id", "age").rows()) == {101: 18.0, 201: 50.0}


def test_legacy_takes_the_age_of_the_anchor_year():
    stays = icustays(*((n, n * 10, n * 100, "A", "A", 0, 9) for n in (1, 2, 3)))
    visits = admissions(*((n, n * 10, 0, 9, None) for n in (1, 2, 3)))
    people = patients((1, 17, 2140, None), (2, 18, 2160, None), (3, 40, None, None))
    found = {}
    for protocol in ("paper", "legacy"):
        attrition = Attrition("icustays", "stays")
        kept = build_stays(stays, visits, people, attrition, protocol)
        found[protocol] = dict(kept.select("stay_id", "age").rows())
        assert counts(attrition)[4] == 3 - len(kept)
    assert found == {"paper": {100: 27.0}, "legacy": {200: 18.0, 300: 40.0}}


@pytest.mark.parametrize(
    ("deathtime", "dod", "died", "death"),
    [
        (None, None, False, None),
        (50, None, True, 50),
        (99, None, True, 99),  # at the very end
        (99.5, None, False, 99.5),
        (None, 96, True, 96),  # a date: midnight of the day of discharge
        (None, 120, False, 120),  # after discharge (v2.2 and v3.1 know such deaths)
        (None, -24, False, -24),
        (50, 48, True, 50),
    ],
)
def test_death_in_hospital_is_a_time_within_the_admission(deathtime, dod, died, death):
    kept = build_stays(
        icustays((1, 11, 101, "A", "A", 0, 72)),
        admissions((1, 11, 0, 99, deathtime)),
        patients((1, 50, 2150, dod)),
        Attrition("icustays", "stays"),
    )
    assert kept["died_in_hospital"].to_list() == [died]
    assert kept["death_time"].to_list() == [hour(death)]


def test_an_empty_cohort_is_an_error_with_the_counts():
    with pytest.raises(InputError, match="no ICU stay is left .*icustays: 1 stays, 0 kept; .*differ or are unknown: 1"):
        build_stays(
            icustays((1, 11, 101, "A", "B", 0, 72)),
            admissions((1, 11, 0, 99, None)),
            patients((1, 50, 2150, None)),
            Attrition("icustays", "stays"),
        )


def test_a_stay_without_events_is_left_out():
    attrition = Attrition("icustays", "stays")
    attrition.before = 3
    stays = pl.DataFrame({"stay_id": [1, 2, 3]})
    assert keep_measured(stays, pl.Series([3, 1, 7]), attrition)["stay_id"].to_list() == [1, 3]
    assert counts(attrition) == [1]
    with pytest.raises(InputError, match="nothing was measured: 4"):
        keep_measured(stays, pl.Series([], dtype=pl.Int64), attrition)


def test_hours_are_the_nearest_double():
    seconds = list(range(-7, 400_000, 61))
    frame = pl.DataFrame({"a": [START] * len(seconds), "b": [START + timedelta(seconds=s) for s in seconds]})
    assert frame.select(hours_between("a", "b")).to_series().to_list() == [s / 3600 for s in seconds]
    missing = frame.with_columns(b=pl.lit(None, pl.Datetime("us")))
    assert missing.select(hours_between("a", "b")).to_series().null_count() == len(seconds)


def test_diagnoses_of_kept_admissions():
    rows = [(11, "I10 ", 10), (11, "4019", 9), (12, "E11", 10), (11, None, 9), (11, "X", 11), (None, "I10", 10)]
    diagnoses = pl.DataFrame(rows, schema=["hadm_id", "icd_code", "icd_version"], orient="row")
    attrition = Attrition("diagnoses_icd", "rows")
    kept = build_diagnoses(diagnoses, pl.DataFrame({"hadm_id": [11]}), attrition)
    assert kept.rows() == [(11, "4019", 9), (11, "I10", 10)]
    assert attrition.before == 6 and counts(attrition) == [2, 2]
    assert kept.schema["icd_version"] == pl.Int8


@pytest.mark.parametrize("age", [-5.0, 17.9, 121.0, float("nan"), float("inf")])
def test_ages_that_cannot_be_are_unknown(age):
    attrition = Attrition("icustays", "stays")
    stays = icustays((1, 11, 101, "A", "A", 0, 72), (2, 21, 201, "A", "A", 0, 72))
    visits = admissions((1, 11, 0, 100, None), (2, 21, 0, 100, None))
    kept = build_stays(stays, visits, patients((1, age, 2150, None), (2, 50, 2150, None)), attrition)
    assert kept["stay_id"].to_list() == [201]
    assert {e["rule"]: e["dropped"] for e in attrition.rows()}[
        "age at admission below 18, above 120 or unknown"
    ] == 1  # fmt: skip


def test_a_stay_of_more_than_a_year_is_a_broken_date():
    attrition = Attrition("icustays", "stays")
    stays = icustays((1, 11, 101, "A", "A", 0, 10_000), (2, 21, 201, "A", "A", 0, 10_001))
    visits = admissions((1, 11, 0, 100, None), (2, 21, 0, 100, None))
    kept = build_stays(stays, visits, patients((1, 50, 2150, None), (2, 50, 2150, None)), attrition)
    assert kept["stay_id"].to_list() == [101] and counts(attrition)[-1] == 1


def test_times_that_contradict_each_other_are_doubts():
    stays = icustays(*((n, n * 10, n * 100, "A", "A", 0, 72) for n in range(1, 6)))
    visits = admissions(
        (1, 10, 0, 100, None), (2, 20, 0, None, None), (3, 30, 0, -5, None), (4, 40, 90, 99, None), (5, 50, 0, 90, -60)
    )
    people = patients(*((n, 50, 2150, None) for n in range(1, 6)))
    found = doubts(build_stays(stays, visits, people, Attrition("icustays", "stays")))
    assert list(found.values()) == [2, 2, 1]


def test_codes_are_spelled_as_released():
    codes = [(10, " i10", 10), (10, "e11.9", 10), (10, "038.9", 9)]
    raw = pl.DataFrame(
        codes, schema={"hadm_id": pl.Int64, "icd_code": pl.String, "icd_version": pl.Int64}, orient="row"
    )
    found = build_diagnoses(raw, pl.DataFrame({"hadm_id": [10]}), Attrition("diagnoses_icd", "rows"))
    assert found["icd_code"].to_list() == ["0389", "E119", "I10"]


def test_codes_that_cannot_be_of_their_version():
    codes = [("4019", 9), ("V1582", 9), ("E8859", 9), ("I10", 9), ("I10", 10), ("4019", 10)]
    table = pl.DataFrame(codes, schema={"icd_code": pl.String, "icd_version": pl.Int8}, orient="row")
    assert list(doubtful_codes(table).values()) == [2, 0]
    many = pl.concat([table.filter(pl.col("icd_version") == 9)] * 75)
    assert list(doubtful_codes(many).values()) == [75, 300], "no code begins with 0"
    assert list(doubtful_codes(pl.concat([many, table[:1].with_columns(icd_code=pl.lit("0389"))])).values()) == [75, 0]
