"""Finding the tables of every layout, and what the tree says about itself."""

import os
import shutil

import polars as pl
import pytest
from raw_tree import HEADERS, RawTree, rewrite

from fusionctl.data import mimic
from fusionctl.errors import InputError


@pytest.fixture
def root(tmp_path):
    return RawTree().write(tmp_path / "tree")


def header(change):
    return lambda text: change(text.partition("\n")[0]) + "\n" + text.partition("\n")[2]


def test_layout_of_v2(root):
    layout = mimic.find_layout(root)
    assert layout.version == "v2/v3" and "race" in layout.evidence
    assert layout.paths["admissions"] == root / "hosp/admissions.csv.gz"
    rewrite(root / "icu/chartevents.csv.gz", header(lambda h: h.replace("caregiver_id", "other")))
    assert mimic.find_layout(root).version == "v2"


def test_layout_of_v1_by_folder_and_by_column(root):
    (root / "core").mkdir()
    for table in ("patients", "admissions"):
        shutil.move(root / f"hosp/{table}.csv.gz", root / f"core/{table}.csv.gz")
    layout = mimic.find_layout(root)
    assert layout.version == "v1" and layout.paths["patients"] == root / "core/patients.csv.gz"
    shutil.move(root / "core/admissions.csv.gz", root / "hosp/admissions.csv.gz")
    shutil.move(root / "core/patients.csv.gz", root / "hosp/patients.csv.gz")
    rewrite(root / "hosp/admissions.csv.gz", header(lambda h: h.replace("race", "ethnicity")))
    assert mimic.find_layout(root).version == "v1"


def test_v3_shows_in_the_years_alone(root):
    layout = mimic.find_layout(root)
    groups = pl.DataFrame({"anchor_year_group": ["2011 - 2013", None, "2020 - 2022"]})
    assert mimic.refine_version(layout, groups) == "v3"
    assert mimic.refine_version(layout, groups.head(2)) == "v2/v3"


def test_plain_files_and_names_in_capitals(tmp_path):
    root = RawTree().write(tmp_path, suffix=".csv")
    path = root / "hosp/admissions.csv"
    path.write_text(path.read_text().replace("race", "RACE"))
    assert mimic.find_layout(root).paths["admissions"] == path


def fault(find, root):
    with pytest.raises(InputError) as caught:
        find(root)
    assert caught.value.hint
    return str(caught.value)


def test_missing_root_or_table(root, tmp_path):
    assert f"{tmp_path / 'no'}: no such file or directory" in fault(mimic.find_layout, tmp_path / "no")
    assert "not a directory" in fault(mimic.find_layout, root / "icu/icustays.csv.gz")
    assert f"try --mimic-root {root}" in fault(mimic.find_layout, tmp_path)
    os.rename(root / "icu/chartevents.csv.gz", root / "icu/chartevent.csv.gz")
    message = fault(mimic.find_layout, root)
    assert "table chartevents is missing (looked for icu/chartevents.csv.gz, icu/chartevents.csv)" in message
    assert "icu/chartevent.csv.gz looks like it" in message
    shutil.rmtree(root / "icu")
    assert "table icustays is missing" in fault(mimic.find_layout, root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder(root):
    (root / "icu").chmod(0)
    try:
        assert "Permission denied" in fault(mimic.find_layout, root)
    finally:
        (root / "icu").chmod(0o700)


def test_films_of_both_releases(root):
    cxr = root / "cxr"
    found = mimic.find_films(cxr)
    assert found["metadata"].name == "mimic-cxr-2.0.0-metadata.csv.gz"
    (cxr / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text("study_id,Airspace Opacity\n")
    (cxr / "mimic-cxr-2.0.0-chexpert.csv").write_text("")
    assert mimic.find_films(cxr)["chexpert"].name == "mimic-cxr-2.0.0-chexpert.csv.gz"
    for table in ("metadata", "chexpert"):
        os.rename(cxr / f"mimic-cxr-2.0.0-{table}.csv.gz", cxr / f"mimic-cxr-2.1.0-{table}.csv.gz")
    (cxr / "mimic-cxr-2.0.0-chexpert.csv").unlink()
    assert mimic.find_films(cxr)["metadata"].name == "mimic-cxr-2.1.0-metadata.csv.gz"
    (cxr / "mimic-cxr-2.0.0-metadata.csv").write_text("")
    assert "several versions" in fault(mimic.find_films, cxr)
    assert "mimic-cxr-2.0.0-metadata.csv.gz is missing" in fault(mimic.find_films, root)


def test_path_of_a_film():
    frame = pl.DataFrame({"subject_id": [10000032], "study_id": [50414267], "dicom_id": ["02aa-1"]})
    path = frame.select(mimic.film_path("subject_id", "study_id", "dicom_id")).item()
    assert path == "files/p10/p10000032/s50414267/02aa-1.jpg"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("SYNTHETIC.txt", "", "synthetic"),
        ("demo_subject_id.csv", "subject_id\n", "open"),
        ("LICENSE.txt", "Open Data Commons Open Database License v1.0", "open"),
        ("README.md", "published under ODC-By 1.0", "open"),
        ("LICENSE.txt", "The PhysioNet Credentialed Health Data License. Not CC BY.", "credentialed"),
        ("README.txt", "one hundred stays", "credentialed"),
        ("nothing", "", "credentialed"),
    ],
)
def test_sensitivity_is_what_the_tree_says_of_itself(root, name, text, expected):
    (root / name).write_text(text)
    assert mimic.sensitivity(root) == expected


def test_the_stricter_of_two_sensitivities():
    assert mimic.strictest(["synthetic", "synthetic"]) == "synthetic"
    assert mimic.strictest(["synthetic", "open"]) == mimic.strictest(["open", "synthetic"]) == "open"
    assert mimic.strictest(["open", "credentialed"]) == "credentialed"


def test_every_column_that_is_read_is_in_the_released_headers():
    for table, columns in mimic.COLUMNS.items():
        name = next(n for n in HEADERS if n.endswith(table))
        assert {c.name for c in columns} <= set(HEADERS[name].split(","))
