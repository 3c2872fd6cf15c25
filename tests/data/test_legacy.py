"""Protocol `legacy` on single rows: each quirk of the reference's extraction, stated once more."""

import polars as pl
import pytest

from fusionctl.data import legacy
from fusionctl.data.attrition import Attrition
from fusionctl.data.events import item_ids
from fusionctl.data.variables import INDEX, VARIABLES

HEART_RATE, SYSTOLIC, DIASTOLIC, MEAN, FIO2, GLUCOSE, SPO2, PH = (
    220045, 220179, 220180, 220181, 223835, 225664, 220277, 220274,
)  # fmt: skip
CELSIUS, FAHRENHEIT, INCHES, CENTIMETRES, POUNDS, KILOGRAMS = 223762, 223761, 226707, 226730, 226531, 226512
EYE, REFILL, URINE_GLUCOSE, URINE_PH = 220739, 223951, 51478, 51491


def read(*rows, source="chart"):
    """Variable, value and rank of rows (itemid, text), and what each rule dropped."""
    attrition = Attrition("chartevents", "rows")
    frame = pl.DataFrame(
        [(item, text, 1.0) for item, text in rows],
        schema={"itemid": pl.Int64, "value": pl.String, "valuenum": pl.Float64},
        orient="row",
    )
    attrition.before = frame.height
    found = legacy.values(frame, source, attrition)
    assert attrition.kept == found.height
    return found, {e["rule"]: e["dropped"] for e in attrition.rows() if e["dropped"]}


def value(item, text, source="chart"):
    """The value of one row, or None."""
    found, _ = read((item, text), source=source)
    return found["value"].item() if found.height else None


@pytest.mark.parametrize(
    ("item", "text", "expected"),
    [
        (HEART_RATE, "98", 98),
        (HEART_RATE, "999", 999),  # no plausible range
        (HEART_RATE, "-5", -5),
        (HEART_RATE, "ERROR", None),
        (HEART_RATE, "", None),
        (HEART_RATE, None, None),
        (HEART_RATE, "nan", None),
        (HEART_RATE, "inf", None),
        (SYSTOLIC, "120", 120),
        (SYSTOLIC, "120/80", 120),
        (DIASTOLIC, "120/80", 80),
        (SYSTOLIC, "120/", None),
        (SYSTOLIC, "/80", None),
        (MEAN, "120/80", None),
        (FIO2, "40", 0.4),
        (FIO2, "0.4", 0.004),  # divided by 100 whatever it is
        (FIO2, "1", 0.01),
        (SPO2, "0.97", 97),
        (SPO2, "1", 100),
        (SPO2, "1.5", 1.5),
        (SPO2, "97", 97),
        (SPO2, "ERROR", None),
        (GLUCOSE, "130", 130),
        (GLUCOSE, "130.5", 130.5),
        (GLUCOSE, "___", None),
        (GLUCOSE, "> 500", None),
        (GLUCOSE, ">500", None),
        (GLUCOSE, "-1", None),
        (GLUCOSE, "1e3", None),
        (PH, ".7", 0.7),
        (PH, "7.", 7.0),
        (PH, "7.35", 7.35),
        (CELSIUS, "37", 37),
        (CELSIUS, "98.6", 37),  # Fahrenheit by its value
        (FAHRENHEIT, "98.6", 37),
        (FAHRENHEIT, "37", 37),  # and Celsius by its value
        (FAHRENHEIT, "79", 235 / 9),
        (FAHRENHEIT, "78.9", 78.9),
        (INCHES, "70", 70),  # left as it is
        (CENTIMETRES, "170", 170),
        (POUNDS, "100", 45.3592),
        (KILOGRAMS, "100", 100),
    ],
)
def test_the_text_of_a_row_becomes_a_number(item, text, expected):
    assert value(item, text) == (None if expected is None else pytest.approx(expected, rel=1e-6))


@pytest.mark.parametrize(
    ("text", "category"),
    [("None", "None"), ("Spontaneously", "Spontaneously"), ("spontaneously", None), (" To Speech", None), ("3", None)],
)
def test_a_category_must_match_letter_by_letter(text, category):
    expected = (
        None if category is None else VARIABLES[INDEX["Glascow coma scale eye opening"]].categories.index(category)
    )
    assert value(EYE, text) == expected


def test_urine_counts_as_blood():
    assert read((URINE_GLUCOSE, "250"), source="lab")[0]["variable"].to_list() == [INDEX["Glucose"]]
    assert read((URINE_PH, "6.5"), source="lab")[0]["variable"].to_list() == [INDEX["pH"]]


def test_capillary_refill_is_never_read():
    assert not {REFILL, 224308} & set(item_ids("chart", "legacy"))
    assert {REFILL, 224308} <= set(item_ids("chart", "paper"))


def test_the_number_column_is_not_looked_at():
    assert value(HEART_RATE, "70") == 70  # valuenum is 1 in every row here


def test_rules_are_counted():
    rows = [(HEART_RATE, None), (HEART_RATE, ""), (GLUCOSE, "___"), (EYE, "Ouch"), (EYE, "None"), (HEART_RATE, "80")]
    found, dropped = read(*rows)
    assert found.height == 2
    assert dropped == {
        "no text in value": 2,
        "text is none of the variable's categories": 1,
        "no number in value": 1,
    }


def ordered(item, *texts):
    """Texts of one variable and time in the order in which the reference sorts them."""
    found, _ = read(*((item, text) for text in texts))
    return found.sort("rank", "value")["text"].to_list()


def test_ties_of_some_variables_are_sorted_as_text():
    assert ordered(HEART_RATE, "98", "100", "99", "9") == ["100", "9", "98", "99"]
    assert ordered(MEAN, "80", "100.5", "100", "-5") == ["-5", "100", "100.5", "80"]
    assert ordered(220210, "9", "18") == ["18", "9"]


def test_ties_of_the_others_are_sorted_as_numbers():
    assert ordered(SYSTOLIC, "98", "100", "99") == ["98", "99", "100"]
    assert ordered(CELSIUS, "98.6", "38") == ["98.6", "38"]  # after their conversion


def test_ties_of_categories_are_sorted_by_their_text():
    texts = ["To Speech", "None", "Spontaneously", "To Pain"]
    assert ordered(EYE, *texts) == sorted(texts)


@pytest.mark.parametrize("text", ["1e39", "-1e39", "inf", "NaN"])
def test_what_is_not_finite_as_it_is_stored_is_no_number(text):
    attrition = Attrition("chartevents", "rows")
    rows = pl.DataFrame({"itemid": [220045], "value": [text], "valuenum": [1.0]})
    assert legacy.values(rows, "chart", attrition).is_empty()
    assert {e["rule"]: e["dropped"] for e in attrition.rows()}["no number in value"] == 1
