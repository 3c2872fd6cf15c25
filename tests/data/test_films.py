"""The table of films."""

from datetime import datetime

import polars as pl
import pytest

from fusionctl.data.attrition import Attrition
from fusionctl.data.films import FILM_COLUMNS, build_films, count_labels, no_films, study_time
from fusionctl.data.variables import CHEXPERT_LABELS


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        (21331018, 53000.323, datetime(2133, 10, 18, 5, 30, 0, 323000)),
        (21331018, 235959.999, datetime(2133, 10, 18, 23, 59, 59, 999000)),
        (21331018, 7.5, datetime(2133, 10, 18, 0, 0, 7, 500000)),
        (21331018, 0.0, datetime(2133, 10, 18)),
        (21331018, 94403.984, datetime(2133, 10, 18, 9, 44, 3, 984000)),
        (21331018, 240000.0, None),
        (21331018, 6000.0, None),
        (21331018, 60.0, None),
        (21331018, -1.0, None),
        (21331018, float("nan"), None),
        (21331018, None, None),
        (21330229, 53000.0, None),
        (2133101, 53000.0, None),
        (None, 53000.0, None),
    ],
)
def test_study_time_with_lost_zeros(date, time, expected):
    frame = pl.DataFrame({"d": [date], "t": [time]}, schema={"d": pl.Int64, "t": pl.Float64})
    assert frame.select(study_time("d", "t")).item() == expected


METADATA = pl.DataFrame(
    [
        ("b", 2, 20, "PA", 21500102, 100.0),
        ("c", 1, 11, None, 21500102, 100.0),  # not labelled
        ("a", 1, 10, "AP ", 21500103, 100.0),
        ("d", 1, 10, "LATERAL", 21500103, 100.0),
        ("e", 1, 10, "AP", 21500103, None),
    ],
    schema=["dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"],
    orient="row",
)


def labels(**given):
    """Typed labels of study 10 of patient 1 and study 20 of patient 2; not mentioned and 0 unless given."""
    values = {label: [None, 0.0] for label in CHEXPERT_LABELS} | given
    schema = dict.fromkeys(CHEXPERT_LABELS, pl.Float64)
    return pl.DataFrame({"subject_id": [1, 2], "study_id": [10, 20], **values, "line": [2, 3]}, schema_overrides=schema)


def seen(films, label):
    return films[label].fill_nan(None).to_list()


def test_films_with_the_labels_of_their_study():
    attrition = Attrition("films", "rows")
    films = build_films(METADATA, labels(Edema=[1.0, 0.0], Pneumonia=[-1.0, 0.0]), attrition)
    assert films.schema == pl.Schema(FILM_COLUMNS) == no_films().schema
    assert films["dicom_id"].to_list() == ["c", "a", "d", "b"]  # by patient, time, name
    assert films["view"].to_list() == ["", "AP", "LATERAL", "PA"]
    assert films["path"][3] == "files/p2/p2/s20/b.jpg"
    assert films["labelled_by"].to_list() == ["", "chexpert", "chexpert", "chexpert"]
    assert seen(films, "Edema") == [None, 1, 1, 0]
    assert seen(films, "Pneumonia") == [None, -1, -1, 0]  # uncertain stays uncertain
    assert seen(films, "Fracture") == [None, None, None, 0]
    assert set(films.null_count().row(0)) == {0}
    assert [(e["before"], e["dropped"], e["kept"]) for e in attrition.rows()] == [(5, 1, 4)]


def test_the_labeller_is_named():
    films = build_films(METADATA, labels(), Attrition("films", "rows"), labeller="negbio")
    assert films["labelled_by"].to_list() == ["", "negbio", "negbio", "negbio"]


def test_radiologists_labels_replace_all_of_the_labellers():
    attrition = Attrition("films", "rows")
    given = labels(Edema=[1.0, 1.0], Pneumonia=[-1.0, 0.0])
    test_labels = labels(Edema=[None, 0.0], Pneumonia=[1.0, 0.0]).with_columns(study_id=pl.Series([10, 99]))
    films = build_films(METADATA, given, attrition, test_labels=test_labels.drop("subject_id"))
    assert films["dicom_id"].to_list() == ["c", "a", "d", "b"] and films.schema == pl.Schema(FILM_COLUMNS)
    assert films["labelled_by"].to_list() == ["", "radiologist", "radiologist", "chexpert"]
    assert seen(films, "Edema") == [None, None, None, 1]  # what a radiologist left empty is no longer the labeller's 1
    assert seen(films, "Pneumonia") == [None, 1, 1, 0]


def test_a_radiologist_may_label_what_the_labeller_did_not():
    test_labels = labels()[1:].with_columns(study_id=11)
    films = build_films(METADATA, labels(), Attrition("films", "rows"), test_labels=test_labels)
    assert films["labelled_by"].to_list() == ["radiologist", "chexpert", "chexpert", "chexpert"]
    assert seen(films, "Edema") == [0, None, None, 0]


def test_labels_of_studies_without_films_are_counted():
    attrition = Attrition("chexpert", "rows")
    listed = pl.DataFrame({"subject_id": [1, 1], "study_id": [10, 10]})
    count_labels(pl.DataFrame({"subject_id": [1, 2, 1], "study_id": [10, 10, 11]}), listed, attrition)
    (entry,) = attrition.rows()
    assert (entry["before"], entry["dropped"], entry["kept"]) == (3, 2, 1)
