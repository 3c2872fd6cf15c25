"""Table 1, the flow of stays and the hours from film to prediction."""

import numpy as np
from report_world import attrition

from fusionctl.report import cohort

LABEL = "mortality"


def cells(parts, name):
    """Rows of the table of that name: title of the row -> cells."""
    table = next(p for p in parts if getattr(p, "name", "") == name)
    return {row[0]: [str(c).replace("\u00a0", " ") for c in row[1:]] for _, rows in table.groups for row in rows}


def described(split, **columns):
    n = len(split)
    given = {"split": np.array(split), "subject_id": np.arange(n), "age": np.full(n, 60.0), "film": np.full(n, -1)}
    groups = columns.pop("groups", {})
    return cohort.describe({**given, LABEL: np.zeros(n), **columns}, [LABEL], groups)


def test_table_one_describes_each_split():
    n = 400
    rng = np.random.default_rng(0)
    age, hours = rng.uniform(18, 90, n), rng.uniform(48, 400, n)
    groups = {"sex": np.array(["F", "M"] * 200), "race": np.array(["UNKNOWN"] * n), "era": np.array(["ICD-9"] * n)}
    table = described(["train"] * 300 + ["test"] * 100, age=age, los_hours=hours, groups=groups)
    found = cells(cohort.table_one(table), "Table 1: characteristics by split")
    assert found["Stays"] == ["300", "100"] and found["Patients"] == ["300", "100"]
    low, middle, high = np.quantile(age[:300], [0.25, 0.5, 0.75])
    assert found["Age in years, median (quartiles)"][0] == f"{middle:.0f} ({low:.0f}–{high:.0f})"
    low, middle, high = np.quantile(hours[300:] / 24, [0.25, 0.5, 0.75])
    assert found["Days in intensive care, median (quartiles)"][1] == f"{middle:.1f} ({low:.1f}–{high:.1f})"
    assert found["Female"] == ["150 (50.0 %)", "50 (50.0 %)"] and found["ICD-9"] == ["300 (100.0 %)", "100 (100.0 %)"]
    assert "Unknown" not in found  # of all: nothing to tell


def test_small_counts_and_their_complements_are_hidden():
    groups = {"sex": np.array((["F"] * 4 + ["M"] * 16) + ["F"] * 10)}
    table = described(["train"] * 20 + ["test"] * 10, groups=groups, **{LABEL: np.array([1.0] * 3 + [0.0] * 27)})
    found = cells(cohort.table_one(table), "Table 1: characteristics by split")
    assert found["Female"] == ["<10", "10 (100.0 %)"] and found["Male"] == ["≥10", "0 (0.0 %)"]
    assert found[LABEL] == ["<10", "0 (0.0 %)"]


def test_a_small_split_shows_nothing_but_that_it_is_small():
    table = described(["train"] * 200 + ["test"] * 5)
    found = cells(cohort.table_one(table), "Table 1: characteristics by split")
    assert found["Stays"] == ["≥10", "<10"]
    assert found["Patients"] == ["–", "–"] and found["Age in years, median (quartiles)"] == ["–", "–"]


def test_many_outcomes_get_a_table_of_their_own():
    labels = [f"label {i}" for i in range(5)]
    n = 60
    columns = {
        "split": np.array(["test"] * n),
        "subject_id": np.arange(n),
        "age": np.full(n, 50.0),
        "film": np.zeros(n),
    }
    table = cohort.describe({**columns, **{name: np.arange(n) % 2 for name in labels}}, labels)
    parts = cohort.table_one(table)
    assert not any("label" in str(row) for row in cells(parts, "Table 1: characteristics by split"))
    fold = parts[-1]
    assert cells(fold.parts, fold.summary)["label 3"] == ["30 (50.0 %)"]


def test_the_flow_joins_small_steps():
    extract, preprocess = attrition(1000)
    parts = cohort.flow([*extract, *preprocess])
    drawn = parts[1].drawn
    assert "age below 18" in drawn and "−4<" not in drawn and "<b>3,340</b> stays at first" in drawn
    assert parts[2].summary == "What each rule dropped from the other tables"


def test_extremes_of_film_hours_are_rounded_outwards():
    entry = {"paired": 100, "mean": 20.04, "sd": 5, "min": 0.9, "p25": 10, "p50": 20, "p75": 30, "max": 47.2}
    found = cells(
        cohort.film_hours({"test": entry, "val": {**entry, "paired": 4}}), "Hours from film to the end of the input"
    )
    assert found["Test"] == ["20.0", "5.0", "10.0", "20.0", "30.0", "0", "48"]
    assert found["Validation"] == ["–"] * 7
    assert cohort.film_hours({"all": {"paired": 0}}) == []
