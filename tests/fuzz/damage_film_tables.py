"""Damages to the values in the tables of the films."""

from __future__ import annotations

from damages import cell, damage
from outcome import Counted, Error, Read, Same

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
