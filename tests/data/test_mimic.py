"""Finding the tables of every layout, and what the tree says about itself."""

import os
import shutil

import polars as pl
import pytest
from raw_tree import HEADERS, LAB_ITEMS, LAYOUTS, RawTree, rewrite

from fusionctl.data import mimic, tables
from fusionctl.errors import InputError


@pytest.fixture
def root(tmp_path):
    return RawTree().write(tmp_path / "tree")


def header(change):
    return lambda text: change(text.partition("\n")[0]) + "\n" + text.partition("\n")[2]


EVIDENCE = {
    "v1.0": ("v1", "admissions in core/ with column ethnicity, chartevents without caregiver_id"),
    "v2.0": ("v2", "admissions in hosp/ with column race, chartevents without caregiver_id"),
    "v2.2": ("v2/v3", "admissions in hosp/ with column race, chartevents with caregiver_id"),
    "v3.1": ("v2/v3", "admissions in hosp/ with column race, chartevents with caregiver_id"),
}


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv"])
@pytest.mark.parametrize("release", LAYOUTS)
def test_every_layout_by_its_folders_and_columns(tmp_path, release, suffix):
    root = RawTree().write(tmp_path / "mimic-iv-9.9", layout=release, suffix=suffix)
    layout = mimic.find_layout(root)
    assert (layout.version, layout.evidence) == EVIDENCE[release]
    folder = "core" if release == "v1.0" else "hosp"
    assert layout.paths["admissions"] == root / f"{folder}/admissions{suffix}"
    assert set(layout.paths) == {"patients", "admissions", "diagnoses_icd", "labevents", "icustays", "chartevents"}


def test_v1_by_its_column_alone(root):
    rewrite(root / "hosp/admissions.csv.gz", header(lambda h: h.replace("race", "ethnicity")))
    assert mimic.find_layout(root).version == "v1"


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv"])
def test_the_table_of_lab_items_is_found_where_it_is(tmp_path, suffix):
    tree = RawTree()
    tree.lab_items()
    root = tree.write(tmp_path, suffix=suffix)
    assert mimic.find_layout(root).paths["d_labitems"] == root / f"hosp/d_labitems{suffix}"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("MIMIC-IV v3.0\nReleased July 2024. New: patients of 2020 - 2022.\nv2.2: caregiver_id\nv2.0\nv1.0", True),
        ("# Changelog\n\n## 3.0\n- new\n\n## 2.2\n", True),
        ("v3.0.0\nv2.2", True),
        ("MIMIC-IV v3.1: itemid of v3.0 corrected\nMIMIC-IV v3.0", False),
        ("MIMIC-IV v2.2\nPython 13.0 was used", False),
        ("v2.2 v2.1 v2.0", False),
        ("nothing", False),
    ],
)
@pytest.mark.parametrize("name", ["CHANGELOG.txt", "changelog.md", "CHANGELOG"])
def test_v3_0_is_refused_by_its_list_of_changes(root, text, refused, name):
    (root / name).write_text(text)
    if not refused:
        assert mimic.find_layout(root).version == "v2/v3"
        return
    with pytest.raises(InputError) as caught:
        mimic.find_layout(root)
    assert f"{root}: its list of changes ends with v3.0. MIMIC-IV v3.0 has wrong item ids" in caught.value.message
    assert caught.value.hint == "get v3.1 or later"


def lab_items(**changes):
    """d_labitems as read: i50931=("Glucose", "Urine") puts other words to an item."""
    rows = [(item, *changes.get(f"i{item}", names[:2])) for item, *names in LAB_ITEMS]
    return pl.DataFrame(rows, schema=["itemid", "label", "fluid"], orient="row").with_row_index("line", 2)


def test_lab_items_that_measure_something_else_are_refused(tmp_path):
    path = tmp_path / "hosp/d_labitems.csv.gz"
    mimic.check_lab_items(path, lab_items())
    mimic.check_lab_items(path, lab_items(i50820=("PH ", " BLOOD"), i51478=("Anything", None)))
    for wrong, found in ((("Bilirubin", "Blood"), "bilirubin in blood"), (("Glucose", "Urine"), "glucose in urine")):
        with pytest.raises(InputError) as caught:
            mimic.check_lab_items(path, lab_items(i50931=wrong))
        assert f"{path}: line 5: item 50931 must be glucose in blood; it is {found}" in caught.value.message
        assert "v3.0 has wrong item ids" in caught.value.message and "v3.1" in caught.value.hint
    with pytest.raises(InputError, match="line 4: item 50820 must be ph in blood; it is  in "):
        mimic.check_lab_items(path, lab_items(i50820=(None, None)))


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


def test_the_labeller_and_the_radiologists_labels(root):
    cxr = root / "cxr"
    assert set(mimic.find_films(cxr)) == {"metadata", "chexpert"}
    assert "mimic-cxr-2.0.0-negbio.csv.gz is missing" in fault(lambda r: mimic.find_films(r, "negbio"), cxr)
    shutil.copy(cxr / "mimic-cxr-2.0.0-chexpert.csv.gz", cxr / "mimic-cxr-2.0.0-negbio.csv.gz")
    for suffix in (".csv", ".csv.gz"):
        (cxr / f"mimic-cxr-2.1.0-test-set-labeled{suffix}").write_text("")
        found = mimic.find_films(cxr, labels="negbio")
        assert set(found) == {"metadata", "negbio", "test_labels"}
        assert found["negbio"].name == "mimic-cxr-2.0.0-negbio.csv.gz"
        assert found["test_labels"].name == f"mimic-cxr-2.1.0-test-set-labeled{suffix}"  # compressed where both are


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
    of = {"negbio": "chexpert", "test_labels": "chexpert"}
    for table, columns in mimic.COLUMNS.items():
        name = next(n for n in HEADERS if n.endswith(of.get(table, table)))
        assert {c.name for c in columns} <= set(HEADERS[name].split(","))


def test_airspace_opacity_is_lung_opacity(tmp_path):
    names = [c.name for c in mimic.COLUMNS["test_labels"]]
    path = tmp_path / "mimic-cxr-2.1.0-test-set-labeled.csv"
    header = ",".join(names).replace("Lung Opacity", "Airspace Opacity")
    path.write_text(f"{header}\n50000001,{','.join(str(float(name == 'Lung Opacity')) for name in names[1:])}\n")
    frame = tables.read(tables.open_table(path, mimic.COLUMNS["test_labels"]))
    assert [name for name in names[1:] if frame[name][0] == 1] == ["Lung Opacity"]
