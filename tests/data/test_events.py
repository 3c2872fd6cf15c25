"""From raw rows to events: every rule with its count, every unit, every category."""

from datetime import datetime, timedelta

import polars as pl
import pytest

from fusionctl.data.attrition import Attrition
from fusionctl.data.events import EVENT_COLUMNS, clean_chart, clean_lab, columns_of, coma_totals, in_order, item_ids
from fusionctl.data.variables import GCS_TOTAL, INDEX, VARIABLES

START = datetime(2150, 3, 1)
CHART = ("hadm_id", "stay_id", "charttime", "storetime", "itemid", "value", "valuenum")
LAB = ("subject_id", "hadm_id", "charttime", "storetime", "itemid", "value", "valuenum")
TYPES = {"charttime": pl.Datetime("us"), "storetime": pl.Datetime("us"), "value": pl.String, "valuenum": pl.Float64}


def hour(value):
    return None if value is None else START + timedelta(hours=value)


def stays(*rows):
    """(subject, hadm, stay, intime, outtime, admittime, dischtime), times in hours"""
    columns = ("subject_id", "hadm_id", "stay_id", "intime", "outtime", "admittime", "dischtime")
    data = [(*row[:3], *map(hour, row[3:])) for row in rows]
    schema = {c: pl.Datetime("us") if c.endswith("time") else pl.Int64 for c in columns}
    return pl.DataFrame(data, schema=schema, orient="row").sort("stay_id")


ONE = stays((1, 11, 101, 10, 70, 0, 100))


def rows(columns, *data):
    """Raw rows; times in hours. A shorter row lacks the number: it is that of its text."""
    full = []
    for row in data:
        values = dict(zip(columns, row, strict=False))
        values["charttime"], values["storetime"] = hour(values["charttime"]), hour(values["storetime"])
        value = values["value"]
        values.setdefault("valuenum", float(value) if isinstance(value, (int, float)) else None)
        values["value"] = None if value is None else str(value)
        full.append(tuple(values.values()))
    frame = pl.DataFrame(full, schema={c: TYPES.get(c, pl.Int64) for c in columns}, orient="row")
    return frame.with_row_index("line", 2)


def chart(*data, of=ONE, protocol="paper"):
    attrition = Attrition("chartevents", "rows")
    frame = rows(CHART, *data)
    attrition.before = frame.height
    return clean_chart(frame, of, attrition, protocol), dropped(attrition)


def lab(*data, of=ONE, protocol="paper"):
    attrition = Attrition("labevents", "rows")
    frame = rows(LAB, *data)
    attrition.before = frame.height
    return clean_lab(frame, of, attrition, protocol), dropped(attrition)


def dropped(attrition):
    entries = attrition.rows()
    for earlier, later in zip(entries, entries[1:], strict=False):
        assert later["before"] == earlier["kept"] == earlier["before"] - earlier["dropped"]
    return {e["rule"]: e["dropped"] for e in entries if e["dropped"]} | {"kept": attrition.kept}


def test_an_event():
    events, counts = chart((11, 101, 13, 13.5, 220045, 80))
    assert events.rows() == [(101, 3.0, INDEX["Heart Rate"], 80.0, 3.5)]
    assert events.schema == pl.Schema(EVENT_COLUMNS) and counts == {"kept": 1}


def test_rules_of_chart_rows():
    events, counts = chart(
        (11, 101, 9, 9, 220045, 80),  # before the stay: kept, the task's window cuts it
        (11, 101, 99, None, 220045, 81),  # after; never stored
        (11, None, 20, 20, 220045, 82),  # the stay is the admission's
        (11, 102, 20, 20, 220045, 83),  # another stay
        (12, 101, 20, 20, 220045, 84),  # another admission
        (None, 101, 20, 20, 220045, 85),
        (11, 101, None, 20, 220045, 86),
        (11, 101, 20, 20, 220045, "ERROR"),
        (11, 101, 20, 20, 220045, 351),
        (11, 101, 20, 20, 220739, "Ouch"),
        (11, 101, 20, 20, 220739, None),
    )
    assert sorted(events["value"].to_list()) == [80, 81, 82]
    assert events.sort("hours").select("hours", "stored_hours").rows() == [(-1, -1), (10, 10), (89, None)]
    assert counts == {
        "hadm_id missing": 1,
        "admission is not in the cohort": 1,
        "stay is not the admission's": 1,
        "charttime missing": 1,
        "no number in valuenum": 1,
        "Heart Rate outside 0 to 350 bpm": 1,
        "text is none of the variable's categories": 2,
        "kept": 3,
    }


