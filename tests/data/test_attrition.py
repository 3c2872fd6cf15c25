"""Counts of what each rule dropped add up, in the file and on the terminal."""

import polars as pl

from fusionctl.data.attrition import Attrition, table_of


def counted():
    attrition = Attrition("chartevents", "rows")
    for values in ([1, 2, None, 4], [5, 60, 7000]):
        frame = pl.DataFrame({"a": values}, schema={"a": pl.Int64})
        attrition.before += frame.height
        frame = attrition.keep("missing", frame, pl.col("a").is_not_null())
        frame = attrition.keep("above 10", frame, pl.col("a") <= 10)
        attrition.drop("nothing", 0)
    return attrition


def test_counts_of_several_frames_add_up_rule_by_rule():
    attrition = counted()
    assert (attrition.before, attrition.kept) == (7, 4)
    assert [(e["rule"], e["before"], e["dropped"], e["kept"]) for e in attrition.rows()] == [
        ("missing", 7, 1, 6),
        ("above 10", 6, 2, 4),
        ("nothing", 4, 0, 4),
    ]
    assert {(e["table"], e["unit"]) for e in attrition.rows()} == {("chartevents", "rows")}
    assert str(attrition) == "chartevents: 7 rows, 4 kept; dropped: missing: 1, above 10: 2"


def test_a_missing_condition_drops_the_row():
    attrition = Attrition("t", "rows")
    attrition.before = 2
    kept = attrition.keep("small", pl.DataFrame({"a": [1, None]}), pl.col("a") < 5)
    assert kept["a"].to_list() == [1] and attrition.kept == 1


def test_the_table_for_the_terminal_shows_what_dropped_something():
    stays = Attrition("icustays", "stays")
    stays.before = 1234
    stays.drop("too young", 0)
    shown = table_of([stays, counted()])
    assert shown["header"] == ["table", "rule", "dropped", "count", "of"]
    assert shown["rows"] == [
        ["icustays", "read", "", "1,234", "stays"],
        ["", "kept", "", "1,234", ""],
        ["chartevents", "read", "", "7", "rows"],
        ["", "missing", "1", "", ""],
        ["", "above 10", "2", "", ""],
        ["", "kept", "", "4", ""],
    ]
    assert all(len(row) == len(shown["header"]) for row in shown["rows"])
    assert table_of([])["rows"] == []