def test_rules_of_lab_rows():
    two = stays((1, 11, 101, 10, 70, 0, 100), (1, 12, 102, 210, 270, 200, 300), (2, 21, 201, 10, 70, 0, 100))
    events, counts = lab(
        (1, 11, 12, 13, 50931, 100),
        (1, None, 0, 13, 50931, 101),  # at the very begin of admission 11
        (1, None, 300, 300, 50931, 102),  # at the very end of admission 12
        (1, None, 150, 150, 50931, 103),  # between the admissions
        (3, None, 20, 20, 50931, 104),  # a patient who is not in the cohort
        (None, None, 20, 20, 50931, 105),
        (1, None, None, 20, 50931, 106),
        (1, 99, 20, 20, 50931, 107),
        (1, 11, None, 20, 50931, 108),
        (1, 11, 20, 20, 50931, "___", None),
        (1, 11, 20, 20, 50931, "___", 109.0),  # the number counts, whatever the text
        of=two,
    )
    found = {(int(value), stay, hours) for stay, hours, value in events.select("stay_id", "hours", "value").rows()}
    assert found == {(100, 101, 2), (101, 101, -10), (102, 102, 90), (109, 101, 10)}
    assert counts == {
        "admission is not in the cohort": 1,
        "hadm_id missing and not one kept admission at that time": 4,
        "charttime missing": 1,
        "no number in valuenum": 1,
        "kept": 4,
    }


def test_a_lab_row_is_not_guessed_between_two_admissions():
    overlapping = stays((1, 11, 101, 10, 70, 0, 100), (1, 12, 102, 80, 90, 50, 200))
    events, counts = lab((1, None, 60, 60, 50931, 100), (1, None, 40, 40, 50931, 101), of=overlapping)
    assert events["value"].to_list() == [101]
    assert counts["hadm_id missing and not one kept admission at that time"] == 1


def test_rows_charted_during_another_stay_of_the_patient_go_to_it():
    two = stays((1, 11, 101, 10, 70, 0, 100), (1, 12, 102, 110, 170, 105, 300), (2, 21, 201, 110, 170, 105, 300))
    events, counts = lab(
        (1, 11, 120, 121, 50931, 100),  # admission 11, but drawn during stay 102
        (1, 11, 104, 104, 50931, 101),  # during neither
        (1, 12, 20, 20, 50931, 102),  # admission 12, but drawn during stay 101
        (2, 21, 20, 20, 50931, 103),  # somebody else's stay is no place for it
        of=two,
    )
    found = {int(v): (s, h, stored) for s, h, _, v, stored in events.rows()}
    assert found == {100: (102, 10, 11), 101: (101, 94, 94), 102: (101, 10, 10), 103: (201, -90, -90)}
    assert counts == {"kept": 4}


@pytest.mark.parametrize(
    ("name", "itemid", "number", "expected"),
    [
        ("Temperature", 223761, 98.6, 37.0),
        ("Temperature", 223762, 37.0, 37.0),
        ("Temperature", 223761, 37.0, None),  # 2.8 degC: converted by item, never by value
        ("Temperature", 223762, 98.6, None),
        ("Weight", 226531, 100.0, 45.3592),
        ("Weight", 226512, 100.0, 100.0),
        ("Weight", 224639, 251.0, None),
        ("Height", 226707, 70.0, 177.8),
        ("Height", 226730, 170.0, 170.0),
        ("Height", 226730, 70.0, None),
        ("Fraction inspired oxygen", 223835, 40.0, 0.4),
        ("Fraction inspired oxygen", 223835, 0.4, 0.4),
        ("Fraction inspired oxygen", 223835, 1.0, 1.0),  # already a fraction: not divided again
        ("Fraction inspired oxygen", 223835, 20.0, 0.2),  # the range is closed
        ("Fraction inspired oxygen", 223835, 19.9, None),
        ("Fraction inspired oxygen", 223835, 101.0, None),
        ("Heart Rate", 220045, 0.0, 0.0),
        ("Heart Rate", 220045, -1.0, None),
        ("Heart Rate", 220045, float("nan"), None),
        ("pH", 220274, 7.31, 7.31),
        ("Glucose", 225664, 32.9, None),
    ],
)
def test_units_by_item_and_plausible_ranges(name, itemid, number, expected):
    events, counts = chart((11, 101, 13, 13, itemid, "text", number))
    assert events["variable"].to_list() == ([] if expected is None else [INDEX[name]])
    assert events["value"].to_list() == ([] if expected is None else [pytest.approx(expected, rel=1e-6)])
    assert counts["kept"] == (expected is not None)


@pytest.mark.parametrize(
    ("itemid", "text", "category"),
    [
        (220739, "None", "None"),
        (220739, "Spontaneously", "Spontaneously"),
        (220739, " to speech ", "To Speech"),
        (223900, "No Response-ETT", "No Response-ETT"),
        (223900, "1.0 ET/Trach", "1.0 ET/Trach"),
        (223901, "No response", "No response"),
        (223951, "Normal <3 Seconds", "0.0"),
        (224308, "Abnormal >3 Seconds", "1.0"),
        (224308, "Brisk", "0.0"),
        (223951, "Delayed", "1.0"),
        (223951, "None", None),
        (223900, "ERROR", None),
    ],
)
def test_categories_by_text(itemid, text, category):
    events, _ = chart((11, 101, 13, 13, itemid, text, 4.0))
    variable = next(v for v in VARIABLES if itemid in {i.itemid for i in v.items})
    names = [VARIABLES[i].categories[int(c)] for i, c in events.select("variable", "value").rows()]
    assert names == ([] if category is None else [category])
    assert events["variable"].to_list() == ([] if category is None else [INDEX[variable.name]])


def test_every_item_has_a_way_to_an_event():
    for source, clean in (("chart", chart), ("lab", lab)):
        for itemid in item_ids(source):
            variable = next(v for v in VARIABLES for i in v.items if i.itemid == itemid)
            item = next(i for i in variable.items if i.itemid == itemid)
            text = next(iter(variable.texts), None) or (variable.categories or ("",))[0]
            number = None if variable.is_categorical else (variable.normal_value - item.offset) / item.scale
            first = (11, 101) if source == "chart" else (1, 11)
            events, _ = clean((*first, 13, 13, itemid, text, number))
            assert events["variable"].to_list() == [INDEX[variable.name]]
            if number is not None:
                assert events["value"].item() == pytest.approx(variable.normal_value, rel=1e-6)


def test_two_rows_of_one_moment_are_both_kept_in_the_order_of_storing():
    events, _ = chart((11, 101, 13, 15, 220045, 70), (11, 101, 13, 14, 220045, 90), (11, 101, 13, None, 220045, 99))
    ordered = in_order(events)
    assert ordered["value"].to_list() == [99, 90, 70] and ordered["stored_hours"].to_list() == [None, 4, 5]


def coma(*parts):
    """Totals (hours, points, stored) of parts (hour, stored, itemid, text)."""
    events, _ = chart(*((11, 101, at, stored, itemid, text) for at, stored, itemid, text in parts))
    totals = in_order(events).filter(pl.col("variable") == GCS_TOTAL)
    points = VARIABLES[GCS_TOTAL].scores
    return [(h, points[int(v)], s) for h, v, s in totals.select("hours", "value", "stored_hours").rows()]


EYE, VERBAL, MOTOR = 220739, 223900, 223901


def test_coma_total_is_the_sum_of_the_parts_of_one_time():
    assert coma((13, 13, EYE, "Spontaneously"), (13, 14, VERBAL, "Oriented"), (13, 13, MOTOR, "Obeys Commands")) == [
        (3, 15, 4)
    ]
    assert coma((13, 13, EYE, "None"), (13, 13, VERBAL, "No Response-ETT"), (13, 13, MOTOR, "No response")) == [
        (3, 3, 3)
    ]
    assert coma((13, 13, EYE, "To Pain"), (13, 13, VERBAL, "Confused"), (13, 13, MOTOR, "Localizes Pain")) == [
        (3, 11, 3)
    ]


def test_coma_total_needs_all_parts_at_the_same_time():
    assert coma((13, 13, EYE, "None"), (13, 13, VERBAL, "Oriented")) == []
    assert coma((13, 13, EYE, "None"), (13, 13, VERBAL, "Oriented"), (14, 14, MOTOR, "No response")) == []
    assert coma((13, 13, EYE, "None"), (13, 14, EYE, "None"), (13, 13, VERBAL, "Oriented")) == []


def test_coma_total_takes_the_last_stored_value_of_each_part():
    parts = ((13, 13, VERBAL, "Oriented"), (13, 13, MOTOR, "Obeys Commands"))
    assert coma((13, 15, EYE, "None"), (13, 14, EYE, "Spontaneously"), *parts) == [(3, 12, 5)]
    assert coma((13, 14, EYE, "None"), (13, 15, EYE, "Spontaneously"), *parts) == [(3, 15, 5)]
    assert coma((13, None, EYE, "None"), (13, 13, EYE, "Spontaneously"), *parts) == [(3, 15, 3)]


def test_coma_totals_of_nothing():
    assert coma_totals(pl.DataFrame(schema=EVENT_COLUMNS)).schema == pl.Schema(EVENT_COLUMNS)
    assert in_order(pl.DataFrame(schema=EVENT_COLUMNS)).height == 0


def test_the_order_does_not_depend_on_the_order_of_the_rows():
    data = [(11, 101, h, s, i, v) for h in (13, 12) for s in (14, None, 13) for i in (220045, 220210) for v in (50, 40)]
    forward, backward = (in_order(chart(*rows_)[0]) for rows_ in (data, data[::-1]))
    assert forward.equals(backward) and forward.height == 24


@pytest.mark.parametrize(("urine", "blood"), [(51478, 50931), (51491, 50820), (51094, 50820), (50831, 50820)])
def test_other_fluids_are_read_by_legacy_alone(urine, blood):
    assert urine not in item_ids("lab", "paper") and urine in item_ids("lab", "legacy")
    assert blood in item_ids("lab", "paper") and blood in item_ids("lab", "legacy")
    assert lab((1, 11, 13, 13, urine, 7.0))[0].height == 0
    assert lab((1, 11, 13, 13, urine, 7.0), protocol="legacy")[0].height == 1


def test_the_items_of_both_protocols():
    paper, legacy = set(item_ids("chart", "paper")), set(item_ids("chart", "legacy"))
    assert paper - legacy == {223951, 224308} and not legacy - paper  # capillary refill
    assert set(item_ids("lab", "legacy")) - set(item_ids("lab", "paper")) == {51478, 51491, 50831, 51094}
    assert not set(item_ids("lab", "paper")) - set(item_ids("lab", "legacy"))


def test_the_range_is_closed_at_both_ends_for_every_number():
    for variable in VARIABLES:
        item = next((i for i in variable.items if i.source == "chart"), None)
        if item is None or variable.is_categorical:
            continue
        for bound, outside in ((variable.low, -1e-3), (variable.high, 1e-3)):
            percent = 100 if variable.percent_above < float("inf") else 1
            raw = [(value - item.offset) / item.scale * percent for value in (bound, bound + outside)]
            kept = [chart((11, 101, 13, 13, item.itemid, "", number))[0].height for number in raw]
            assert kept == [1, 0], (variable.name, bound)


def test_a_row_of_a_missing_stay_and_the_text_of_a_number_are_nothing():
    """paper reads the column of numbers; legacy the text."""
    row = (11, 101, 13, 13, 220045, "81", 80.0)
    assert chart(row)[0]["value"].to_list() == [80]
    assert chart(row, protocol="legacy")[0]["value"].to_list() == [81]


# --- protocol legacy


def test_legacy_events_carry_a_rank_until_they_are_sorted():
    events, counts = chart((11, 101, 13, 13.5, 220045, 80), protocol="legacy")
    assert events.schema == pl.Schema(columns_of("legacy")) and counts == {"kept": 1}
    ordered = in_order(events, "legacy")
    assert ordered.schema == pl.Schema(EVENT_COLUMNS)
    assert ordered.rows() == [(101, 3.0, INDEX["Heart Rate"], 80.0, 3.5)]


def last(itemid, *texts):
    """Text of the value that stands last, as the grid takes it, of rows of one time stored in this order."""
    data = [(11, 101, 13, 13 + i / 10, itemid, text) for i, text in enumerate(texts)]
    return in_order(chart(*data, protocol="legacy")[0], "legacy")["value"].to_list()[-1]


def test_legacy_takes_the_greatest_of_one_time_whatever_was_stored_last():
    assert last(220045, "98", "100") == 98  # as text
    assert last(220045, "100", "98", "99") == 99
    assert last(220179, "100", "98") == 100  # as a number
    eye = VARIABLES[INDEX["Glascow coma scale eye opening"]].categories
    assert eye[int(last(220739, "To Speech", "None"))] == "To Speech"
    paper = in_order(chart((11, 101, 13, 13, 220179, "100", 100.0), (11, 101, 13, 14, 220179, "98", 98.0))[0])
    assert paper["value"].to_list()[-1] == 98  # paper: the last stored


def test_legacy_drops_labs_without_an_admission():
    data = [(1, None, 20, 20, 50931, 100), (1, 11, 20, 20, 50931, 101)]
    events, counts = lab(*data, protocol="legacy")
    assert events["value"].to_list() == [101] and counts == {"hadm_id missing": 1, "kept": 1}
    assert sorted(lab(*data)[0]["value"].to_list()) == [100, 101]


def test_legacy_counts_a_row_charted_during_another_stay_in_both():
    two = stays((1, 11, 101, 10, 70, 0, 100), (1, 12, 102, 110, 170, 105, 300), (2, 21, 201, 110, 170, 105, 300))
    data = [(1, 11, 120, 121, 50931, 100), (1, 11, 104, 104, 50931, 101), (2, 21, 20, 20, 50931, 103)]
    events, counts = lab(*data, of=two, protocol="legacy")
    found = sorted((int(v), s, h, stored) for s, h, _, v, stored, _ in events.rows())
    assert found == [(100, 101, 110, 111), (100, 102, 10, 11), (101, 101, 94, 94), (103, 201, -90, -90)]
    assert counts == {"kept": 3}  # rows, not events
    assert lab(*data, of=two)[0].height == 3  # paper: in one


def test_legacy_has_no_total_of_the_coma_scale():
    parts = [(11, 101, 13, 13, i, t) for i, t in ((EYE, "None"), (VERBAL, "Oriented"), (MOTOR, "Obeys Commands"))]
    ordered = in_order(chart(*parts, protocol="legacy")[0], "legacy")
    assert GCS_TOTAL not in ordered["variable"].to_list() and ordered.height == 3
    assert in_order(chart(*parts)[0]).height == 4


def test_legacy_order_does_not_depend_on_the_order_of_the_rows():
    data = [
        (11, 101, h, s, i, v) for h in (13, 12) for s in (14, 14, 14) for i in (220045, 220179) for v in ("9", "40")
    ]
    one, two = (in_order(chart(*r, protocol="legacy")[0], "legacy") for r in (data, data[::-1]))
    assert one.equals(two) and one.height == 24


def test_legacy_of_nothing():
    events = chart(protocol="legacy")[0]
    assert events.schema == pl.Schema(columns_of("legacy")) and in_order(events, "legacy").height == 0
    assert lab(protocol="legacy")[0].schema == pl.Schema(columns_of("legacy"))
